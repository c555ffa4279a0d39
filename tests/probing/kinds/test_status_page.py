"""Status pages in both formats: what they say of whom, and what is no status page."""

import asyncio
import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import parse_config
from balancer.config.secret import Secret
from balancer.core.announcement import LEVELS, Level
from balancer.probing import probe
from balancer.probing.kinds.status_page import BODY_MAX, STATUS_PAGE

WORDS = (*LEVELS, "full_outage", "weird", None)


def component(name, status="operational", *, id="c", group_id=None, group=False):  # noqa: A002  # the page's own word
    """As Statuspage lists it."""
    return {
        "id": id,
        "name": name,
        "status": status,
        "created_at": "2023-07-11T17:53:10.880Z",
        "updated_at": "2026-09-22T02:11:43.710Z",
        "position": 3,
        "description": None,
        "showcase": True,
        "start_date": "2023-07-11",
        "group_id": group_id,
        "page_id": "tymt9n04zgry",
        "group": group,
        "only_show_if_degraded": False,
    }


def incident(name, *components, status="investigating", created_at="2026-09-23T14:36:33.589Z", impact="minor"):
    """As Statuspage tells it; a maintenance looks the same."""
    update = {
        "id": "7zf4srhynf5v",
        "status": status,
        "body": "We are looking into it.",
        "created_at": created_at,
        "affected_components": [{"code": "c", "name": one, "new_status": "partial_outage"} for one in components],
        "custom_tweet": None,
    }
    return {
        "id": "9m3xhq3tx4c5",
        "name": name,
        "status": status,
        "created_at": created_at,
        "updated_at": "2026-09-25T18:15:34.074Z",
        "monitoring_at": None,
        "resolved_at": None,
        "impact": impact,
        "shortlink": "https://stspg.io/zgbjyn8vtk6w",
        "incident_updates": [update],
        "components": [component(one) for one in components],
        "reminder_intervals": "[24]",
    }


def statuspage(*components, indicator="none", incidents=(), maintenances=()):
    """A summary of Statuspage."""
    return {
        "page": {
            "id": "tymt9n04zgry",
            "name": "Acme",
            "url": "https://status.acme.example",
            "time_zone": "Etc/UTC",
        },
        "components": list(components),
        "incidents": list(incidents),
        "scheduled_maintenances": list(maintenances),
        "status": {"indicator": indicator, "description": "All Systems Go"},
    }


def affected(name, status=None, *, group="APIs", key="current_status"):
    """As incident.io's widget lists it."""
    said = {} if status is None else {key: status}
    return {"id": "01JMXBRMFE6N2NNT7DG6XZQ6PW", "name": name, "group_name": group, **said}


def event(name, *components, status="identified", worst=None, at="2026-09-23T09:40:00Z"):
    """As incident.io's widget tells it."""
    said = {} if worst is None else {"current_worst_impact": worst}
    return {
        "id": "01KXN14DD3EYYJ6PJ9M736WDSV",
        "name": name,
        "status": status,
        "url": "https://status.acme.example/incidents/01KXN14DD3EYYJ6PJ9M736WDSV",
        "last_update_at": at,
        "last_update_message": "We have identified the cause.",
        "affected_components": list(components),
        **said,
    }


def widget(*incidents, maintenances=(), planned=()):
    """A summary of incident.io's widget."""
    return {
        "page_title": "Acme",
        "page_url": "https://status.acme.example/",
        "ongoing_incidents": list(incidents),
        "in_progress_maintenances": list(maintenances),
        "scheduled_maintenances": list(planned),
    }


def lookout(url, *components):
    """The only lookout of a configuration that names this page."""
    tree = {
        "providers": {"a": {"base_url": "https://a.example", "status_page": {"url": url, "timeout": "5s"}}},
        "models": {"x/y": {"endpoints": [{"provider": "a", "model": "m"}]}},
    }
    if components:
        tree["providers"]["a"]["status_page"]["components"] = list(components)
    (found,) = parse_config(json.dumps(tree), source="t.yaml", environ={}).lookouts.values()
    return found


