"""Reports over HTTP: each class moves exactly its counters, and a bad one never loses the good."""

import json
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import pytest

from balancer.core.outcome import COUNTS, ERROR_WORDS, classify
from balancer.http.complaints import LINES_MAX
from balancer.http.reports import BATCH_MAX, SEEN_MAX, UNUSED, Report, outcome

MODEL = "openai/gpt-4.1"
EAST = "openai/gpt-4.1@azure/eastus2"
OPENAI = "openai/gpt-4.1@openai"
LLAMA = "meta/llama-3.3@local"
GOOD = {"endpoint": EAST, "status": 200}
NDJSON = {"Content-Type": "application/x-ndjson"}

# Every status that the contract names, and the edges between them.
STATUSES = (
    100, 101, 199, 200, 201, 204, 299, 300, 304, 399, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411,
    412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 498, 499, 500, 501, 502,
    503, 504, 520, 524, 529, 530, 598, 599,
)  # fmt: skip


async def post(
    client: aiohttp.ClientSession, world: Any, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(f"{world.url}/v1/reports", data=data, headers=headers) as response:
        return response.status, await response.json()


async def look(client: aiohttp.ClientSession, world: Any, key: str) -> Any:
    async with client.get(f"{world.url}/v1/endpoint?id={key}") as response:
        assert response.status == 200
        return await response.json()


def tally(recorded: int = 0, duplicate: int = 0, stale: int = 0, rejected: Any = ()) -> dict[str, Any]:
    return {"recorded": recorded, "duplicate": duplicate, "stale": stale, "rejected": list(rejected)}


@pytest.mark.parametrize(
    "facts",
    [
        *({"status": status} for status in STATUSES),
        *({"error": word} for word in ERROR_WORDS),
        {"status": 200, "finish_reason": "error"},
        {"status": 200, "finish_reason": "content_filter"},
        {"status": 200, "finish_reason": "stop", "completion_tokens": 0},
        {"status": 200, "completion_tokens": 0},
        {"status": 503, "retry_after": 7},
        {"status": 429, "ratelimit": {"remaining_requests": 0, "remaining_tokens": 5, "reset": 9.5}},
        {"status": 429, "ratelimit": {"scope": "endpoint"}},
    ],
    ids=lambda facts: "-".join(str(each) for each in facts.values() if not isinstance(each, dict)),
)
async def test_a_report_of_every_class_moves_exactly_its_counters(
    world: Any, client: aiohttp.ClientSession, facts: dict[str, Any]
) -> None:
    kind = classify(**{name: facts.get(name) for name in ("status", "error", "finish_reason", "completion_tokens")})
    counts = COUNTS[kind]
    before, other = await look(client, world, EAST), await look(client, world, OPENAI)
    assert before["outcomes"] == {"probe": {}, "report": {}}

    status, answer = await post(client, world, {"endpoint": EAST, **facts})
    assert (status, answer) == (200, tally(recorded=1))

    after = await look(client, world, EAST)
    assert after["outcomes"] == {"probe": {}, "report": {kind: 1}}
    moved = {name: int(name == counts) for name in ("success", "failure", "rate_limited")}
    assert after["windows"]["report"] == dict.fromkeys(("30s", "5m", "30m", "1d"), moved)
    assert after["windows"]["probe"] == before["windows"]["probe"]
    outcomes = int(counts in ("success", "failure"))
    assert after["window_outcomes"]["report"] == dict.fromkeys(("30s", "5m", "30m", "1d"), outcomes)
    ratio = None if not outcomes else float(counts == "failure")
    assert set(after["error_ratio"]["report"].values()) == {ratio}
    limited = None if counts == "none" else float(counts == "rate_limited")
    assert set(after["rate_limited_ratio"]["report"].values()) == {limited}
    assert len(after["failures"]) == int(counts in ("failure", "rate_limited"))
    assert (after["success_estimate"] < before["success_estimate"]) is (counts in ("failure", "rate_limited"))
    assert (after["success_estimate"] > before["success_estimate"]) is (counts == "success")
    holds = kind == "rate_limited" or (kind == "overloaded" and "retry_after" in facts)
    assert ("throttled" in after["states"]) is holds
    assert after["ejections"] == {}
    # Nothing of it reached the neighbour, but through the common prior of the model.
    still = await look(client, world, OPENAI)
    for name in ("outcomes", "windows", "states", "failures", "selections", "evidence_age"):
        assert still[name] == other[name]


async def test_a_report_tells_its_times_and_its_failure(world: Any, client: aiohttp.ClientSession) -> None:
    await post(client, world, {"endpoint": EAST, "status": 200, "latency": 2.0, "ttft": 0.5, "age": 1})
    await post(client, world, {"endpoint": EAST, "status": 200, "finish_reason": "error", "latency": 9.0, "age": 3})
    seen = await look(client, world, EAST)
    assert seen["latency"]["p50"] == pytest.approx(2.0, rel=0.02)
    assert seen["ttft"]["p99"] == pytest.approx(0.5, rel=0.02)
    assert seen["failures"] == [
        {"age": 3.0, "source": "report", "outcome": "server_error", "status": 200, "detail": "finish_reason error"}
    ]
    assert (seen["evidence_age"], seen["report_age"]) == (1.0, 1.0)


async def test_what_a_report_does_not_say_is_not_invented(world: Any, client: aiohttp.ClientSession) -> None:
    await post(client, world, GOOD)
    seen = await look(client, world, EAST)
    assert seen["latency"] == seen["ttft"] == {"p50": None, "p75": None, "p90": None, "p99": None}


@pytest.mark.parametrize(
    ("facts", "wait"),
    [
        ({"retry_after": 20}, 20.0),
        ({"retry_after": 20, "ratelimit": {"reset": 40}}, 20.0),
        ({"ratelimit": {"reset": 40}}, 40.0),
        ({"retry_after": 1e300}, 300.0),
        ({"retry_after": "20"}, 20.0),
        ({"retry_after": "1m30s"}, 90.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:17:40 GMT"}, 60.0),
        ({"ratelimit": {"reset": "2027-01-15T08:17:10.5Z"}}, 30.5),
        ({"ratelimit": {"reset": 1_800_001_040_000}}, 40.0),
        ({"retry_after": 20, "age": 5}, 15.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:17:40 GMT", "age": 5}, 60.0),  # a moment is one whenever it is told
    ],
)
async def test_a_429_holds_for_as_long_as_the_provider_said(
    world: Any, client: aiohttp.ClientSession, facts: dict[str, Any], wait: float
) -> None:
    await post(client, world, {"endpoint": EAST, "status": 429, **facts})
    seen = await look(client, world, EAST)
    assert (seen["state"], seen["next"], seen["next_in"]) == ("throttled", "hold ends", pytest.approx(wait))


@pytest.mark.parametrize(
    ("told", "hold"),
    [
        ({"reset": 40}, None),
        ({"reset": 40, "remaining_requests": 1}, None),
        ({"reset": 40, "remaining_requests": 1, "remaining_tokens": 1}, None),
        ({"remaining_requests": 0}, None),
        ({"reset": 40, "remaining_requests": 0}, 40.0),
        ({"reset": 40, "remaining_requests": 7, "remaining_tokens": 0}, 40.0),
        ({"reset": 0, "remaining_requests": 0}, 1.0),
        ({"reset": 1_800_001_040, "remaining_requests": 0}, 40.0),
        ({"reset": "6m0s", "remaining_tokens": 0}, 300.0),
    ],
)
async def test_a_success_holds_only_if_nothing_of_the_quota_is_left(
    world: Any, client: aiohttp.ClientSession, told: dict[str, Any], hold: float | None
) -> None:
    await post(client, world, {**GOOD, "retry_after": 7, "ratelimit": told})
    seen = await look(client, world, EAST)
    assert (seen["state"], seen["next_in"]) == (("healthy", None) if hold is None else ("throttled", hold))
    assert (seen["outcomes"]["report"], seen["error_ratio"]["report"]["30s"]) == ({"success": 1}, 0.0)


@pytest.mark.parametrize(
    ("facts", "held"),
    [
        ({"status": 429}, True),
        ({"status": 429, "retry_after": 20}, True),
        ({"status": 402, "retry_after": 20}, True),
        ({"status": 503, "retry_after": 20}, True),
        ({"status": 402}, False),
        ({"status": 503}, False),
        ({"status": 500, "retry_after": 20}, False),
        ({"status": 400, "retry_after": 20}, False),
        ({"status": 200}, False),
    ],
)
async def test_what_is_said_of_the_account_holds_all_that_share_it(
    world: Any, client: aiohttp.ClientSession, facts: dict[str, Any], held: bool
) -> None:
    endpoints = {key: replace(each, quota="shared") for key, each in world.config.endpoints.items() if key != LLAMA}
    shared = replace(world.config, endpoints={**world.config.endpoints, **endpoints})
    world.balancer.apply(shared, now=world.now)
    await post(client, world, {"endpoint": EAST, **facts, "ratelimit": {"scope": "account"}})
    throttled = [key for key in (EAST, OPENAI, LLAMA) if "throttled" in (await look(client, world, key))["states"]]
    assert throttled == ([EAST, OPENAI] if held else [])
    for key in (OPENAI, LLAMA):  # a hold is not a failure
        assert (await look(client, world, key))["outcomes"]["report"] == {}


async def test_what_is_said_of_the_endpoint_holds_it_alone(world: Any, client: aiohttp.ClientSession) -> None:
    endpoints = {key: replace(each, quota="shared") for key, each in world.config.endpoints.items()}
    world.balancer.apply(replace(world.config, endpoints=endpoints), now=world.now)
    await post(client, world, {"endpoint": EAST, "status": 429})
    await post(client, world, {"endpoint": EAST, "status": 429, "ratelimit": {"scope": "endpoint", "reset": 40}})
    states = [(await look(client, world, key))["state"] for key in (EAST, OPENAI, LLAMA)]
    assert states == ["throttled", "unverified", "unverified"]


async def test_the_decision_of_a_trial_decides_it(world: Any, client: aiohttp.ClientSession) -> None:
    world.eject(EAST)
    world.now += 60.0
    async with client.get(f"{world.url}/v1/best-provider?model={MODEL}") as response:
        decision = await response.json()
    assert decision["trial"] is True
    await post(client, world, GOOD)
    assert (await look(client, world, EAST))["state"] == "half_open"
    await post(client, world, {**GOOD, "decision": decision["id"]})
    assert (await look(client, world, EAST))["state"] == "recovering"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps({"reports": [GOOD, GOOD]}).encode(), None),
        (b"\n".join([json.dumps(GOOD).encode()] * 2), NDJSON),
        (b"\n\n".join([json.dumps(GOOD).encode()] * 2) + b"\r\n", None),
        (b"\n".join([json.dumps(GOOD).encode()] * 2), {"Content-Type": "application/json"}),
    ],
)
async def test_many_reports_come_as_a_batch_or_as_lines(
    world: Any, client: aiohttp.ClientSession, body: bytes, headers: dict[str, str] | None
) -> None:
    assert await post(client, world, body, headers) == (200, tally(recorded=2))
    assert world.reported == {"recorded": 2}
    assert world.changes == 1


