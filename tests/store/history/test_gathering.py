"""What waits in memory: merged, bounded, and what had to go is counted."""

from __future__ import annotations

from balancer.core.history import Moment, bucket
from balancer.core.outcome import Outcome
from balancer.store.history.gathering import Gathering

GOOD = Outcome(kind="success", latency=1.0, prompt_tokens=100, completion_tokens=7)
BAD = Outcome(kind="timeout")


def moment(reason: str) -> Moment:
    return Moment(
        at=1.0, event="endpoint.ejected", endpoint="m@a", model="m", provider=None, reporter=None, state="ejected",
        reason=reason, next_at=None, enforced=True,
    )  # fmt: skip


def test_outcomes_of_one_minute_and_kind_are_one_row() -> None:
    gathering = Gathering()
    for cost in (0.5, None, 0.25):
        gathering.outcome("m@a", GOOD, source="report", wall=119.9, cost=cost)
    gathering.outcome("m@a", BAD, source="probe", wall=120.0)
    batch = gathering.take()
    assert batch is not None
    assert batch.size == 4
    assert list(batch.minutes) == [1, 2]
    (row,) = batch.minutes[1].rows.items()
    assert row[0] == ("m@a", "report", "success", bucket(1.0))
    assert (row[1].count, row[1].prompt_tokens, row[1].completion_tokens, row[1].cost) == (3, 300, 21, 0.75)
    (row,) = batch.minutes[2].rows.items()
    assert row[0] == ("m@a", "probe", "timeout", None)
    assert (row[1].count, row[1].prompt_tokens, row[1].cost) == (1, None, None)


def test_what_was_taken_is_not_taken_again() -> None:
    gathering = Gathering()
    assert gathering.take() is None
    gathering.outcome("m@a", GOOD, source="report", wall=60.0)
    first = gathering.take()
    gathering.outcome("m@a", GOOD, source="report", wall=60.0)
    second = gathering.take()
    assert first is not None
    assert second is not None
    assert (first.size, second.size, gathering.take()) == (1, 1, None)


def test_beyond_the_rows_the_oldest_minute_goes_whole_and_is_counted() -> None:
    gathering = Gathering(rows_max=3)
    for wall in (60.0, 60.0, 120.0, 180.0):
        gathering.outcome("m@a", GOOD, source="report", wall=wall)
    assert gathering.dropped == 0
    gathering.outcome("m@a", BAD, source="report", wall=180.0)
    assert gathering.dropped == 2
    gathering.outcome("m@a", BAD, source="report", wall=30.0)  # the oldest is the one that just came
    assert gathering.dropped == 3
    gathering.outcome("m@a", GOOD, source="report", wall=30.0)
    assert gathering.dropped == 4
    batch = gathering.take()
    assert batch is not None
    assert {number: minute.count for number, minute in batch.minutes.items()} == {2: 1, 3: 2}


def test_a_minute_that_is_too_large_by_itself_is_bounded_too() -> None:
    gathering = Gathering(rows_max=100)
    for number in range(1000):
        gathering.outcome(f"m@{number}", GOOD, source="report", wall=60.0)
    batch = gathering.take()
    assert batch is not None
    assert batch.size <= 100
    assert batch.size + gathering.dropped == 1000


def test_of_too_many_transitions_the_oldest_go_and_are_counted() -> None:
    gathering = Gathering(moments_max=2)
    for reason in "abc":
        gathering.transition(moment(reason))
    batch = gathering.take()
    assert batch is not None
    assert [each.reason for each in batch.moments] == ["b", "c"]
    assert gathering.dropped == 1
