"""Means, and how far they can be trusted: held to the tables of textbooks."""

import pytest

from balancer.simulation.intervals import interval, quantile, within


@pytest.mark.parametrize(
    ("freedom", "t"),
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (19, 2.093),
        (30, 2.042),
        (120, 1.980),
    ],
)
def test_t_at_95_percent_is_the_textbooks(freedom, t):
    assert quantile(freedom) == pytest.approx(t, abs=5e-4)


@pytest.mark.parametrize(
    ("freedom", "confidence", "t"), [(4, 0.99, 4.604), (10, 0.9, 1.812), (1, 0.5, 1.0), (7, 0.999, 5.408)]
)
def test_t_at_other_confidences_is_the_textbooks(freedom, confidence, t):
    assert quantile(freedom, confidence) == pytest.approx(t, abs=5e-4)


def test_many_degrees_of_freedom_are_the_normal_distribution():
    assert quantile(100_000) == pytest.approx(1.95996, abs=1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 31])
def test_the_chance_within_t_grows_from_nothing_to_all(freedom):
    chances = [within(t, freedom) for t in (0.0, 0.5, 1.0, 2.0, 10.0, 1e9)]
    assert chances[0] == 0
    assert chances == sorted(chances)
    assert chances[-1] == pytest.approx(1)


def test_no_values_have_no_mean():
    assert interval([]) is None


def test_one_value_has_a_mean_and_no_bounds():
    assert interval([3.5]) == (3.5, None, None)


def test_equal_values_leave_no_doubt():
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_the_bounds_are_t_standard_errors_around_the_mean():
    # Mean 3, standard deviation √2.5, so 3 ± 2.776 × 0.70711.
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, low, high) == pytest.approx((3.0, 1.0368, 4.9632), abs=1e-4)


def test_the_order_of_values_does_not_matter():
    assert interval([0.1, 0.2, 0.3, 1e9]) == interval([1e9, 0.3, 0.1, 0.2])