async def test_one_report_may_be_written_over_several_lines(world: Any, client: aiohttp.ClientSession) -> None:
    assert await post(client, world, json.dumps(GOOD, indent=2).encode()) == (200, tally(recorded=1))


async def test_a_batch_may_be_empty(world: Any, client: aiohttp.ClientSession) -> None:
    assert await post(client, world, {"reports": []}) == (200, tally())


async def test_a_retry_counts_once(world: Any, client: aiohttp.ClientSession) -> None:
    report = {**GOOD, "id": "r1"}
    assert await post(client, world, report) == (200, tally(recorded=1))
    assert await post(client, world, {"reports": [report, {**GOOD, "id": "r2"}]}) == (
        200,
        tally(recorded=1, duplicate=1),
    )
    assert (await look(client, world, EAST))["outcomes"]["report"] == {"success": 2}
    assert world.reported == {"recorded": 2, "duplicate": 1}


async def test_two_tries_of_one_request_may_share_an_id(world: Any, client: aiohttp.ClientSession) -> None:
    reports = [{"endpoint": EAST, "status": 500, "id": "r1"}, {"endpoint": OPENAI, "status": 200, "id": "r1"}]
    assert await post(client, world, {"reports": reports}) == (200, tally(recorded=2))


async def test_a_rejected_report_may_be_sent_again_with_the_same_id(
    world: Any, client: aiohttp.ClientSession
) -> None:
    assert (await post(client, world, {"endpoint": EAST, "id": "r1"}))[0] == 422
    assert await post(client, world, {**GOOD, "id": "r1"}) == (200, tally(recorded=1))


