"""Which endpoints a drain means, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from balancer.core.drains import TARGETS_MAX, Drains, meant
from balancer.core.model import Endpoint, HealthPolicy, Model
from balancer.core.names import Names
from balancer.core.notes import Drain
from balancer.core.row import Row

MakeEndpoint = Callable[..., Endpoint]

MODEL = "author/slug"


@pytest.fixture
def rows(endpoint: MakeEndpoint) -> list[Row]:
    tags = [("alpha/eu", MODEL), ("alpha/us", MODEL), ("beta", MODEL), ("beta", "author/other")]
    return [Row(endpoint(tag, model=model), HealthPolicy(), random=Random(1), now=0.0) for tag, model in tags]


@pytest.fixture
def names() -> Names:
    return Names(
        [
            Model(id=MODEL, name="Slug", aliases=("slug",), endpoints=()),
            Model(id="author/other", name="", endpoints=()),
        ]
    )


@pytest.mark.parametrize(
    ("target", "key", "places"),
    [
        (f"{MODEL}@beta", f"{MODEL}@beta", [2]),
        ("alpha/eu", "alpha/eu", [0]),
        ("alpha", "alpha", [0, 1]),
        ("Beta", "beta", [2, 3]),
        (MODEL, MODEL, [0, 1, 2]),
        ("slug", MODEL, [0, 1, 2]),
    ],
)
def test_a_target_means_an_endpoint_a_tag_a_provider_or_a_model(
    rows: list[Row], names: Names, target: str, key: str, places: list[int]
) -> None:
    assert meant(target, rows, names) == (key, [rows[place] for place in places])


def test_a_target_that_means_nobody_is_refused(rows: list[Row], names: Names) -> None:
    with pytest.raises(KeyError, match="nobody"):
        meant("nobody", rows, names)


def test_each_row_is_handed_the_drains_that_mean_it(rows: list[Row]) -> None:
    drains = Drains()
    drains.begin(Drain("alpha", "new keys", 1.0, None), now=1.0)
    drains.begin(Drain("alpha/eu", "move", 2.0, 10.0), now=2.0)
    drains.assign(rows)
    assert [[each.reason for each in row.drains] for row in rows] == [["new keys", "move"], ["new keys"], [], []]
    assert drains.end("alpha", now=3.0)
    drains.assign(rows[:1])
    assert [[each.reason for each in row.drains] for row in rows[:2]] == [["move"], ["new keys"]]


def test_a_drain_ends_once_and_not_after_its_time() -> None:
    drains = Drains()
    drains.begin(Drain("alpha", "", 0.0, 10.0), now=0.0)
    drains.begin(Drain("beta", "", 0.0, None), now=0.0)
    assert [each.target for each in drains.holding(9.9)] == ["alpha", "beta"]
    assert [each.target for each in drains.holding(10.0)] == ["beta"]
    assert not drains.end("alpha", now=10.0)
    assert drains.end("beta", now=10.0)
    assert not drains.end("beta", now=10.0)


def test_a_new_drain_takes_the_place_of_the_old_and_those_that_ended_are_forgotten() -> None:
    drains = Drains()
    drains.begin(Drain("alpha", "first", 0.0, 5.0), now=0.0)
    drains.begin(Drain("beta", "second", 1.0, None), now=1.0)
    drains.begin(Drain("beta", "third", 6.0, None), now=6.0)
    assert {target: each.reason for target, each in drains.kept.items()} == {"beta": "third"}


def test_of_a_target_of_which_the_operator_spoke_no_saved_drain_comes_back(rows: list[Row]) -> None:
    drains, saved = Drains(), [Drain(target, "saved", -9.0, None) for target in ("alpha", "beta", "gamma")]
    drains.end("alpha", now=1.0)
    drains.begin(Drain("beta", "here", 1.0, 2.0), now=1.0)
    for each in saved:
        drains.restore(each, now=3.0)
    assert [each.target for each in drains.holding(3.0)] == ["gamma"]
    drains.restore(Drain("delta", "over", -9.0, 3.0), now=3.0)
    assert [each.target for each in drains.holding(1.5)] == ["beta", "gamma"]


def test_the_words_that_are_remembered_are_bounded() -> None:
    drains = Drains()
    for number in range(TARGETS_MAX + 1):
        drains.end(str(number), now=1.0)
    for number in range(2):
        drains.restore(Drain(str(number), "saved", -9.0, None), now=3.0)
    assert [each.target for each in drains.holding(3.0)] == ["0"]
