"""Whom to believe: who becomes suspect, for how long, and what is not believed meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.doubt import SILENCE, STALL_SILENCE, WITNESSES_MAX, Doubt
from balancer.core.outcome import COUNTS, Kind, Outcome
from balancer.core.voices import MEMORY_AGE
from balancer.core.witness import ANSWERS, TRANSPORT, Cleared, Suspicion

FATES = {"a1": 0, "a2": 0, "b": 1, "c": 2, "d": 3}
FAILURES = sorted(kind for kind, counts in COUNTS.items() if counts == "failure")


class Court:
    """A doubt to which outcomes are told, and everything that it announced."""

    def __init__(self) -> None:
        self.doubt = Doubt()
        self.doubt.apply(FATES)
        self.now = 0.0
        self.told: list[Suspicion | Cleared] = []

    def hear(
        self,
        endpoint: str,
        kind: Kind = "connect",
        *,
        by: str | None = "proxy",
        at: float | None = None,
        ended: float | None = None,
        began: float | None = None,
        out: bool = False,
        shallow: bool = False,
    ) -> str:
        """One outcome; by `None` it is a probe."""
        self.now = self.now if at is None else at
        end = self.now if ended is None else ended
        verdict = self.doubt.take(
            endpoint,
            Outcome(kind=kind, shallow=shallow),
            source="probe" if by is None else "report",
            reporter=by,
            began=end if began is None else began,
            ended=end,
            now=self.now,
            out=out,
        )
        self.note()
        return verdict

    def sever(self, by: str | None = "proxy", *, start: float = 10.0) -> Suspicion:
        """Let five calls at three providers get no answer."""
        for number, place in enumerate(("a1", "b", "c", "a1", "b")):
            self.hear(place, by=by, at=start + number)
        found = self.told[-1]
        assert isinstance(found, Suspicion)
        return found

    def note(self) -> None:
        self.told += self.doubt.news
        self.doubt.news.clear()

    def suspects(self, at: float | None = None) -> set[str | None]:
        """Who is suspect, as a reader sees it."""
        now = self.now if at is None else at
        own: set[str | None] = set() if self.doubt.own(now) is None else {None}
        return own | {each.name for each in self.doubt.reporters(now) if each.suspicion is not None}


@pytest.fixture
def court() -> Court:
    return Court()


# ---- a network in doubt ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [None, "proxy"])
def test_a_witness_that_nobody_answers_is_suspect_from_the_first_of_these_failures(
    court: Court, by: str | None
) -> None:
    court.hear("a1", "success", by=by, at=5.0)
    verdicts = [court.hear(place, by=by, at=10.0 + number) for number, place in enumerate(("a1", "b", "c", "a1"))]
    assert (verdicts, court.told) == (["evidence"] * 4, [])
    assert court.hear("b", "timeout", by=by, at=20.0) == "doubted"
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert (found.witness, found.rule, found.since) == (by, "severed", 10.0)
    assert found.reason == "5 calls in a row got no answer, at 3 unrelated providers (connect, timeout)"
    assert [each.endpoint for each in found.failures] == ["a1", "b", "c", "a1"]
    assert court.suspects() == {by}


def test_an_ejection_stands_only_on_the_word_of_those_whose_network_works(court: Court) -> None:
    assert court.sever().endpoints == {"a1", "a2", "b", "c"}
    other = Court()
    for number in range(3):
        other.hear("c", "server_error", by="other", at=10.5 + number / 10)
    assert other.sever().endpoints == {"a1", "a2", "b"}
    ours = Court()
    ours.hear("d", by="cut off too", at=10.2)  # it reached nobody since: its word may be as bad as ours
    assert ours.sever(None).endpoints == set(FATES)
    ours = Court()
    ours.hear("d", "server_error", by="other", at=10.2)
    assert ours.sever(None).endpoints == {"a1", "a2", "b", "c"}


@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_any_answer_ends_a_doubt_in_the_network(court: Court, kind: Kind) -> None:
    court.sever()
    assert court.hear("a1", kind, at=20.0) == "evidence"
    assert court.told[-1] == Cleared("proxy", "providers answer again")
    assert court.suspects() == set()
    assert court.hear("a1", at=21.0) == "evidence"


def test_an_answer_from_before_the_onset_ends_nothing(court: Court) -> None:
    court.sever(start=10.0)
    assert court.hear("a1", "success", at=20.0, ended=9.9) == "evidence"
    assert court.suspects() == {"proxy"}
    court.hear("a1", "success", at=21.0, ended=10.0)
    assert court.suspects() == set()


def test_another_witnesses_answer_ends_nothing(court: Court) -> None:
    court.sever("proxy")
    court.hear("a1", "success", by="other", at=20.0)
    court.hear("a1", "success", by=None, at=20.0)
    assert court.suspects() == {"proxy"}


def test_in_doubt_no_failure_is_evidence_and_what_ended_before_is(court: Court) -> None:
    court.sever(start=10.0)
    for kind in sorted(TRANSPORT | {"stream"}):
        assert court.hear("d", kind, at=30.0) == "doubted"
    assert court.hear("d", at=30.0, ended=9.0) == "evidence"
    assert court.hear("d", "cancelled", at=30.0) == "evidence"
    assert court.suspects() == {"proxy"}


def test_a_failure_that_is_told_late_falls_into_the_doubt_that_was(court: Court) -> None:
    court.sever(start=10.0)
    court.hear("a1", "success", at=40.0)
    assert court.hear("b", at=50.0, ended=9.9) == "evidence"
    assert court.hear("b", at=50.0, ended=10.0) == "doubted"
    assert court.hear("b", at=50.0, ended=40.0) == "doubted"
    assert court.hear("b", at=50.0, ended=40.1) == "evidence"


@pytest.mark.parametrize("by", [None, "proxy"])
def test_silence_ends_a_doubt_for_readers_at_once_and_for_good_when_it_is_settled(
    court: Court, by: str | None
) -> None:
    court.sever(by, start=10.0)
    assert court.suspects(at=14.0 + SILENCE - 0.1) == {by}
    assert court.suspects(at=14.0 + SILENCE) == set()
    court.doubt.settle(14.0 + SILENCE - 0.1)
    assert court.doubt.news == []
    court.doubt.settle(14.0 + SILENCE)
    assert court.doubt.news == [Cleared(by, "nothing was heard for 300 s")]


def test_an_outcome_after_a_long_silence_ends_the_doubt_first(court: Court) -> None:
    court.sever(start=10.0)
    assert court.hear("a1", at=14.0 + SILENCE) == "evidence"
    assert court.told[-1] == Cleared("proxy", "nothing was heard for 300 s")


def test_a_doubt_is_told_once_however_long_it_lasts(court: Court) -> None:
    court.sever(start=10.0)
    for number in range(500):
        court.hear("abcd"[number % 4].replace("a", "a1"), at=20.0 + number)
    assert len(court.told) == 1


def test_two_hosts_that_are_gone_make_no_doubt_of_every_round_of_probes(court: Court) -> None:
    told = []
    for number in range(20):
        for place, kind in (("a1", "dns"), ("b", "dns"), ("c", "success"), ("d", "success")):
            told.append((place, court.hear(place, kind, by=None, at=30.0 * number)))  # type: ignore[arg-type]
    assert [(type(each), each.witness) for each in court.told] == [(Suspicion, None), (Cleared, None)]
    assert [verdict for _, verdict in told].count("doubted") == 1
    assert court.hear("a1", "success", by=None, at=700.0) == "evidence"
    court.hear("b", "success", by=None, at=700.0)
    court.hear("a1", "dns", by=None, at=730.0)
    assert court.hear("b", "dns", by=None, at=730.0) == "doubted"


def test_after_an_outage_of_our_own_the_next_one_is_seen_too(court: Court) -> None:
    for start in (10.0, 100.0, 200.0):
        court.sever(None, start=start)
        court.hear("a1", "success", by=None, at=start + 20.0)
    assert [type(each) for each in court.told] == [Suspicion, Cleared] * 3


@pytest.mark.parametrize("out", [False, True])
def test_a_missing_route_is_about_this_machine_at_once(court: Court, out: bool) -> None:
    assert court.hear("a1", "local", by=None, at=10.0, out=out) == "doubted"
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert (found.reason, found.since) == ("its own network or resolver is down", 10.0)
    assert (found.failures, found.endpoints) == ((), set())


def test_a_provider_that_was_down_before_our_network_accounts_for_itself(court: Court) -> None:
    for number in range(5):
        court.hear("a1", by=None, at=float(number))
    court.hear("b", "local", by=None, at=10.0)
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert [each.endpoint for each in found.failures] == ["a1"] * 5  # two unrelated providers at once
    other = Court()
    for number in range(5):
        other.hear("a1", by=None, at=float(number))
    other.hear("a1", "local", by=None, at=10.0)
    (found,) = other.told
    assert isinstance(found, Suspicion)
    assert (found.failures, found.since) == ((), 10.0)


def test_while_our_own_network_is_in_doubt_who_reached_nobody_since_is_not_believed(court: Court) -> None:
    court.hear("d", "success", by="neighbour", at=5.0)
    court.sever(None, start=10.0)
    assert court.hear("d", "timeout", by="neighbour", at=20.0) == "doubted"
    assert court.hear("d", "timeout", by="neighbour", at=20.0, ended=9.0) == "evidence"
    assert court.hear("d", "server_error", by="neighbour", at=20.0) == "evidence"  # an answer: its network works
    assert court.hear("d", "timeout", by="neighbour", at=21.0) == "evidence"
    assert court.suspects() == {None}


def test_a_doubt_in_a_reporter_reaches_nobody_else(court: Court) -> None:
    court.sever("proxy", start=10.0)
    assert court.hear("d", "timeout", by="other", at=20.0) == "evidence"
    assert court.hear("d", "timeout", by=None, at=20.0) == "evidence"


# ---- a reporter that others contradict ---------------------------------------------------------------


def contradict(
    court: Court,
    *,
    good: int = 0,
    kind: Kind = "server_error",
    rounds: int = 10,
    places: str = "a1 b",
    others: str = "a1 b",
    voice: Kind = "success",
    by: str | None = "other",
    shallow: bool = False,
) -> list[str]:
    """A round a second: one outcome of `proxy`, the last `good` of them successes, and one of another."""
    verdicts = []
    for number in range(rounds):
        told: Kind = "success" if number >= rounds - good else kind
        court.hear(others.split()[number % len(others.split())], voice, by=by, at=10.0 + number, shallow=shallow)
        verdicts.append(court.hear(places.split()[number % len(places.split())], told, by="proxy"))
    # What it fails at once more decides: only a failure asks.
    verdicts.append(court.hear(places.split()[0], kind, by="proxy", at=10.0 + rounds))
    return verdicts


@pytest.mark.parametrize("kind", FAILURES)
def test_who_fails_where_all_others_succeed_is_not_believed(court: Court, kind: Kind) -> None:
    verdicts = contradict(court, kind=kind)
    assert verdicts[-1] == "doubted"
    assert "proxy" in court.suspects()
    found = next(each for each in court.told if isinstance(each, Suspicion))
    if kind in ANSWERS or kind == "stream":
        assert (found.rule, found.since) == ("contradicted", 10.0)
        assert found.reason == "10 of its last 10 calls failed; of 5 others at the same endpoints 0 did"
        assert len(found.failures) == 9
        assert found.endpoints == {"a1", "a2", "b"}


@pytest.mark.parametrize(
    ("story", "suspect"),
    [
        ({}, True),
        ({"by": None}, True),  # probes that do real work
        ({"by": None, "shallow": True}, False),  # to list models is not to do their work
        ({"rounds": 8}, False),  # nine are too few
        ({"good": 2}, True),
        ({"good": 3}, False),
        ({"voice": "server_error"}, False),  # others say the same
        ({"voice": "rate_limited"}, False),  # others say nothing
        ({"others": "c d"}, False),  # others speak of something else
        ({"others": "a1 c"}, False),
        ({"others": "a1 c", "rounds": 30}, True),
        ({"others": "a1 c c c c", "rounds": 30}, False),  # of what they say too little is about what fails
        ({"places": "a1 a1 a1 a1 c", "others": "c"}, False),  # what succeeds at c says nothing of a1
    ],
    ids=str,
)
def test_it_takes_ten_outcomes_and_five_of_others_at_the_same_endpoints(
    court: Court, story: dict[str, Any], suspect: bool
) -> None:
    contradict(court, **story)
    assert court.suspects() == ({"proxy"} if suspect else set())


def test_who_notices_an_outage_first_is_not_contradicted_by_what_was_before(court: Court) -> None:
    for number in range(40):
        court.hear("a1", "success", by="other", at=number / 10)
    for number in range(20):
        court.hear("a1", "server_error", by="proxy", at=5.0 + number / 10)
    for number in range(10):  # under way since before, and answered after all
        court.hear("a1", "success", by="other", at=8.0 + number / 10, began=4.0)
    court.hear("a1", "server_error", by="proxy", at=10.0)
    assert court.suspects() == set()


def test_two_against_one_are_heard_together(court: Court) -> None:
    for number in range(12):
        court.hear("a1", "success" if number % 3 else "server_error", by=f"other{number % 2}", at=10.0 + number)
        court.hear("a1", "server_error", by="proxy")
    assert court.suspects() == set()  # a third of the others' calls fail there
    for number in range(12):
        court.hear("a1", "success", by=f"other{number % 2}", at=30.0 + number)
        court.hear("a1", "server_error", by="proxy")
    assert court.suspects() == {"proxy"}


def test_one_call_of_others_at_an_endpoint_vouches_for_nothing(court: Court) -> None:
    for number in range(10):
        court.hear(sorted(FATES)[number % 5], "server_error", by="proxy", at=10.0 + number)
    for number, place in enumerate(sorted(FATES)):
        court.hear(place, "success", by="other", at=20.0 + number)
    court.hear("a1", "server_error", by="proxy", at=30.0)
    assert court.suspects() == set()
    for number, place in enumerate(sorted(FATES)):
        court.hear(place, "success", by="other", at=31.0 + number)
    court.hear("a1", "server_error", by="proxy", at=40.0)
    assert court.suspects() == {"proxy"}


def test_of_two_with_a_broken_uplink_neither_confirms_the_other(court: Court) -> None:
    contradict(court)
    assert court.suspects() == {"proxy"}
    for number in range(12):
        court.hear("a1", "success", by="other", at=30.0 + number)
        court.hear("a1", "server_error", by="proxy")
        court.hear("a1", "server_error", by="third")
    assert court.suspects() == {"proxy", "third"}


def test_only_outcomes_of_the_last_minutes_are_counted(court: Court) -> None:
    for number in range(10):
        court.hear("a1", "server_error", by="proxy", at=number / 10)
    for number in range(9):
        court.hear("a1", "success", by="other", at=200.0 + number)
        court.hear("a1", "success", by="another")
        court.hear("a1", "server_error", by="proxy")
    assert court.suspects() == set()
    court.hear("a1", "server_error", by="proxy", at=209.0)
    assert court.suspects() == {"proxy"}


def test_a_failure_that_is_told_late_asks_nothing(court: Court) -> None:
    for number in range(10):
        court.hear("a1", "success", by="other", at=200.0 + number)
        court.hear("a1", "server_error", by="proxy", at=200.1 + number)
    court.hear("a1", "success", by="other", at=210.0)
    court.hear("a1", "server_error", by="proxy", at=211.0, ended=50.0)
    assert court.suspects() == set()  # of others there were four, and now there are five
    court.hear("a1", "server_error", by="proxy", at=212.0)
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert [each.ended for each in found.failures] == [200.1 + number for number in range(10)]


def test_of_an_endpoint_of_which_nobody_else_speaks_a_suspect_is_believed(court: Court) -> None:
    assert contradict(court, places="a1 a1 a1 a1 c", others="a1")[-1] == "doubted"
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert ({each.endpoint for each in found.failures}, found.endpoints) == ({"a1"}, {"a1", "a2"})
    assert [court.hear(place, "timeout", by="proxy", at=21.0) for place in "cb"] == ["evidence"] * 2
    court.hear("b", "success", by="other", at=22.0)
    assert court.hear("b", "timeout", by="proxy", at=23.0) == "doubted"  # now somebody does


def test_most_of_ten_calls_must_succeed_before_who_was_contradicted_is_believed(court: Court) -> None:
    contradict(court)
    for number in range(20):
        court.hear("a1", "success", by="other", at=30.0 + number)
        kind: Kind = "success" if number % 2 else "server_error"
        assert court.hear("a1", kind, by="proxy") == ("evidence" if number % 2 else "doubted")
    assert court.suspects() == {"proxy"}
    court.hear("a1", "success", by="proxy", at=51.0)
    assert court.suspects() == set()
    assert court.told[-1] == Cleared("proxy", "most of its calls succeed again")
    assert court.hear("a1", "server_error", by="proxy", at=52.0) == "evidence"


def test_a_suspect_whom_nobody_contradicts_any_more_is_believed(court: Court) -> None:
    contradict(court)  # the last other's call began at 19 s, at b
    assert court.hear("b", "server_error", by="proxy", at=19.0 + MEMORY_AGE) == "doubted"
    assert court.suspects() == {"proxy"}
    court.hear("a1", "server_error", by="proxy", at=19.1 + MEMORY_AGE)
    assert court.told[-1] == Cleared("proxy", "nobody contradicts it any more")
    assert court.hear("a1", "server_error", by="proxy", at=20.0 + MEMORY_AGE) == "evidence"


def test_a_lone_reporter_is_believed(court: Court) -> None:
    for number in range(100):
        assert court.hear(["a1", "b", "c", "d"][number % 4], "server_error", at=float(number)) == "evidence"
    assert court.told == []


def test_we_are_contradicted_like_anybody(court: Court) -> None:
    for number in range(10):
        court.hear("a1", "success", by="proxy", at=10.0 + number)
        court.hear("a1", "refused", by=None)
    assert court.hear("a1", "refused", by=None, at=20.0) == "doubted"
    assert court.suspects() == {None}


def test_cheap_probes_contradict_nobody_and_are_contradicted_by_nobody(court: Court) -> None:
    for number in range(20):
        court.hear("a1", "success", by="proxy", at=10.0 + number)
        assert court.hear("a1", "refused", by=None, shallow=True) == "evidence"
    assert court.told == []


# ---- an event loop that stood still ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("began", "ended", "verdict"),
    [
        (5.0, 9.9, "doubted"),
        (5.0, 10.0, "stalled"),
        (12.0, 12.0, "stalled"),
        (20.0, 30.0, "stalled"),
        (20.1, 30.0, "doubted"),  # it began when we ran again, and nobody has answered yet
    ],
)
def test_a_probe_that_was_under_way_measured_the_stall(
    court: Court, began: float, ended: float, verdict: str
) -> None:
    court.doubt.stalled(since=10.0, now=20.0)
    verdict = "evidence" if ended < 10.0 else verdict
    assert court.hear("a1", "timeout", by=None, at=31.0, began=began, ended=ended) == verdict


def test_a_stall_is_a_doubt_in_us_until_a_probe_is_answered(court: Court) -> None:
    court.doubt.stalled(since=10.0, now=22.5)
    court.note()
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert (found.witness, found.rule, found.since) == (None, "stalled", 10.0)
    assert found.reason == "the event loop stood still for 12.5 s"
    assert court.suspects(at=22.5) == {None}
    assert court.hear("a1", "timeout", by="proxy", at=23.0) == "evidence"  # who reports ran all the while
    assert court.hear("a1", "success", by=None, at=24.0) == "evidence"
    assert court.suspects() == set()


def test_a_stall_that_no_probe_follows_is_forgotten_soon(court: Court) -> None:
    court.doubt.stalled(since=10.0, now=20.0)
    assert court.suspects(at=20.0 + STALL_SILENCE - 0.1) == {None}
    assert court.suspects(at=20.0 + STALL_SILENCE) == set()


def test_what_probes_told_before_the_stall_was_noticed_is_taken_back(court: Court) -> None:
    court.hear("a1", "timeout", by=None, at=9.0)
    court.hear("a1", "timeout", by=None, at=20.0, began=10.0)
    court.doubt.stalled(since=11.0, now=20.0)
    court.note()
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert [each.ended for each in found.failures] == [20.0]
    assert found.endpoints == {"a1"}


def test_what_an_embedded_core_was_told_of_its_own_requests_outlasts_a_stall(court: Court) -> None:
    outcome = Outcome(kind="timeout")
    facts: dict[str, Any] = {"reporter": None, "began": 9.0, "ended": 20.0, "now": 20.0, "out": False}
    court.doubt.take("a1", outcome, source="probe", **facts)
    court.doubt.take("b", outcome, source="report", **facts)
    court.doubt.stalled(since=10.0, now=20.0)
    court.note()
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert [each.endpoint for each in found.failures] == ["a1"]


def test_an_answer_in_a_stall_is_an_answer(court: Court) -> None:
    court.doubt.stalled(since=10.0, now=20.0)
    assert court.hear("a1", "server_error", by=None, at=21.0, began=9.0) == "evidence"


def test_a_stall_in_a_doubt_changes_nothing_of_it(court: Court) -> None:
    court.sever(None, start=10.0)
    court.doubt.stalled(since=20.0, now=22.0)
    court.note()
    assert len(court.told) == 1


# ---- who there is ------------------------------------------------------------------------------------


def test_reports_are_counted_by_who_sent_them(court: Court) -> None:
    for number, name in enumerate(("b", "a", "b")):
        court.hear("a1", "success", by=name, at=float(number))
    court.hear("a1", "success", by=None, at=9.0)
    assert [(each.name, each.reports, each.silence) for each in court.doubt.reporters(10.0)] == [
        ("b", 2, 8.0),
        ("a", 1, 9.0),
    ]


def test_a_reporter_that_is_configured_no_more_is_forgotten(court: Court) -> None:
    court.sever("proxy")
    court.hear("a1", "success", by="other", at=20.0)
    court.doubt.retain(["other", "new"])
    court.note()
    assert court.told[-1] == Cleared("proxy", "it is no reporter any more")
    assert [each.name for each in court.doubt.reporters(20.0)] == ["other"]
    court.hear("a1", at=21.0)
    assert [each.reports for each in court.doubt.reporters(21.0)] == [1, 1]


def test_of_too_many_reporters_the_one_silent_for_longest_is_forgotten(court: Court) -> None:
    for number in range(WITNESSES_MAX + 1):
        court.hear("a1", "success", by=f"proxy {number}", at=float(number))
    names = [each.name for each in court.doubt.reporters(court.now)]
    assert len(names) == WITNESSES_MAX
    assert (names[0], names[-1]) == ("proxy 1", f"proxy {WITNESSES_MAX}")


def test_a_reload_keeps_the_doubt_and_forgets_the_endpoints_that_are_gone(court: Court) -> None:
    court.sever(start=10.0)
    court.doubt.apply({"b": 0, "c": 1}, {"a1", "a2", "d"})
    assert court.suspects() == {"proxy"}
    assert court.hear("b", at=20.0) == "doubted"
    court.hear("b", "success", at=21.0)
    assert court.suspects() == set()


# ---- for any story -----------------------------------------------------------------------------------

witnesses = st.sampled_from((None, "one", "two"))
steps = st.lists(
    st.tuples(
        witnesses, st.sampled_from(sorted(FATES)), st.sampled_from(FAILURES), st.floats(0, 20), st.booleans()
    ),
    max_size=60,
)


def play(court: Court, story: list[tuple[Any, ...]], *, down: set[str]) -> None:
    for by, place, kind, pause, shallow in story:
        told = kind if place in down else "success"
        court.hear(place, told, by=by, at=court.now + pause, shallow=shallow and by is None)


@settings(deadline=None)
@given(steps)
def test_a_provider_that_fails_alone_makes_nobody_suspect(story: list[tuple[Any, ...]]) -> None:
    court = Court()
    play(court, story, down={"a1", "a2"})
    assert court.told == []


@settings(deadline=None)
@given(steps, witnesses, st.sampled_from(sorted(FATES)))
def test_one_success_clears_whoever_had_it_of_a_network_in_doubt(
    story: list[tuple[Any, ...]], by: str | None, place: str
) -> None:
    court = Court()
    play(court, story, down=set(FATES))
    court.hear(place, "success", by=by, at=court.now)
    found = [each for each in court.told if isinstance(each, Suspicion) and each.witness == by]
    if not found or found[-1].rule == "severed":
        assert by not in court.suspects()


@settings(deadline=None)
@given(steps)
def test_the_same_story_raises_the_same_doubts_and_reading_changes_none(story: list[tuple[Any, ...]]) -> None:
    unread, read = Court(), Court()
    for step in story:
        play(unread, [step], down={"a1", "b", "c"})
        read.suspects(at=read.now + 400.0)
        play(read, [step], down={"a1", "b", "c"})
    assert read.told == unread.told
    assert read.suspects() == unread.suspects()