async def read(lab, body, *components, status=200, path="/api/v2/summary.json", secret=None, **headers):
    """Probe a page that answers so."""
    server = await lab.serve(lambda seen: seen.answer(status, body, **headers))
    look = lookout(f"http://127.0.0.1:{server.port}{path}", *components)
    credential = None if secret is None else Secret(secret)
    result = await probe(look.endpoint, look.settings, credential, connections=lab.connections)
    assert result.bug is None
    return result


async def announced(lab, page, *components):
    """What a page that can be read comes to; the outcome says the same."""
    result = await read(lab, page, *components)
    assert (result.outcome.kind, result.outcome.status) == ("success", 200), result.outcome.detail
    level, detail = result.announced
    told = level.replace("_", " ")
    assert result.outcome.detail == (f"{told}: {detail}" if detail else told)
    return level, detail


async def refused(lab, body, *components, **answer):
    """How a page that cannot be read fails; then it announces nothing."""
    result = await read(lab, body, *components, **answer)
    assert result.announced is None
    return result.outcome.kind, result.outcome.detail


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/api/v2/summary.json"),
        ("/", "/api/v2/summary.json"),
        ("?x=1", "/api/v2/summary.json?x=1"),
        ("/api/v1/summary", "/api/v1/summary"),
        ("/proxy/?x=1", "/proxy/?x=1"),
    ],
)
async def test_a_page_is_asked_for_its_summary_and_an_address_for_itself(lab, path, asked):
    server = await lab.serve(lambda seen: seen.answer(200, statuspage()))
    look = lookout(f"http://127.0.0.1:{server.port}{path}")
    result = await probe(look.endpoint, look.settings, Secret("sk-secret"), connections=lab.connections)
    assert (result.kind, result.outcome.kind, result.outcome.shallow) == ("status_page", "success", True)
    assert STATUS_PAGE.paid is False
    (seen,) = server.requests
    assert (seen.method, seen.target, seen.headers["accept"]) == ("GET", asked, "application/json")
    assert "sk-secret" not in str(seen.headers)


INDICATORS = [
    ("none", "operational"),
    ("maintenance", "under_maintenance"),
    ("minor", "degraded_performance"),
    ("major", "partial_outage"),
    ("critical", "major_outage"),
]


@pytest.mark.parametrize(("indicator", "level"), INDICATORS)
async def test_without_names_statuspages_indicator_is_the_level(lab, indicator, level):
    healthy = component("API")
    assert await announced(lab, statuspage(healthy, indicator=indicator)) == (level, "")
    # status.json: nothing but that.
    assert await announced(lab, {"status": {"indicator": indicator, "description": "…"}}) == (level, "")


@pytest.mark.parametrize("level", LEVELS)
async def test_a_named_components_word_is_its_level_whatever_the_page_says_of_itself(lab, level):
    page = statuspage(component("Chat", level), component("API"), indicator="critical")
    assert await announced(lab, page, "Chat") == (level, "" if level == "operational" else "Chat")
    assert await announced(lab, page, "API") == ("operational", "")


@pytest.mark.parametrize("better", LEVELS)
@pytest.mark.parametrize("worse", LEVELS)
async def test_of_several_the_worst_counts(lab, better, worse):
    level = max(better, worse, key=LEVELS.index)
    pages = [
        statuspage(component("A", better), component("B", worse), component("C", "major_outage")),
        {"components": [component("A", better), component("B", worse), component("C", "major_outage")]},
        widget(
            event("one", affected("A", better)), event("two", affected("B", worse), affected("C", "full_outage"))
        ),
    ]
    for page in pages:
        assert (await announced(lab, page, "A", "B"))[0] == level
        assert (await announced(lab, page, "C"))[0] == "major_outage"


def test_the_levels_are_from_good_to_bad():
    assert get_args(Level) == LEVELS
    assert LEVELS[0] == "operational"
    assert LEVELS[-1] == "major_outage"


@pytest.mark.parametrize("name", ["claude api (API.anthropic.com)", "  Claude API (api.anthropic.com) "])
async def test_names_are_compared_without_case_and_space_around_them(lab, name):
    page = statuspage(component(" Claude API (api.anthropic.com)", "partial_outage"), component("claude.ai"))
    assert await announced(lab, page, name) == ("partial_outage", "Claude API (api.anthropic.com)")


