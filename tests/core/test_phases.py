from __future__ import annotations

from typing import get_args

import pytest

from balancer.core.phases import CAUSES, TRANSITIONS, Cause, Change, Event, Lease, Phase

PHASES: tuple[Phase, ...] = get_args(Phase)
EVENTS: tuple[Event, ...] = get_args(Event)


def test_the_table_is_exactly_these_nine_rows() -> None:
    assert dict(TRANSITIONS) == {
        ("closed", "trip"): "ejected",
        ("recovering", "trip"): "ejected",
        ("recovering", "ramped"): "closed",
        ("ejected", "lease"): "half_open",
        ("ejected", "pass"): "recovering",
        ("ejected", "fail"): "ejected",
        ("half_open", "pass"): "recovering",
        ("half_open", "fail"): "ejected",
        ("half_open", "lapse"): "ejected",
    }


def test_the_table_knows_every_phase_and_every_event_and_no_other() -> None:
    assert {phase for phase, _ in TRANSITIONS} == set(TRANSITIONS.values()) == set(PHASES)
    assert {event for _, event in TRANSITIONS} == set(EVENTS)


@pytest.mark.parametrize("start", PHASES)
def test_from_every_phase_there_is_a_way_to_every_other(start: Phase) -> None:
    reached = {start}
    for _ in PHASES:
        reached |= {to for (phase, _), to in TRANSITIONS.items() if phase in reached}
    assert reached == set(PHASES)


def test_nobody_is_back_in_service_without_a_trial() -> None:
    into = {to: {phase for (phase, _), at in TRANSITIONS.items() if at == to} for to in PHASES}
    assert into["closed"] == {"recovering"}
    assert {event for (_, event), to in TRANSITIONS.items() if to == "recovering"} == {"pass"}


def test_the_causes_are_a_closed_list_without_repeats() -> None:
    assert get_args(Cause) == CAUSES
    assert len(set(CAUSES)) == len(CAUSES) == 8


def test_an_ejection_has_a_cause_and_other_changes_have_none() -> None:
    assert Change("endpoint.readmitted", "trial passed").cause is None
    assert Change("endpoint.ejected", "trial failed (500)", "failed_trial").cause in CAUSES
    assert Lease("dec_1", 5.0, due=True) == Lease(decision="dec_1", expires=5.0, due=True)
