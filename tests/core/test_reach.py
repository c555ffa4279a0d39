"""When nothing that the operator named can be reached, and when that is the targets' own fault."""

from __future__ import annotations

from math import inf

import pytest

from balancer.core.doubt import SILENCE, UNREACHED_MAX, Doubt
from balancer.core.outcome import Kind, Outcome
from balancer.core.reach import LATELY, Reach, Unreached
from balancer.core.witness import Cleared, Suspicion

TWO = ("tcp://one:443", "tcp://two:443")


def reach_of(*targets: str) -> Reach:
    reach = Reach()
    assert reach.retain(targets)
    assert not reach.retain(targets)
    return reach


def test_the_last_hope_that_fails_twice_is_told_with_the_last_answer_of_any() -> None:
    reach = reach_of(*TWO)
    reach.good(5.0)
    assert reach.failed(TWO[0], "connect", began=10.0) is None
    assert reach.failed(TWO[1], "timeout", began=11.0) is None
    assert reach.failed(TWO[0], "connect", began=20.0) is None, "a lost packet takes one check with it"
    found = reach.failed(TWO[1], "timeout", began=21.0)
    assert found == Unreached(20.0, 5.0, "none of the 2 targets of self_check answers (connect, timeout)")


def test_where_none_ever_answered_it_begins_with_the_first_check() -> None:
    reach = reach_of("dns://one")
    reach.failed("dns://one", "dns", began=3.0)
    found = reach.failed("dns://one", "dns", began=13.0)
    assert found == Unreached(13.0, 3.0, "the target of self_check does not answer (dns)")


def test_one_answer_makes_all_begin_anew() -> None:
    reach = reach_of(*TWO)
    for began in (10.0, 20.0):
        reach.failed(TWO[0], "connect", began=began)
    reach.good(21.0)
    for began in (22.0, 32.0):
        assert reach.failed(TWO[1], "connect", began=began) is None


def test_of_other_targets_nothing_is_known() -> None:
    reach = reach_of(*TWO)
    reach.good(1.0)
    for began in (2.0, 12.0):
        reach.failed(TWO[0], "connect", began=began)
    assert reach.retain([TWO[1]])
    assert reach.answered == -inf
    for began in (22.0, 32.0):
        assert reach.failed(TWO[0], "connect", began=began) is None, "a check that was under way"
    assert reach.failed(TWO[1], "connect", began=22.0) is None
    assert reach.failed(TWO[1], "connect", began=32.0) is not None
    assert reach.retain([])
    assert reach.failed(TWO[1], "connect", began=42.0) is None


@pytest.mark.parametrize("answered", [False, True])
def test_targets_that_are_refuted_say_nothing_until_one_answers(answered: bool) -> None:
    reach = reach_of("dns://one")
    reach.refuted = True
    if answered:
        reach.good(1.0)
    reach.failed("dns://one", "dns", began=3.0)
    assert (reach.failed("dns://one", "dns", began=13.0) is not None) is answered


# ---- our own reach -----------------------------------------------------------------------------------

TARGETS = ("tcp://one:443", "dns://two")
FATES = {"a1": 0, "a2": 0, "b": 1, "c": 2}


class Court:
    """A doubt with three providers, and what it announced."""

    def __init__(self) -> None:
        self.doubt = Doubt()
        self.doubt.apply(FATES)
        self.doubt.retain_targets(TARGETS, 0.0)
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
    """The last two checks of each, which end then, or one that was answered."""
    court.now = at
    for number, target in enumerate((*targets, *targets) if fault is not None else targets):
        began = at - took + number / 1000
        court.doubt.checked(target, fault, began=began, now=at)
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
    assert court.told[-1] == Cleared(None, f"{TARGETS[0]} answers")
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


def test_who_answered_last_before_the_cut_is_not_said_to_answer_through_it(court: Court) -> None:
    court.hear("a1", "success", at=11.0)
    check(court, *TARGETS, at=20.0)
    assert court.suspect
    assert court.hear("a1", "timeout", at=22.0) == "doubted"
    court.hear("b", "success", at=23.0)
    assert court.suspect, "that is one"


def test_one_provider_that_goes_on_answering_for_a_quarter_of_an_hour_ends_it(court: Court) -> None:
    check(court, *TARGETS, at=20.0)
    for now in range(30, 20 + int(UNREACHED_MAX) + 30, 30):
        court.hear("a1", "success", at=float(now))
    assert not court.suspect
    assert court.hear("b", at=court.now + 1.0) == "evidence"


def test_other_targets_end_it(court: Court) -> None:
    check(court, *TARGETS, at=20.0)
    court.doubt.retain_targets((), 21.0)
    court.note()
    assert court.told[-1] == Cleared(None, "other targets are checked now")
    assert not court.suspect


def test_it_takes_the_place_of_a_stall(court: Court) -> None:
    court.doubt.stalled(since=10.0, now=70.0)
    check(court, *TARGETS, at=90.0)
    found = court.doubt.own(90.0)
    assert found is not None
    assert found.rule == "unreached"


def test_while_a_target_answers_two_providers_that_do_not_are_down(court: Court) -> None:
    check(court, TARGETS[0], at=5.0, fault=None)
    told = []
    for number in range(12):
        told.append(court.hear("a1" if number % 2 else "b", at=10.0 + number))
        check(court, TARGETS[0], at=10.5 + number, fault=None)
    assert told == ["evidence"] * 12


def test_while_targets_answer_outages_raise_no_doubt_again_and_again(court: Court) -> None:
    check(court, TARGETS[0], at=1.0, fault=None)
    for second in range(2, 120):
        if second % 15 == 0:
            check(court, TARGETS[0], at=float(second), fault=None)
        assert court.hear(("a1", "b", "c")[second % 3], at=second + 0.5) == "evidence"
    assert court.told == []


def test_a_reporters_doubt_is_not_ours(court: Court) -> None:
    for number in range(5):
        court.hear("a1" if number % 2 else "b", at=10.0 + number)
    assert court.suspect
    court.hear("c", "local", at=16.0, by="near")
    check(court, TARGETS[0], at=20.0, fault=None)
    assert not court.suspect


def test_an_answer_of_long_ago_speaks_for_nothing(court: Court) -> None:
    check(court, TARGETS[0], at=1.0, fault=None)
    for number in range(5):
        court.hear("a1" if number % 2 else "b", at=1.0 + LATELY + number)
    assert court.suspect


def test_a_target_that_answers_ends_a_doubt_that_providers_raised_unless_it_is_of_this_machine(
    court: Court,
) -> None:
    for number in range(5):
        court.hear("a1" if number % 2 else "b", at=10.0 + number)
    assert court.suspect
    check(court, TARGETS[0], at=20.0, fault=None)
    assert not court.suspect
    court.hear("c", "local", at=30.0)
    assert court.suspect
    check(court, TARGETS[0], at=31.0, fault=None)
    assert court.suspect


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