async def test_components_of_one_name_are_one(lab):
    page = statuspage(component("Login", id="1"), component("Login", "partial_outage", id="2"))
    assert await announced(lab, page, "Login") == ("partial_outage", "Login")


async def test_a_name_may_be_a_groups_and_stands_for_its_members(lab):
    page = statuspage(
        component("APIs", id="g", group=True),
        component("Chat", "degraded_performance", group_id="g"),
        component("Files", "partial_outage", group_id="g"),
        component("Website", "major_outage"),
        component("Apps", "degraded_performance", id="h", group=True),
    )
    assert await announced(lab, page, "apis") == ("partial_outage", "Files, Chat")
    assert await announced(lab, page, "Apps") == ("degraded_performance", "Apps")
    told = widget(
        event("slow", affected("Chat", "degraded_performance"), affected("Web", "full_outage", group="Apps"))
    )
    assert await announced(lab, told, "APIs") == ("degraded_performance", "Chat: slow")


async def test_a_group_itself_may_be_said_to_be_worse_than_its_members(lab):
    parts = [component("APIs", "major_outage", id="g", group=True), component("Chat", group_id="g")]
    assert await announced(lab, statuspage(*parts), "APIs") == ("major_outage", "APIs")
    parts[1]["status"] = "partial_outage"  # then it is the member that is named
    assert await announced(lab, statuspage(*parts), "APIs") == ("major_outage", "Chat")


async def test_who_is_affected_is_named_the_worst_first_and_only_some(lab):
    parts = [component(name, "degraded_performance") for name in ("A", "B", "C", "D")]
    page = statuspage(*parts, component("E", "major_outage"), component("F"), indicator="minor")
    assert await announced(lab, page) == ("degraded_performance", "E, A, B and 2 more")
    assert await announced(lab, {"components": parts}) == ("degraded_performance", "A, B, C and 1 more")


async def test_the_newest_unresolved_incident_that_concerns_the_worst_is_told(lab):
    page = statuspage(
        component("Chat", "partial_outage"),
        component("Files", "degraded_performance"),
        indicator="major",
        incidents=[
            incident("Files are slow", "Files", created_at="2026-09-23T18:00:00Z"),
            incident("Chat was down", "Chat", status="resolved", created_at="2026-09-23T17:00:00Z"),
            incident("Old errors", "Chat", created_at="2026-09-23T09:00:00Z"),
            incident("Elevated errors", "chat ", "Files", created_at="2026-09-23T16:00:00Z"),
        ],
    )
    assert await announced(lab, page, "Chat", "Files") == ("partial_outage", "Chat, Files: Elevated errors")
    assert await announced(lab, page) == ("partial_outage", "Chat, Files: Elevated errors")
    assert await announced(lab, page, "Files") == ("degraded_performance", "Files: Files are slow")


async def test_an_incident_that_names_no_component_is_the_whole_pages_only(lab):
    page = statuspage(component("Chat", "partial_outage"), indicator="minor", incidents=[incident("Trouble")])
    assert await announced(lab, page) == ("degraded_performance", "Chat: Trouble")
    assert await announced(lab, page, "Chat") == ("partial_outage", "Chat")
    assert await announced(lab, statuspage(indicator="major", incidents=[incident("Trouble")])) == (
        "partial_outage",
        "Trouble",
    )
    told = widget(event("Trouble"))
    assert await announced(lab, told) == ("degraded_performance", "Trouble")
    assert await announced(lab, told, "Chat") == ("operational", "")


async def test_a_maintenance_is_told_while_it_is_under_way(lab):
    page = statuspage(
        component("Chat", "under_maintenance"),
        indicator="maintenance",
        incidents=[incident("Emails are late", "Email")],
        maintenances=[
            incident("Next week", "Chat", status="scheduled", created_at="2026-09-24T00:00:00Z"),
            incident("Database upgrade", "Chat", status="in_progress", created_at="2026-09-20T12:00:00Z"),
        ],
    )
    assert await announced(lab, page) == ("under_maintenance", "Chat: Database upgrade")
    assert await announced(lab, page, "Chat") == ("under_maintenance", "Chat: Database upgrade")
    told = widget(
        maintenances=[event("Upgrade", affected("Chat", "under_maintenance"), affected("Files"))],
        planned=[event("Later", affected("Web", "under_maintenance"))],
    )
    assert await announced(lab, told) == ("under_maintenance", "Chat, Files: Upgrade")
    assert await announced(lab, told, "Web") == ("operational", "")
    assert await announced(lab, widget(maintenances=[event("Upgrade")])) == ("under_maintenance", "Upgrade")