async def test_ids_are_forgotten_oldest_first(world: Any, client: aiohttp.ClientSession) -> None:
    for start in range(0, SEEN_MAX + 1, BATCH_MAX):
        ids = range(start, min(start + BATCH_MAX, SEEN_MAX + 1))
        await post(client, world, {"reports": [{**GOOD, "id": str(number)} for number in ids]})
    again = {"reports": [{**GOOD, "id": str(SEEN_MAX)}, {**GOOD, "id": "0"}]}
    assert await post(client, world, again) == (200, tally(recorded=1, duplicate=1))


async def test_a_report_older_than_the_longest_window_is_stale(world: Any, client: aiohttp.ClientSession) -> None:
    for age in (86_400, 1e300):
        assert await post(client, world, {**GOOD, "age": age}) == (200, tally(stale=1))
    assert (await look(client, world, EAST))["outcomes"]["report"] == {}


async def test_a_report_of_an_endpoint_that_a_reload_removed_is_stale(
    world: Any, client: aiohttp.ClientSession
) -> None:
    gone = replace(world.config.models[MODEL], endpoints=(OPENAI,))
    endpoints = {key: each for key, each in world.config.endpoints.items() if key != EAST}
    models = {**world.config.models, MODEL: gone}
    world.balancer.apply(replace(world.config, models=models, endpoints=endpoints), now=world.now)
    assert await post(client, world, GOOD) == (200, tally(stale=1))


