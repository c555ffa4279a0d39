"""A table with witnesses: what is not believed changes nothing, and what was believed too early is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from balancer.core.balancer import Balancer
from balancer.core.detectors import Detectors
from balancer.core.discount import take_back
from balancer.core.doubt import SILENCE, WITNESSES_MAX
from balancer.core.estimate import Belief
from balancer.core.health import REFUSALS, Health
from balancer.core.model import Catalog, Endpoint, HealthPolicy
from balancer.core.outcome import COUNTS, Kind, Outcome
from balancer.core.request import Request
from balancer.core.row import Row
from balancer.core.view import EndpointView, TableView
from balancer.core.witness import TRANSPORT, Heard, Suspicion

MakeEndpoint = Callable[..., Endpoint]
MakeCatalog = Callable[..., Catalog]
MakeRequest = Callable[..., Request]

MODEL = "author/slug"
TAGS = ("a/1", "a/2", "b", "c", "d")
OK = Outcome(kind="success", latency=1.0, ttft=0.2)
DOWN = sorted(TRANSPORT - {"local"})
FAILURES = sorted(kind for kind in COUNTS if COUNTS[kind] == "failure")


@pytest.fixture
def table(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Balancer:
    return _table(endpoint, catalog)


def _table(endpoint: MakeEndpoint, catalog: MakeCatalog) -> Balancer:
    return Balancer(catalog(*[endpoint(tag) for tag in TAGS]), seed=1)


def tell(table: Balancer, tag: str, kind: Kind = "connect", *, at: float, **facts: Any) -> None:
    outcome = OK if kind == "success" else Outcome(kind=kind)
    table.record(f"{MODEL}@{tag}", outcome, now=at, **facts)


def seen(table: Balancer, tag: str, at: float) -> EndpointView:
    return table.endpoint(f"{MODEL}@{tag}", now=at)


def states(table: Balancer, at: float) -> dict[str, str]:
    return {each.endpoint.tag: each.state for each in table.view(now=at).endpoints}


def evidence(view: TableView) -> object:
    """All but what merely counts that something came."""
    return replace(
        view,
        endpoints=tuple(replace(each, outcomes={}) for each in view.endpoints),
        reporters=(),
        self_suspicion=None,
    )


def events(table: Balancer, after: int = 0) -> list[tuple[str, str | None]]:
    told = table.transitions(after)
    return [(each.event, each.reporter or each.endpoint) for each in told if each.event != "endpoint.added"]


# ---- what is in doubt --------------------------------------------------------------------------------


def test_what_is_in_doubt_is_counted_and_nothing_else(table: Balancer) -> None:
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    before = table.view(now=20.0)
    for number in range(20):
        tell(table, TAGS[number % 5], "timeout", at=20.0, reporter="proxy")
    after = table.view(now=20.0)
    assert evidence(after) == evidence(before)
    assert {each.endpoint.tag: each.outcomes["report", "timeout"] for each in after.endpoints} == dict.fromkeys(
        TAGS, 4
    )
    assert seen(table, "b", 20.0).outcomes["report", "connect"] == 2


def test_what_was_believed_since_the_onset_leaves_the_windows(table: Balancer) -> None:
    tell(table, "b", "success", at=5.0, reporter="proxy")
    tell(table, "b", "connect", at=6.0, reporter="other")
    before = table.view(now=20.0)
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    view = table.view(now=20.0)
    for was, now in zip(before.endpoints, view.endpoints, strict=True):
        assert now.windows == was.windows
        assert now.success_estimate == pytest.approx(was.success_estimate)
        assert now.state == was.state
    assert seen(table, "b", 20.0).windows["report"]["5m"].failure == 1  # the other's
    assert len(seen(table, "b", 20.0).failures) == 3  # what happened is still shown


@pytest.mark.parametrize("source", ["probe", "report"])
def test_who_was_ejected_since_the_onset_stands_where_it_stood(table: Balancer, source: Any) -> None:
    for tag in TAGS:
        tell(table, tag, "success", at=1.0, source=source)
    for number in range(5):
        table.record(
            f"{MODEL}@b", Outcome(kind="timeout", shallow=source == "probe"), now=10.0 + number, source=source
        )
    assert states(table, 15.0)["b"] == "ejected"
    for number, tag in enumerate(("c", "d", "c", "d")):
        table.record(
            f"{MODEL}@{tag}", Outcome(kind="timeout", shallow=source == "probe"), now=15.0 + number, source=source
        )
    view = table.view(now=20.0)
    assert view.self_suspicion is not None
    assert view.self_suspicion.since == 10.0
    assert set(states(table, 20.0).values()) == {"healthy"}
    assert seen(table, "b", 20.0).ejections != {}  # it happened, and counters never fall
    told = table.transitions(0)[-2:]
    assert [each.event for each in told] == ["self.suspected", "endpoint.readmitted"]
    assert told[1].reason == "taken out on our own word, which is in doubt"
    assert (told[1].endpoint, told[1].state) == (f"{MODEL}@b", "healthy")


def test_a_streak_that_the_suspect_fed_is_forgotten(table: Balancer) -> None:
    for number, tag in enumerate(("b", "b", "b", "b", "c", "d")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    for number in range(4):
        tell(table, "b", at=20.0 + number, reporter="other")
    assert states(table, 24.0)["b"] != "ejected"
    tell(table, "b", at=24.0, reporter="other")
    assert states(table, 24.0)["b"] == "ejected"


def test_who_was_ejected_on_anothers_word_stays_so(table: Balancer) -> None:
    tell(table, "d", "success", at=9.0, reporter="other")
    tell(table, "b", at=9.5, reporter="proxy")
    for number in range(5):
        tell(table, "b", "server_error", at=10.0 + number, reporter="other")
    for number, tag in enumerate(("c", "d", "c", "d", "a/1", "c")):
        tell(table, tag, at=15.0 + number, reporter="proxy")
    assert [each.name for each in table.reporters(30.0) if each.suspicion is not None] == ["proxy"]
    assert states(table, 21.0)["b"] == "ejected"


def test_who_was_refused_since_the_onset_is_no_longer_misconfigured(table: Balancer) -> None:
    for tag in TAGS:
        tell(table, tag, "success", at=1.0, reporter="other")
    for number in range(6):
        tell(table, "b", "refused", at=10.0 + number, reporter="proxy")
    for _ in range(5):
        tell(table, "b", "success", at=15.5, reporter="other", duration=0.0)
    for number in range(3):
        tell(table, "b", "refused", at=16.0 + number, reporter="proxy")
    assert states(table, 19.0)["b"] == "misconfigured"
    tell(table, "b", "refused", at=19.0, reporter="proxy")
    assert [each.name for each in table.reporters(19.0) if each.suspicion is not None] == ["proxy"]
    assert states(table, 19.0)["b"] == "healthy"
    told = table.transitions(0)[-1]
    assert (told.event, told.reason) == ("endpoint.readmitted", "taken out on the word of proxy, which is in doubt")
    for number in range(REFUSALS):
        tell(table, "b", "refused", at=20.0 + number, reporter="proxy")
    assert states(table, 30.0)["b"] == "healthy"


def test_an_ejection_from_before_the_onset_stays(table: Balancer) -> None:
    for number in range(5):
        tell(table, "b", at=1.0 + number / 10, reporter="proxy")
    tell(table, "c", "success", at=5.0, reporter="proxy")
    for number, tag in enumerate(("a/1", "c", "d", "a/2", "c")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    assert [each.name for each in table.reporters(15.0) if each.suspicion is not None] == ["proxy"]
    assert states(table, 15.0)["b"] == "ejected"


def test_a_trial_in_doubt_decides_nothing_and_makes_way_for_the_next(table: Balancer, ask: MakeRequest) -> None:
    for _ in range(5):
        tell(table, "b", at=1.0, reporter="proxy")
    tell(table, "c", "success", at=5.0, reporter="proxy")
    for number, tag in enumerate(("a/1", "c", "d", "a/2", "c")):
        tell(table, tag, at=30.0 + number, reporter="proxy")
    trial = table.best(ask(only=("b",)), now=100.0)
    assert trial.trial
    hold = seen(table, "b", 100.0).next_at
    tell(table, "b", at=101.0, reporter="proxy", decision=trial.id)
    assert seen(table, "b", 101.0).state == "ejected"
    assert hold is not None
    assert table.best(ask(only=("b",)), now=101.0).trial  # no longer hold for a trial that proved nothing


def test_a_providers_outage_that_was_our_own_is_undone_and_forgotten(
    endpoint: MakeEndpoint, catalog: MakeCatalog
) -> None:
    many = [f"a/{number}" for number in range(8)]
    table = Balancer(catalog(*[endpoint(tag) for tag in (*many, "b", "c")]), seed=1)
    for number, tag in enumerate((*many, "b", "c") * 2):
        tell(table, tag, "success", at=float(number), reporter="proxy")
    for number, tag in enumerate(many[:7] * 2):
        tell(table, tag, "timeout", at=100.0 + number, reporter="proxy")
    assert states(table, 114.0)["a/7"] == "ejected"  # of which nothing was heard
    for number, tag in enumerate("bc"):
        tell(table, tag, "timeout", at=114.0 + number, reporter="proxy")
    assert set(states(table, 116.0).values()) == {"healthy"}
    tell(table, "b", "success", at=120.0, reporter="proxy")
    for number, tag in enumerate(many[:2]):
        tell(table, tag, "timeout", at=121.0 + number, reporter="other")
    assert set(states(table, 123.0).values()) == {"healthy"}  # two failures are no outage of the provider


def test_a_session_does_not_leave_its_provider_on_a_doubtful_word(table: Balancer, ask: MakeRequest) -> None:
    first = table.best(ask(session_id="s"), now=0.0).selected
    table.record(first.id, OK, now=1.0, session_id="s", reporter="proxy")
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    for number in range(5):
        table.record(first.id, Outcome(kind="connect"), now=20.0 + number, session_id="s", reporter="proxy")
    again = table.best(ask(session_id="s"), now=30.0)
    assert (again.selected.id, again.sticky) == (first.id, True)


def test_what_probes_measured_in_a_stall_counts_apart(table: Balancer) -> None:
    table.stalled(since=10.0, now=30.0)
    before = table.view(now=31.0)
    for tag in TAGS * 3:
        table.record(
            f"{MODEL}@{tag}", Outcome(kind="timeout", shallow=True), now=31.0, source="probe", duration=15.0
        )
    after = table.view(now=31.0)
    assert evidence(after) == evidence(before)
    assert {each.endpoint.tag: dict(each.outcomes) for each in after.endpoints} == {
        tag: {("probe", "local"): 3} for tag in TAGS
    }
    assert events(table) == [("self.suspected", None)]
    table.record(f"{MODEL}@b", OK, now=32.0, source="probe")
    assert events(table)[:2] == [("self.suspected", None), ("self.cleared", None)]


def test_what_fell_into_a_doubt_of_our_own_ejects_nobody_when_others_tell_it_later(table: Balancer) -> None:
    for tag in TAGS:
        tell(table, tag, "success", at=1.0, reporter="proxy")
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, source="probe")
    tell(table, "b", "success", at=40.0, source="probe")
    before = evidence(table.view(now=50.0))
    for _ in range(6):
        tell(table, "b", "timeout", at=50.0, age=15.0, reporter="proxy")
        tell(table, "b", "timeout", at=50.0, duration=20.0, reporter="proxy")  # hung in it
    assert evidence(table.view(now=50.0)) == before
    for _ in range(5):
        tell(table, "b", "timeout", at=50.0, duration=9.0, reporter="proxy")
    assert states(table, 50.0)["b"] == "ejected"


def test_who_reached_a_provider_since_our_own_doubt_began_is_believed_of_that_time(table: Balancer) -> None:
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, source="probe")
    tell(table, "b", "success", at=40.0, source="probe")
    tell(table, "c", "success", at=20.0, reporter="proxy")
    for _ in range(5):
        tell(table, "b", "timeout", at=50.0, age=15.0, reporter="proxy")
    assert states(table, 50.0)["b"] == "ejected"


def test_a_doubt_of_our_own_that_silence_ended_protects_nobody(table: Balancer) -> None:
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, source="probe")
    assert table.self_suspicion(14.0 + SILENCE) is None
    for _ in range(5):
        tell(table, "b", "timeout", at=14.0 + SILENCE, reporter="proxy")
    assert states(table, 14.0 + SILENCE)["b"] == "ejected"
    assert ("self.cleared", None) in events(table)


def test_calls_that_hung_in_an_outage_of_their_own_reporter_eject_nobody_when_it_is_over(table: Balancer) -> None:
    for tag in TAGS:
        tell(table, tag, "success", at=1.0, reporter="proxy")
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    for second in range(10):  # each is given up after half a minute, and what begins now succeeds
        tell(table, "c", "success", at=40.0 + second, reporter="proxy")
        tell(table, "b", "timeout", at=40.5 + second, duration=30.0, reporter="proxy")
    assert set(states(table, 61.0).values()) == {"healthy"}


def test_an_outage_of_which_only_the_contradicted_speaks_ejects(table: Balancer) -> None:
    for second in range(30):
        tell(table, "b", "success", at=10.0 + second, reporter="other")
        tell(table, "b", "server_error", at=10.5 + second, reporter="proxy")
    assert [each.name for each in table.reporters(40.0) if each.suspicion is not None] == ["proxy"]
    for number in range(5):
        tell(table, "c", "server_error", at=41.0 + number, reporter="proxy")
    assert (states(table, 46.0)["b"], states(table, 46.0)["c"]) == ("healthy", "ejected")


def test_doubt_is_told_with_its_reason_and_by_name(table: Balancer) -> None:
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, reporter="proxy")
    tell(table, "b", "success", at=20.0, reporter="proxy")
    told = [each for each in table.transitions(0) if each.event.startswith(("self.", "reporter."))]
    assert [(each.event, each.reporter, each.reason) for each in told] == [
        ("reporter.suspected", "proxy", "5 calls in a row got no answer, at 3 unrelated providers (connect)"),
        ("reporter.cleared", "proxy", "providers answer again"),
    ]
    assert [(each.endpoint, each.model, each.state) for each in told] == [(None, None, None)] * 2


def test_a_view_tells_who_is_in_doubt_since_when_and_why(table: Balancer) -> None:
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, source="probe")
        tell(table, tag, at=10.0 + number, reporter="proxy")
    tell(table, "b", "success", at=15.0, reporter="other")
    view = table.view(now=20.0)
    assert view.self_suspect
    assert table.self_suspicion(20.0) is not None
    assert view.self_suspicion == table.self_suspicion(20.0)
    assert view.self_suspicion is not None
    assert (view.self_suspicion.since, view.self_suspicion.witness) == (10.0, None)
    told = [(each.name, each.reports, each.silence, each.suspicion is not None) for each in view.reporters]
    assert told == [("proxy", 5, 6.0, True), ("other", 1, 5.0, False)]
    assert view.reporters == table.reporters(20.0)


def test_a_dump_keeps_no_doubt(table: Balancer, endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        tell(table, tag, at=10.0 + number, source="probe")
    other = _table(endpoint, catalog)
    other.restore(table.dump(now=20.0), now=0.0, away=0.0)
    assert table.self_suspicion(20.0) is not None
    assert other.self_suspicion(0.0) is None


def test_reporters_are_forgotten_with_their_names_and_doubts_with_time(table: Balancer) -> None:
    for name in ("one", "two"):
        for number, tag in enumerate(("b", "c", "d", "b", "c")):
            tell(table, tag, at=10.0 + number, reporter=name)
    table.retain(reporters=["two"], targets=(), pages=(), now=20.0)
    assert [each.name for each in table.reporters(20.0)] == ["two"]
    table.settle(now=20.0)
    table.settle(now=1000.0)
    assert events(table)[-2:] == [("reporter.cleared", "one"), ("reporter.cleared", "two")]


def test_a_reporter_that_is_configured_is_shown_however_long_it_is_silent(table: Balancer) -> None:
    configured = [f"token {number}" for number in range(WITNESSES_MAX + 50)]
    table.retain(reporters=configured, targets=(), pages=(), now=0.0)
    for number, name in enumerate(configured):
        tell(table, "b", "success", at=float(number), reporter=name)
    for number in range(WITNESSES_MAX + 1):
        tell(table, "b", "success", at=1000.0 + number, reporter=f"user {number}")
    users = [f"user {number}" for number in range(1, WITNESSES_MAX + 1)]
    assert [each.name for each in table.reporters(2000.0)] == [*configured, *users]
    table.retain(reporters=configured[:2], targets=(), pages=(), now=2000.0)
    assert [each.name for each in table.reporters(2000.0)] == configured[:2]


# ---- for any story -----------------------------------------------------------------------------------

orders = st.lists(
    st.tuples(st.sampled_from(TAGS), st.sampled_from(DOWN), st.floats(0, 20)), min_size=20, max_size=60
)


@settings(deadline=None, max_examples=20)
@given(orders, st.sampled_from((None, "proxy")), st.booleans(), st.booleans())
def test_nobody_is_ejected_while_everything_gets_no_answer_at_once(
    endpoint: MakeEndpoint,
    catalog: MakeCatalog,
    order: list[tuple[str, Kind, float]],
    by: str | None,
    probed: bool,
    known: bool,
) -> None:
    table = _table(endpoint, catalog)
    now = 0.0
    if known:
        for tag in TAGS:
            tell(table, tag, "success", at=now, reporter=by)
    before = states(table, now)
    providers: set[str] = set()
    for number, (tag, kind, pause) in enumerate(order, 1):
        now += min(pause, 14.0)  # sixty in less than RUN_AGE
        table.record(
            f"{MODEL}@{tag}",
            Outcome(kind=kind, shallow=probed),
            now=now,
            source="probe" if probed else "report",
            reporter=by,
        )
        providers.add(tag.partition("/")[0])
        if number >= 5 and len(providers) >= 3:
            assert states(table, now) == before
            for each in table.view(now=now).endpoints:
                for windows in each.windows.values():
                    assert all(counts.failure == 0 for counts in windows.values())
    assume(len(providers) >= 3)
    assert sum(sum(each.outcomes.values()) for each in table.view(now=now).endpoints) == len(order) + 5 * known


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(FAILURES), st.floats(0, 20)), max_size=15))
def test_the_failures_of_a_contradicted_reporter_change_no_state(
    endpoint: MakeEndpoint, catalog: MakeCatalog, story: list[tuple[str, Kind, float]]
) -> None:
    table = _table(endpoint, catalog)
    now = 0.0
    for number in range(20):
        now += 1.0
        tell(table, TAGS[number % 5], "success", at=now, reporter="other")
        tell(table, TAGS[number % 5], "server_error", at=now, reporter="proxy")
    assert [each.name for each in table.reporters(now) if each.suspicion is not None] == ["proxy"]
    for tag, kind, pause in story:
        now += pause / 10
        tell(table, tag, "success", at=now, reporter="other")
        before = evidence(table.view(now=now))
        tell(table, tag, kind, at=now, reporter="proxy")
        assert evidence(table.view(now=now)) == before
    assert set(states(table, now).values()) == {"healthy"}


# ---- what is taken back of one endpoint --------------------------------------------------------------


def failed(health: Health, *moments: float, kind: Kind = "connect", shallow: bool = False) -> None:
    for moment in moments:
        health.record(
            Outcome(kind=kind, shallow=shallow),
            source="report",
            began=moment,
            ended=moment,
            now=moment,
            decision=None,
            policy=HealthPolicy(),
        )


def test_a_trip_is_undone_with_its_hold_and_its_count() -> None:
    health = Health(random=Random(1), now=0.0)
    failed(health, 10.0, 10.0, 10.0, 10.0, 10.0)
    assert (health.phase, health.generation) == ("ejected", 1)
    assert not health.absolve(since=10.1)
    assert health.phase == "ejected"
    assert health.absolve(since=10.0)
    assert (health.phase, health.since, health.ejections) == ("closed", 0.0, 0.0)
    assert (health.reason, health.cause, health.lease) == ("", None, None)
    assert health.until < 0.0
    assert health.generation == 2  # a straggler of the phase that was not must not be mistaken for one of this
    failed(health, 20.0, 20.0, 20.0, 20.0)
    assert health.phase == "closed"
    failed(health, 20.0)
    assert health.phase == "ejected"
    assert health.until <= 30.0  # the first hold, and no second
    assert not health.absolve(since=21.0)


def test_an_endpoint_that_its_providers_trouble_ejected_is_absolved_too(endpoint: MakeEndpoint) -> None:
    policy = HealthPolicy()
    rows = {
        f"{MODEL}@{tag}": Row(endpoint(tag), policy, random=Random(1), now=0.0) for tag in ("a/1", "a/2", "b", "c")
    }
    for row in rows.values():
        row.eject("provider_failure", "nearly everything fails there", 12.0, policy)
    told = (Heard(10.0, 10.0, f"{MODEL}@a/1", "connect", "report"), Heard(11.0, 11.0, "gone", "connect", "report"))
    suspicion = Suspicion(
        witness="proxy",
        rule="severed",
        reason="nobody answers",
        since=10.0,
        failures=told,
        endpoints=frozenset(list(rows)[:3]),
    )
    assert [row.endpoint.tag for row in take_back(rows, Detectors(), suspicion)] == ["a/1", "a/2", "b"]
    assert [row.health.phase for row in rows.values()] == ["closed", "closed", "closed", "ejected"]


def test_only_failures_since_the_onset_are_forgotten() -> None:
    health = Health(random=Random(1), now=0.0)
    failed(health, 1.0, 2.0, 10.0, 11.0)
    assert not health.absolve(since=10.0)
    failed(health, 20.0, 21.0)
    assert health.phase == "closed"
    failed(health, 22.0)
    assert health.phase == "ejected"


def test_the_failures_of_others_stay_in_belief(endpoint: MakeEndpoint, catalog: MakeCatalog) -> None:
    table, other = _table(endpoint, catalog), _table(endpoint, catalog)
    for each in (table, other):
        for number in range(20):
            tell(each, "b", "success", at=number / 2, reporter="other")
    for number, tag in enumerate(("b", "b", "c", "d", "c")):
        tell(table, tag, at=11.0 + number, reporter="proxy")
        if number == 1:
            for each in (table, other):
                tell(each, "b", "server_error", at=12.5, reporter="other")
    assert [each.name for each in table.reporters(20.0) if each.suspicion is not None] == ["proxy"]
    tags = ("b", "c", "d")
    estimates = [[seen(each, tag, 20.0).success_estimate for tag in tags] for each in (table, other)]
    assert estimates[0] == pytest.approx(estimates[1])
    assert estimates[0][0] < 0.97


def test_where_others_say_the_same_belief_stays(table: Balancer) -> None:
    for number in range(20):
        tell(table, "b", "success", at=number / 2, reporter="other")
    tell(table, "b", at=11.0, reporter="proxy")
    for number in range(4):
        tell(table, "b", "server_error", at=12.0 + number, reporter="other")
    tell(table, "b", "success", at=16.0, reporter="other")
    before = seen(table, "b", 17.0).success_estimate
    for number, tag in enumerate(("c", "d", "c", "d")):
        tell(table, tag, at=17.0 + number, reporter="proxy")
    assert [each.name for each in table.reporters(21.0) if each.suspicion is not None] == ["proxy"]
    assert seen(table, "b", 17.0).success_estimate == pytest.approx(before)


def test_cheap_probes_that_are_in_doubt_leave_belief_alone(table: Balancer) -> None:
    for number in range(4):
        tell(table, "b", "server_error", at=1.0 + number, reporter="proxy")
    tell(table, "b", "success", at=5.0, reporter="proxy")
    before = seen(table, "b", 20.0).success_estimate
    for number, tag in enumerate(("b", "c", "d", "b", "c")):
        down = Outcome(kind="timeout", shallow=True)
        table.record(f"{MODEL}@{tag}", down, now=10.0 + number, source="probe")
    assert table.self_suspicion(20.0) is not None
    assert seen(table, "b", 20.0).success_estimate == pytest.approx(before)


def test_a_cheap_probe_of_a_suspect_postpones_no_trial() -> None:
    health = Health(random=Random(1), now=0.0)
    failed(health, 1.0, 1.0, 1.0, 1.0, 1.0)
    failed(health, 15.0, shallow=True)
    assert not health.trial_due(20.0)
    assert not health.absolve(since=15.0)
    assert health.trial_due(20.0)


def test_belief_goes_back_to_before_the_first_failure_in_question() -> None:
    belief, other = Belief(), Belief()
    for each in (belief, other):
        for moment in range(100):
            each.record(True, 10.0 * moment)
        each.record(False, 1000.0)
    for moment in (1010.0, 1020.0, 1030.0):
        belief.record(False, moment)
    assert belief.degraded(1030.0)
    belief.forgive([1010.0, 1020.0, 1030.0])
    assert belief.terms(1040.0) == other.terms(1040.0)
    assert not belief.degraded(1040.0)


def test_belief_that_has_heard_of_successes_since_sinks_into_what_is_usual() -> None:
    belief = Belief()
    for moment in range(100):
        belief.record(True, 10.0 * moment)
    usual = belief.own
    for moment in range(10):
        belief.record(False, 1000.0 + moment)
        belief.record(False, 1000.5 + moment)
        belief.record(True, 1000.6 + moment)
    assert belief.terms(1010.0).base > 0.3
    belief.forgive([1000.0 + number / 2 for number in range(20)])
    assert belief.terms(1010.0).base == pytest.approx(usual, rel=0.2)
    assert not belief.degraded(1010.0)


@pytest.mark.parametrize("whose", ["a/1", "a/2"], ids=["one that is known", "one of which nothing else was seen"])
def test_those_of_one_fate_do_not_go_on_leaning_on_what_was_taken_back(table: Balancer, whose: str) -> None:
    for at, kind in ((0.0, "success"), (30.0, "reset"), (30.0, "reset"), (330.0, "success")):
        tell(table, "a/1", kind, at=at)
    tell(table, whose, "timeout", at=630.0)
    before = seen(table, "a/2", 630.0).success_estimate
    table.record(f"{MODEL}@b", Outcome(kind="local"), now=630.0, source="probe")
    found = seen(table, "a/2", 630.0).success_estimate
    assert found > before
    table.apply(table.catalog, now=630.0)
    assert seen(table, "a/2", 630.0).success_estimate == found