SAID = [  # of a component in an incident whose worst is a partial outage, and the level
    ({"current_status": "full_outage"}, "major_outage"),
    ({"status": "degraded_performance"}, "degraded_performance"),
    ({"status": "full_outage", "current_status": "operational"}, "operational"),
    ({}, "partial_outage"),
    ({"current_status": None}, "partial_outage"),
]


@pytest.mark.parametrize(("said", "level"), SAID)
async def test_the_widgets_components_say_their_level_in_one_of_three_ways(lab, said, level):
    told = widget(event("Errors", affected("Chat") | said, worst="partial_outage"))
    for names in ((), ("Chat",)):
        assert (await announced(lab, told, *names))[0] == level


@pytest.mark.parametrize(
    ("incidents", "level"),
    [
        ([], "operational"),
        ([event("a", worst="full_outage")], "major_outage"),
        ([event("a", worst="operational", status="monitoring")], "operational"),
        ([event("a", affected("Chat"))], "degraded_performance"),
        ([event("a", affected("Chat", "full_outage"), status="resolved")], "operational"),
        ([event("a", affected("Chat", "operational"), status="monitoring")], "operational"),
        ([event("a", affected("Chat", "operational")), event("b")], "degraded_performance"),
    ],
)
async def test_without_names_the_worst_of_what_the_widget_lists_is_the_level(lab, incidents, level):
    assert (await announced(lab, widget(*incidents)))[0] == level


async def test_the_widget_lists_only_what_is_affected_so_a_name_that_it_lacks_is_operational(lab):
    told = widget(event("Images are down", affected("Images", "full_outage")))
    assert await announced(lab, told, "Chat Completions") == ("operational", "")
    assert await announced(lab, told, "images", "Chat Completions") == ("major_outage", "Images: Images are down")


async def test_a_name_that_a_summary_lacks_is_a_mistake_and_those_there_are_told(lab):
    page = statuspage(*(component(f"C{number}", "partial_outage") for number in range(11)))
    assert await refused(lab, page, "C1", "Chat") == (
        "probe_invalid",
        "the status page has no component Chat; it has C0, C1, C2, C3, C4, C5, C6, C7 and 3 more",
    )
    said = "the status page has no component Chat, Files; it has none"
    assert await refused(lab, {"status": {"indicator": "none"}}, "Chat", "Files") == ("probe_invalid", said)


async def test_a_word_that_nobody_knows_is_told_and_not_guessed(lab):
    page = statuspage(component("Chat", "weird"), component("Files", "partial_outage"), indicator="minor")
    assert await announced(lab, page, "Chat", "Files") == ("partial_outage", "Files; unknown status: Chat (weird)")
    assert await announced(lab, page) == ("degraded_performance", "Files; unknown status: Chat (weird)")
    told = widget(event("Errors", affected("Chat", "weird")))
    assert await announced(lab, told, "Chat", "Files") == ("operational", "unknown status: Chat (weird)")
    listed = statuspage(component("Chat", None), component("Files"))
    assert await announced(lab, listed, "Chat", "Files") == ("operational", "unknown status: Chat (None)")


@pytest.mark.parametrize(
    ("page", "names", "said"),
    [
        (statuspage(component("Chat", "weird"), component("Files")), ["Chat"], "unknown status: Chat (weird)"),
        (widget(event("Errors", affected("Chat", "weird"))), [], "unknown status: Chat (weird)"),
        (widget(event("Errors", affected("Chat", "weird"))), ["APIs"], "unknown status: Chat (weird)"),
        (widget(event("Errors", worst="weird")), [], "unknown status: the page (weird)"),
        ({"components": [component(*each) for each in ("Ax", "By", "Ax")]}, [], "unknown status: A (x), B (y)"),
        (statuspage(component("Chat"), indicator="weird"), [], "its indicator is weird"),
    ],
)
async def test_where_only_such_words_are_said_the_page_was_not_read(lab, page, names, said):
    assert await refused(lab, page, *names) == ("malformed", f"the status page is not understood: {said}")