async def test_one_bad_report_never_loses_the_good_ones(world: Any, client: aiohttp.ClientSession) -> None:
    batch = [GOOD, {**GOOD, "status": 99}, "no object", GOOD, {"endpoint": "nobody@x", "status": 200}, GOOD]
    status, answer = await post(client, world, {"reports": batch})
    assert status == 200
    assert answer == tally(
        recorded=3,
        rejected=[
            {"index": 1, "reason": "status: expected int >= 100"},
            {"index": 2, "reason": "expected object, got str"},
            {"index": 4, "reason": "unknown endpoint nobody@x"},
        ],
    )
    assert (await look(client, world, EAST))["outcomes"]["report"] == {"success": 3}
    assert world.reported == {"recorded": 3, "rejected": 3}
    assert world.lines.lines == [
        (
            "warning",
            "report.refused",
            {"token": None, "rejected": 3, "index": 1, "reason": "status: expected int >= 100"},
        )
    ]


async def test_one_bad_line_never_loses_the_good_ones(world: Any, client: aiohttp.ClientSession) -> None:
    good = json.dumps(GOOD).encode()
    body = b"\n".join([good, b'{"endpoint": ', b"\xff", b"[" * 100_000, b"", good])
    status, answer = await post(client, world, body, NDJSON)
    assert (status, answer["recorded"]) == (200, 2)
    assert [each["index"] for each in answer["rejected"]] == [1, 2, 3]
    assert all(
        each["reason"].startswith("malformed JSON") or "expected" in each["reason"] for each in answer["rejected"]
    )


async def test_a_proxy_that_is_wrong_all_day_fills_no_log(world: Any, client: aiohttp.ClientSession) -> None:
    for _ in range(LINES_MAX + 5):
        assert (await post(client, world, {"endpoint": EAST}))[0] == 422
    assert world.lines.events == ["report.refused"] * LINES_MAX


