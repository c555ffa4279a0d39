from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.peak import PEAK_DECAY, PeakEwma


def test_a_peak_is_believed_at_once_and_fades_over_minutes() -> None:
    peak = PeakEwma()
    assert peak.value(0.0) is None
    peak.record(0.0, 1.0)
    peak.record(1.0, 20.0)
    assert peak.value(1.0) == 20.0
    peak.record(11.0, 1.0)
    found = peak.value(11.0)
    assert found is not None
    assert 18.0 < found < 20.0
    assert peak.value(11.0 + PEAK_DECAY) == pytest.approx(found * exp(-1))


def test_a_peak_that_is_told_late_counts_as_what_is_left_of_it() -> None:
    peak = PeakEwma()
    peak.record(100.0, 1.0)
    peak.record(100.0 - PEAK_DECAY, 20.0)
    assert peak.value(100.0) == pytest.approx(20.0 * exp(-1))
    peak.record(50.0, 0.5)
    assert peak.value(100.0) == pytest.approx(20.0 * exp(-1))


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 3600)), min_size=1, max_size=30), st.floats(0, 2000))
def test_a_peak_lies_between_nothing_and_the_largest_value(
    recorded: list[tuple[float, float]], later: float
) -> None:
    peak = PeakEwma()
    for ended, value in recorded:
        peak.record(ended, value)
        assert peak.value(ended) == peak.value(ended)
    newest = max(ended for ended, _ in recorded)
    found = peak.value(newest + later)
    assert found is not None
    assert 0.0 <= found <= max(value for _, value in recorded) * (1 + 1e-9)
    before = peak.value(newest)
    assert before is not None
    assert found <= before