@pytest.mark.parametrize(
    "page",
    [
        {"status": {"indicator": "none"}, "components": None, "incidents": None, "scheduled_maintenances": None},
        {"ongoing_incidents": None, "in_progress_maintenances": None, "scheduled_maintenances": None},
        {"ongoing_incidents": [], "page_url": 7},
        {"components": [{"name": "Chat", "status": "operational", "id": 7, "group_id": 8}]},
        statuspage(incidents=[incident("a") | {"components": None, "created_at": 7}]),
        widget(event("a", affected("b", "operational"), at=None)),
    ],
)
async def test_what_is_empty_absent_or_of_no_interest_does_not_make_a_page_unreadable(lab, page):
    assert await announced(lab, page) == ("operational", "")


NO_PAGES = [
    (b"", "not JSON"),
    (b"<!doctype html><title>Acme Status</title>", "not JSON"),
    (b'{"status": {"indicator": "none"}', "not JSON"),
    (b'{"status": {"indicator": "\xff\xfe"}}', "not JSON"),
    (b'{"components": [{"name": "\xff", "status": "operational"}]}', "not JSON"),
    (b"[" * 99_999, "Expected `object`"),
    (b'{"status": {"indicator": "none"}, "x": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "not JSON"),
    ({}, "in no known format: it has no status, no components and no ongoing_incidents"),
    ([], "in no known format: Expected `object`, got `array`"),
    ("null", "in no known format: Expected `object`, got `null`"),
    ({"components": []}, "in no known format"),
    ({"page": {"name": "Acme", "status": "UP"}, "activeIncidents": []}, "in no known format"),
    ({"status": "ok"}, "in no known format: Expected `object | null`, got `str` - at `$.status`"),
    ({"status": {"indicator": 1}}, "in no known format: Expected `str`, got `int` - at `$.status.indicator`"),
    ({"status": {}}, "missing required field `indicator`"),
    ({"components": [{"status": "operational"}]}, "missing required field `name` - at `$.components["),
    ({"components": ["Chat"]}, "at `$.components["),
    ({"ongoing_incidents": {"a": 1}}, "at `$.ongoing_incidents`"),
    ({"ongoing_incidents": [{"affected_components": [], "status": "identified"}]}, "missing required field `name`"),
]


@pytest.mark.parametrize(("body", "said"), NO_PAGES)
async def test_what_is_no_status_page_is_malformed(lab, body, said):
    for names in ((), ("Chat",)):
        kind, detail = await refused(lab, body, *names)
        assert kind == "malformed"
        assert detail.startswith("the status page is ")
        assert said in detail


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (204, "malformed", "not JSON"),
        (302, "server_error", "302 Because: not followed: https://status.new.example/"),
        (403, "refused", "403 Because: who are you?"),
        (
            404,
            "probe_invalid",
            "404 Because: who are you?; no status page there, give the whole address of its JSON",
        ),
        (405, "refused", "405 Because"),
        (410, "probe_invalid", "no status page there"),
        (429, "rate_limited", "429 Because"),
        (503, "overloaded", "503 Because"),
    ],
)
async def test_another_status_is_what_it_is_elsewhere(lab, status, kind, said):
    body = b"" if status == 204 else b"who are you?"
    found, detail = await refused(lab, body, status=status, location="https://status.new.example/")
    assert found == kind
    assert said in detail


async def test_a_page_that_is_too_large_is_not_read(lab):
    page = statuspage(component("Chat")) | {"more": "x" * BODY_MAX}
    said = f"the status page is larger than what is read of one ({BODY_MAX} bytes)"
    assert await refused(lab, page, "Chat") == ("probe_invalid", said)
    page["more"] = "x" * (BODY_MAX - 2000)
    assert await announced(lab, page, "Chat") == ("operational", "")


async def test_a_page_that_ends_early_announces_nothing(lab):
    async def talk(seen):
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + json.dumps(statuspage()).encode())
        seen.writer.close()

    server = await lab.serve(talk)
    look = lookout(f"http://127.0.0.1:{server.port}")
    result = await probe(look.endpoint, look.settings, None, connections=lab.connections)
    assert (result.outcome.kind, result.announced, result.bug) == ("stream", None, None)