async def test_a_body_of_only_rejected_reports_is_422_with_the_tally(
    world: Any, client: aiohttp.ClientSession
) -> None:
    status, answer = await post(client, world, {"reports": [{"endpoint": EAST}, {"status": 200}]})
    assert status == answer["error"]["code"] == 422
    assert answer["error"]["message"].startswith("all 2 reports were rejected: found neither of status and error")
    assert answer["error"]["metadata"] == {
        "error_type": "unprocessable",
        "recorded": 0,
        "duplicate": 0,
        "stale": 0,
        "rejected": [
            {"index": 0, "reason": "found neither of status and error; exactly one is needed"},
            {"index": 1, "reason": "object missing required field endpoint"},
        ],
    }


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (
            {"endpoint": EAST, "status": 200, "error": "timeout"},
            "found both of status and error; exactly one is needed",
        ),
        ({"endpoint": EAST, "status": 600}, "status: expected int <= 599"),
        ({"endpoint": EAST, "status": -1}, "status: expected int >= 100"),
        ({"endpoint": EAST, "status": "200"}, "status: expected int | null, got str"),
        ({"endpoint": EAST, "status": True}, "status: expected int | null, got bool"),
        ({"endpoint": EAST, "status": 200.5}, "status: expected int | null, got float"),
        ({"endpoint": EAST, "error": "tiemout"}, "error: tiemout is not an error word; did you mean timeout?"),
        ({"endpoint": EAST, "error": "boom"}, "error: boom is not an error word; allowed: timeout, connect, tls, "),
        ({**GOOD, "latency": -0.1}, "latency: expected float >= 0.0"),
        ({**GOOD, "latency": 86_401}, "latency: expected float <= 86400.0"),
        ({**GOOD, "latency": "1s"}, "latency: expected float | null, got str"),
        ({**GOOD, "ttft": -1}, "ttft: expected float >= 0.0"),
        ({**GOOD, "age": -1}, "age: expected float >= 0.0"),
        ({**GOOD, "retry_after": -1}, "retry_after: expected float >= 0.0"),
        ({**GOOD, "retry_after": True}, "retry_after: expected float | str | null, got bool"),
        (
            {**GOOD, "retry_after": "soon"},
            "retry_after: soon is no wait; use seconds, 1m30s, an HTTP date or an RFC 3339 moment",
        ),
        ({**GOOD, "retry_after": ""}, 'retry_after: "" is no wait; use seconds'),
        ({**GOOD, "retry_after": "x" * 101}, "retry_after: expected str of length <= 100"),
        ({**GOOD, "ratelimit": {"reset": "-3s"}}, "ratelimit.reset: -3s is no wait; use seconds, 1m30s, an HTTP"),
        ({**GOOD, "prompt_tokens": -1}, "prompt_tokens: expected int >= 0"),
        ({**GOOD, "completion_tokens": 1.5}, "completion_tokens: expected int | null, got float"),
        ({**GOOD, "id": "x" * 201}, "id: expected str of length <= 200"),
        ({**GOOD, "id": ""}, "id: expected str of length >= 1"),
        ({**GOOD, "decision": "x" * 201}, "decision: expected str of length <= 200"),
        ({**GOOD, "endpoint": 5}, "endpoint: expected str, got int"),
        ({**GOOD, "endpoint": "a\nb@c"}, 'unknown endpoint "a\\nb@c"'),
        ({**GOOD, "ratelimit": {"reset": -1}}, "ratelimit.reset: expected float >= 0.0"),
        ({**GOOD, "ratelimit": {"resets": 1}}, "ratelimit.resets: unknown field; did you mean reset?"),
        (
            {**GOOD, "ratelimit": {"scope": "acount"}},
            "ratelimit.scope: acount is not a scope; did you mean acc",
        ),
        ({**GOOD, "ratelimit": {"scope": 1}}, "ratelimit.scope: expected str | null, got int"),
        ({**GOOD, "latancy": 1}, "latancy: unknown field; did you mean latency?"),
        ({**GOOD, "stream": "yes"}, "stream: expected bool | null, got str"),
        ({}, "object missing required field endpoint"),
    ],
)
async def test_a_wrong_report_is_rejected_with_the_reason_and_moves_nothing(
    world: Any, client: aiohttp.ClientSession, report: Any, reason: str
) -> None:
    before = await look(client, world, EAST)
    status, answer = await post(client, world, report)
    assert status == 422
    (rejected,) = answer["error"]["metadata"]["rejected"]
    assert rejected["index"] == 0
    assert rejected["reason"].startswith(reason)
    assert await look(client, world, EAST) == before
    assert world.lines.events == ["report.refused"]


