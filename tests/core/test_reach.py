"""When nothing that the operator named can be reached, and when that is the targets' own fault."""

from __future__ import annotations

import pytest

from balancer.core.doubt import SILENCE, Doubt
from balancer.core.outcome import Kind, Outcome
from balancer.core.reach import Reach, Unreached
from balancer.core.witness import Cleared, Suspicion

TWO = ("tcp://one:443", "tcp://two:443")


def test_the_last_hope_that_fails_is_told_with_the_last_answer_of_any() -> None:
    reach = Reach()
    reach.answered(5.0)
    assert reach.failed(TWO[0], "connect", TWO, began=10.0) is None
    found = reach.failed(TWO[1], "timeout", TWO, began=11.0)
    assert found == Unreached(10.0, 5.0, "none of the 2 targets of self_check answers (connect, timeout)")


def test_where_none_ever_answered_it_begins_with_the_first_check() -> None:
    found = Reach().failed("dns://one", "dns", ["dns://one"], began=3.0)
    assert found == Unreached(3.0, 3.0, "the target of self_check does not answer (dns)")


def test_each_target_counts_by_its_newest_check() -> None:
    reach = Reach()
    reach.failed(TWO[0], "connect", TWO, began=10.0)
    reach.failed(TWO[0], "connect", TWO, began=20.0)
    found = reach.failed(TWO[1], "connect", TWO, began=21.0)
    assert found is not None
    assert found.began == 20.0


def test_one_answer_makes_all_begin_anew() -> None:
    reach = Reach()
    reach.failed(TWO[0], "connect", TWO, began=10.0)
    reach.answered(12.0)
    assert reach.failed(TWO[1], "connect", TWO, began=13.0) is None


def test_targets_that_are_gone_are_no_hope_and_no_fault() -> None:
    reach = Reach()
    assert reach.failed("tcp://gone:1", "connect", [*TWO, "tcp://gone:1"], began=1.0) is None
    assert reach.failed(TWO[0], "connect", TWO, began=2.0) is None
    assert reach.failed(TWO[1], "connect", TWO, began=3.0) is not None


@pytest.mark.parametrize("answered", [False, True])
def test_targets_that_are_refuted_say_nothing_until_one_answers(answered: bool) -> None:
    reach = Reach()
    reach.refuted = True
    if answered:
        reach.answered(1.0)
    assert (reach.failed("dns://one", "dns", ["dns://one"], began=3.0) is not None) is answered


# ---- our own reach -----------------------------------------------------------------------------------

TARGETS = ("tcp://one:443", "dns://two")
FATES = {"a1": 0, "a2": 0, "b": 1, "c": 2}


class Court:
    """A doubt with three providers, and what it announced."""

    def __init__(self) -> None:
        self.doubt = Doubt()
        self.doubt.apply(FATES)
        self.now = 0.0
        self.told: list[Suspicion | Cleared] = []

    def hear(
        self, endpoint: str, kind: Kind = "connect", *, at: float, by: str | None = None, began: float | None = None
    ) -> str:
        """One outcome; by `None` it is a probe."""
        self.now = at
        verdict = self.doubt.take(
            endpoint,
            Outcome(kind=kind),
            source="probe" if by is None else "report",
            reporter=by,
            began=at if began is None else began,
            ended=at,
            now=at,
            out=False,
        )
        self.note()
        return verdict

    def note(self) -> None:
        self.told += self.doubt.news
        self.doubt.news.clear()

    @property
    def suspect(self) -> bool:
        return self.doubt.own(self.now) is not None


@pytest.fixture
def court() -> Court:
    return Court()


def check(court: Court, *targets: str, at: float, fault: str | None = "connect", took: float = 1.0) -> None:
    """One check of each, which ends then."""
    court.now = at
    for target in targets:
        court.doubt.checked(target, fault, targets=TARGETS, began=at - took, now=at)
    court.note()


def test_when_no_target_answers_we_are_in_doubt_since_the_last_answer_of_any(court: Court) -> None:
    check(court, *TARGETS, at=10.0, fault=None)
    court.hear("a1", "success", at=11.0)
    court.hear("a1", at=15.0)
    check(court, TARGETS[0], at=20.0)
    assert court.told == []
    check(court, TARGETS[1], at=21.0, fault="dns")
    (found,) = court.told
    assert isinstance(found, Suspicion)
    assert (found.witness, found.rule, found.since) == (None, "unreached", 11.0)
    assert found.reason == "none of the 2 targets of self_check answers (connect, dns)"
    assert [each.endpoint for each in found.failures] == ["a1"]
    assert found.endpoints == set(FATES)
    assert court.hear("b", at=22.0) == "doubted"
    assert court.hear("b", "server_error", at=23.0) == "evidence"  # an answer came through


def test_a_target_that_answers_ends_it_and_what_hung_meanwhile_is_still_doubted(court: Court) -> None:
    check(court, *TARGETS, at=20.0)
    assert court.suspect
    check(court, TARGETS[0], at=30.0, fault=None)
    assert court.told[-1] == Cleared(None, f"{TARGETS[0]} answers again")
    assert court.hear("b", "timeout", began=25.0, at=35.0) == "doubted"
    assert court.hear("b", "timeout", began=31.0, at=41.0) == "evidence"


def test_one_provider_that_answers_may_stand_in_our_own_house(court: Court) -> None:
    check(court, *TARGETS, at=20.0)
    court.hear("a1", "success", at=21.0)
    assert court.suspect
    assert court.hear("b", at=22.0) == "doubted"
    assert court.hear("a1", at=23.0) == "evidence", "of it we know that it can be reached"


def test_two_that_answer_show_that_the_targets_are_wrong_until_one_of_these_answers(court: Court) -> None:
    check(court, *TARGETS, at=20.0)
    court.hear("a1", "success", at=21.0)
    court.hear("b", "server_error", at=22.0)
    assert court.told[-1] == Cleared(None, "providers answer, if no target of self_check does")
    check(court, *TARGETS, at=30.0)
    assert not court.suspect
    check(court, TARGETS[0], at=40.0, fault=None)
    check(court, *TARGETS, at=50.0)
    assert court.suspect


def test_a_provider_that_answered_meanwhile_speaks_against_checks_that_failed(court: Court) -> None:
    check(court, TARGETS[0], at=20.0)
    court.hear("a1", "success", at=20.5)
    check(court, TARGETS[1], at=21.0)
    assert court.told == []


def test_checks_that_stood_still_with_us_say_nothing(court: Court) -> None:
    court.doubt.stalled(since=10.0, now=70.0)
    court.note()
    told = list(court.told)
    check(court, *TARGETS, at=70.0, took=61.0)
    assert court.told == told


def test_it_lasts_for_as_long_as_checks_fail_though_nothing_else_is_heard(court: Court) -> None:
    for now in range(20, 20 + 3 * int(SILENCE), 10):
        check(court, *TARGETS, at=float(now))
        court.doubt.settle(court.now)
        court.note()
    assert len(court.told) == 1
    court.doubt.settle(court.now + SILENCE)
    court.note()
    assert isinstance(court.told[-1], Cleared)


def test_reporters_who_reach_nobody_either_share_our_network(court: Court) -> None:
    check(court, *TARGETS, at=20.0)
    assert court.hear("b", by="near", at=21.0) == "doubted"
    court.hear("c", "success", by="elsewhere", at=22.0)
    assert court.hear("b", by="elsewhere", at=23.0) == "evidence"