async def test_what_is_announced_is_short_printable_and_without_a_secret(lab):
    name = "Chat\n\x00sk-secret" + "y" * 100_000
    incidents = [incident("Errors\r\nsk-secret " + "z" * 100_000, name)]
    page = statuspage(component(name, "major_outage"), component("B" * 900, "w" * 900), incidents=incidents)
    result = await read(lab, page, "B" * 200, secret="sk-secret")
    assert (result.outcome.kind, result.announced) == ("probe_invalid", None)
    assert len(result.outcome.detail) < 400
    assert "sk-secret" not in repr(result)
    page["status"]["indicator"] = "critical"
    result = await read(lab, page, secret="sk-secret")
    level, detail = result.announced
    assert level == "major_outage"
    assert detail.startswith("Chat ?***yyy")
    assert ": Errors *** zzz" in detail
    assert "unknown status: BBB" in detail
    assert len(detail) <= 300
    assert detail.isprintable()
    assert "sk-secret" not in repr(result)
    page = statuspage(
        component("x" * 56 + "sk-secret", "major_outage"), incidents=[incident("y" * 96 + "sk-secret")]
    )
    page["status"]["indicator"] = "critical"
    assert "sk-" not in repr(await read(lab, page, secret="sk-secret"))


NAMES = st.sampled_from(["Chat", "chat", "Files", "APIs", ""])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def often(usual):
    """What belongs there, and now and then anything else."""
    return st.integers(0, 29).flatmap(lambda number: ANYTHING if number == 29 else usual)


COMPONENTS = often(
    st.fixed_dictionaries(
        {"name": often(NAMES)},
        optional={key: often(st.sampled_from(WORDS)) for key in ("status", "current_status")}
        | {"id": often(NAMES), "group": often(st.booleans()), "group_id": often(NAMES), "group_name": often(NAMES)},
    )
)
EVENTS = often(
    st.fixed_dictionaries(
        {"name": often(st.text(max_size=9))},
        optional={
            "status": often(st.sampled_from(["investigating", "resolved", "in_progress", "scheduled"])),
            "components": often(st.lists(COMPONENTS, max_size=2)),
            "affected_components": often(st.lists(COMPONENTS, max_size=2)),
            "current_worst_impact": often(st.sampled_from(WORDS)),
            "created_at": ANYTHING,
            "last_update_at": ANYTHING,
        },
    )
)
EVENT_LISTS = often(st.lists(EVENTS, max_size=2))
STATUS = often(st.fixed_dictionaries({"indicator": often(st.sampled_from([*dict(INDICATORS), "weird"]))}))
DOCUMENTS = st.one_of(
    ANYTHING,
    st.fixed_dictionaries(
        {"status": STATUS, "components": often(st.lists(COMPONENTS, max_size=3))},
        optional={"incidents": EVENT_LISTS, "scheduled_maintenances": EVENT_LISTS},
    ),
    st.fixed_dictionaries(
        {"ongoing_incidents": EVENT_LISTS, "in_progress_maintenances": EVENT_LISTS}, optional={"status": STATUS}
    ),
)


def test_any_answer_is_a_page_or_is_told_not_to_be_one(laboratory):
    pages, kinds = [b""], set()
    with asyncio.Runner() as runner:
        lab = laboratory()
        server = runner.run(lab.serve(lambda seen: seen.answer(200, pages[-1])))
        url = f"http://127.0.0.1:{server.port}"

        @settings(max_examples=300, deadline=None)
        @given(
            body=DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=20),
            names=st.lists(st.sampled_from(["Chat", "Files", " apis "]), max_size=2),
        )
        def hold(body, names):
            pages[:] = [body]
            look = lookout(url, *names)
            result = runner.run(probe(look.endpoint, look.settings, None, connections=lab.connections))
            kind = result.outcome.kind
            kinds.add(kind)
            assert result.bug is None
            assert (result.announced is not None) is (kind == "success")
            assert result.announced is None or result.announced[0] in LEVELS

        try:
            hold()
        finally:
            runner.run(lab.close())
    assert kinds == {"success", "malformed", "probe_invalid"}