@pytest.mark.parametrize(
    "text",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, '"' + "a" * 5000 + '"', "[" * 100_000],
)
async def test_numbers_that_are_none_are_refused(world: Any, client: aiohttp.ClientSession, text: str) -> None:
    body = f'{{"endpoint": "{EAST}", "status": 200, "latency": {text}}}'.encode()
    status, answer = await post(client, world, body)
    assert status in (400, 422)
    assert answer["error"]["code"] == status
    assert (await look(client, world, EAST))["outcomes"]["report"] == {}
    assert len(world.lines.lines) <= 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b" \n \n", "the body is empty"),
        (b"hello", "malformed JSON"),
        (b'{"endpoint": "a", "status": 2', "malformed JSON"),
        (b"[]", "expected object, got array"),
        (b"5", "expected object, got int"),
        (b'{"reports": 5}', "reports: expected array, got int"),
        (b'{"reports": [{"endpoint": "a"}', "malformed JSON"),
        (b'{"reports": ' + b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b'{"x": ' + b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b'{"reports": [\xff\xfe]}', "malformed JSON"),
        (b"hello\n" + json.dumps(GOOD).encode(), "malformed JSON"),
    ],
)
async def test_a_body_that_is_no_reports_is_400_and_records_nothing(
    world: Any, client: aiohttp.ClientSession, body: bytes, message: str
) -> None:
    status, answer = await post(client, world, body)
    assert status == answer["error"]["code"] == 400
    assert message in answer["error"]["message"]
    assert world.reported == {}
    assert world.lines.lines == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"reports": [' + b"0," * BATCH_MAX + b"0]}", None),
        (b'{"reports": [' + b"0," * 2_000_000 + b"0]}", None),
        (b"0\n" * (BATCH_MAX + 1), NDJSON),
        (b"\n" * 2_000_000 + b"0", NDJSON),
    ],
)
async def test_more_than_ten_thousand_reports_are_413(
    world: Any, raw: Any, body: bytes, headers: dict[str, str] | None
) -> None:
    kind = "application/json" if headers is None else "application/x-ndjson"
    head = f"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    answer = await raw(world.port, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["metadata"]["reports_max"] == BATCH_MAX
    assert world.reported == {}


async def test_ten_thousand_reports_are_taken_and_others_are_served_meanwhile(
    world: Any, client: aiohttp.ClientSession
) -> None:
    body = {"reports": [GOOD] * BATCH_MAX}
    assert await post(client, world, body) == (200, tally(recorded=BATCH_MAX))
    assert (await look(client, world, EAST))["outcomes"]["report"] == {"success": BATCH_MAX}


async def test_ten_thousand_rejections_are_all_told(world: Any, client: aiohttp.ClientSession) -> None:
    body = {"reports": [{"endpoint": "x" * 20, "status": 200}] * BATCH_MAX}
    status, answer = await post(client, world, body)
    assert status == 422
    assert len(answer["error"]["metadata"]["rejected"]) == BATCH_MAX
    assert world.lines.events == ["report.refused"]


async def test_fields_of_other_versions_are_accepted(world: Any, client: aiohttp.ClientSession) -> None:
    report = {**GOOD, "stream": True, "app": {"referer": "https://app.test", "title": "App"}}
    assert set(UNUSED) < set(report)
    assert await post(client, world, report) == (200, tally(recorded=1))


@pytest.mark.parametrize(
    ("facts", "errors"),
    [
        ({}, None),
        ({"finish_reason": "stop"}, None),
        ({"finish_reason": "stop", "tool_call_errors": 0}, None),
        ({"finish_reason": "stop", "tool_call_errors": 2}, 2),
        ({"finish_reason": "tool_calls"}, 0),
        ({"finish_reason": "tool_calls", "tool_call_errors": None}, 0),
        ({"finish_reason": "tool_calls", "tool_call_errors": False}, 0),
        ({"finish_reason": "tool_calls", "tool_call_errors": True}, 1),
        ({"finish_reason": "tool_calls", "tool_call_errors": 3}, 3),
        ({"tool_call_errors": 0}, 0),
        ({"tool_call_errors": True}, 1),
    ],
)
def test_broken_tool_calls_are_counted_where_tools_were_called(facts: dict[str, Any], errors: int | None) -> None:
    report = msgspec.convert({**GOOD, **facts}, Report)
    assert outcome(report, wall=0.0).tool_call_errors == errors


def test_tokens_of_a_report_reach_the_core() -> None:
    told = {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 64}
    found = outcome(msgspec.convert({**GOOD, **told}, Report), wall=0.0)
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (100, 20, 64)


