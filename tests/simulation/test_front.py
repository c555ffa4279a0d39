"""Loss against cost: who lies below our front, at its points, between them and beyond."""

import pytest

from balancer.simulation.front import Point, average, front, lost_at, verdicts

OURS = [Point("15", 1.05, 40.0), Point("2", 1.02, 100.0), Point("40", 1.1, 30.0)]


def other(cost, lost):
    return Point("other", cost, lost)


def test_the_front_goes_from_cheap_to_dear_without_the_beaten():
    beaten = Point("worse", 1.07, 41.0)
    assert [point.policy for point in front([*OURS, beaten])] == ["2", "15", "40"]


def test_of_two_points_at_one_cost_the_one_that_loses_less_is_the_front():
    assert front([Point("a", 1.0, 5.0), Point("b", 1.0, 4.0)]) == [Point("b", 1.0, 4.0)]


@pytest.mark.parametrize(
    ("cost", "lost"),
    [(1.0, 100.0), (1.02, 100.0), (1.035, 70.0), (1.05, 40.0), (1.075, 35.0), (1.1, 30.0), (1.5, 30.0)],
)
def test_between_two_points_the_front_is_the_line(cost, lost):
    assert lost_at(front(OURS), cost) == pytest.approx(lost)


@pytest.mark.parametrize("cost", [1.0, 1.05, 2.0])
def test_a_front_of_one_point_is_level(cost):
    assert lost_at([Point("15", 1.05, 40.0)], cost) == 40


@pytest.mark.parametrize(
    ("cost", "lost", "below"),
    [
        (1.035, 69.0, True),
        (1.035, 71.0, False),
        (1.05, 40.0, False),  # on it
        (2.0, 29.0, True),
        (2.0, 31.0, False),
        (1.015, 101.0, False),  # cheaper than all of ours, and loses more
        (1.015, 99.0, True),  # cheaper, and loses less
    ],
)
def test_below_is_who_loses_less_at_its_cost(cost, lost, below):
    (verdict,) = verdicts([[point] for point in OURS], [[other(cost, lost)]])
    assert verdict.below is below
    assert verdict.difference.low is None


def test_who_takes_the_cheapest_is_not_judged_and_without_a_front_nobody_is():
    assert verdicts([[point] for point in OURS], [[other(1.01, 0.0)]]) == []
    assert verdicts([], [[other(1.5, 0.0)]]) == []


def test_each_seed_has_a_front_of_its_own():
    # Everybody loses ten more with the second seed: that is the seed, not a difference.
    ours = [[Point("15", 1.05, 40.0), Point("15", 1.05, 50.0)]]
    (verdict,) = verdicts(ours, [[other(1.2, 37.0), other(1.2, 47.0)]])
    assert verdict.point == ("other", 1.2, 42.0)
    assert verdict.difference == (-3, -3, -3)
    (unsure,) = verdicts(ours, [[other(1.2, 37.0), other(1.2, 51.0)]])
    assert unsure.below
    assert unsure.difference.mean == -1
    assert unsure.difference.high > 0


def test_an_average_is_of_costs_and_losses():
    assert average([other(1.0, 10.0), other(1.5, 30.0)]) == other(1.25, 20.0)