@pytest.mark.parametrize(("session", "taken"), [("s" * 256, True), ("", True), (None, True), ("s" * 257, False)])
async def test_a_report_may_name_its_session(
    world: Any, client: aiohttp.ClientSession, session: str | None, taken: bool
) -> None:
    status, _ = await post(client, world, {**GOOD, "session_id": session})
    assert (status == 200) is taken


async def test_every_field_may_be_null_but_the_endpoint(world: Any, client: aiohttp.ClientSession) -> None:
    nothing = dict.fromkeys(Report.__struct_fields__)
    assert await post(client, world, {**nothing, **GOOD}) == (200, tally(recorded=1))


@pytest.mark.parametrize("beside", [{"endpoint": "a/b@c", "status": 500}, {"status": 500}, {"x": 1}])
async def test_nothing_may_stand_beside_a_list_of_reports(
    world: Any, client: aiohttp.ClientSession, beside: dict[str, Any]
) -> None:
    async with client.post(f"{world.url}/v1/reports", json={"reports": [], **beside}) as response:
        assert response.status == 400
        assert "beside reports" in (await response.json())["error"]["message"]
    assert world.reported == {}


# ---- who reports -------------------------------------------------------------------------------------


async def test_reports_are_counted_by_the_name_of_their_token(guarded: Any, client: aiohttp.ClientSession) -> None:
    for name, times in (("proxy", 2), ("ops", 1)):
        for _ in range(times):
            headers = {"Authorization": f"Bearer token-of-{name}"}
            assert (await post(client, guarded, GOOD, headers))[0] == 200
    guarded.now += 30.0
    told = [(each.name, each.reports, each.silence) for each in guarded.balancer.reporters(guarded.now)]
    assert told == [("proxy", 2, 30.0), ("ops", 1, 30.0)]


async def test_without_tokens_all_reports_are_anonymous(world: Any, client: aiohttp.ClientSession) -> None:
    await post(client, world, {"reports": [GOOD] * 3})
    await post(client, world, {**GOOD, "id": "twice"})
    await post(client, world, {**GOOD, "id": "twice"})
    await post(client, world, {"endpoint": "nobody@home", "status": 200})
    assert [(each.name, each.reports) for each in world.balancer.reporters(world.now)] == [("anonymous", 4)]


async def test_what_a_suspect_reports_is_recorded_and_believed_by_nobody(
    guarded: Any, client: aiohttp.ClientSession
) -> None:
    broken = {"Authorization": "Bearer token-of-reporter"}
    for place in (EAST, OPENAI, LLAMA, EAST, OPENAI, LLAMA, EAST):
        answer = await post(client, guarded, {"endpoint": place, "error": "connect"}, broken)
        assert answer == (200, tally(recorded=1))
    for place in (EAST, OPENAI, LLAMA):
        view = guarded.balancer.endpoint(place, now=guarded.now)
        assert (view.windows["report"]["5m"].failure, view.state) == (0, "unverified")
    view = guarded.balancer.endpoint(EAST, now=guarded.now)
    assert view.outcomes == {("report", "connect"): 3}
    (reporter,) = guarded.balancer.reporters(guarded.now)
    assert (reporter.name, reporter.suspicion is not None) == ("reporter", True)


async def test_each_report_that_counts_is_handed_on_once_with_the_moment_at_which_it_ended(
    world: Any, client: aiohttp.ClientSession
) -> None:
    batch = [
        {"endpoint": EAST, "status": 200, "id": "a", "latency": 0.5, "age": 30},
        {"endpoint": EAST, "status": 200, "id": "a", "latency": 0.5, "age": 30},
        {"endpoint": EAST, "status": 200, "age": 90_000_000},
        {"endpoint": "nobody@x", "status": 200},
        {"endpoint": EAST, "error": "timeout"},
    ]
    async with client.post(f"{world.url}/v1/reports", json={"reports": batch}) as response:
        told = await response.json()
    assert (told["recorded"], told["duplicate"], told["stale"], len(told["rejected"])) == (2, 1, 1, 1)
    wall = 1_800_000_000.0 + world.now
    found = [(endpoint, outcome.kind, outcome.latency, ended) for endpoint, outcome, ended in world.recorded]
    assert found == [(EAST, "success", 0.5, wall - 30), (EAST, "timeout", None, wall)]
