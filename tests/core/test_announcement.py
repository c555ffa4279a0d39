"""What a status page's word counts for: nothing beside what was seen, something where nothing was."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.announcement import FRESH, LEVELS, OUTRANKED, RISKS, Announcement

SAID = Announcement("partial_outage", "API", 1000.0, 90_000.0)


@pytest.mark.parametrize(
    ("seen", "now", "counts"),
    [
        (-inf, 1000.0, True),  # nothing was ever seen
        (700.0, 1000.0, True),  # before the page said it, and not lately
        (990.0, 1000.0, False),  # who has traffic is judged by it
        (990.0, 990.0 + FRESH, True),
        (1000.0, 1000.0 + FRESH, False),  # seen since the page said it: that is newer
        (1000.0, 999.0 + OUTRANKED, False),
        (1000.0, 1000.0 + OUTRANKED, True),
        (-inf, 89_999.0, True),
        (-inf, 90_000.0, False),  # nobody has read the page for too long
    ],
)
def test_it_counts_only_where_nothing_better_is_known(seen: float, now: float, counts: bool) -> None:
    assert SAID.counts(seen, now) is counts
    assert SAID._replace(level="operational").counts(seen, now) is False


@given(st.floats(0.0, 100_000.0) | st.just(-inf), st.floats(0.0, 100_000.0))
def test_it_is_told_when_time_alone_changes_that(seen: float, now: float) -> None:
    moment = SAID.changes_at(seen, now)
    then = now + 1e6 if moment == inf else moment
    assert then > now
    assert SAID.counts(seen, then) is (SAID.counts(seen, now) is (moment == inf))
    for share in (0.25, 0.5, 0.999):
        assert SAID.counts(seen, now + share * (then - now)) is SAID.counts(seen, now)


@given(st.sampled_from(LEVELS), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_its_risk_joins_the_chance_of_failure_as_a_cause_of_its_own(
    level: str, base: float, share: float, prior: float
) -> None:
    slope = (1.0 - base) * share
    said = Announcement(level, "", 0.0, 1.0)  # type: ignore[arg-type]
    risen, steeper = said.risen(base, slope)
    chance = base + slope * prior
    assert risen + steeper * prior == pytest.approx(1 - (1 - chance) * (1 - RISKS[said.level]))
    assert chance - 1e-12 <= risen + steeper * prior <= 1.0 + 1e-12


def test_levels_stand_from_good_to_bad() -> None:
    assert [RISKS[level] for level in LEVELS] == sorted(RISKS.values())
    assert RISKS["operational"] == 0.0


def test_it_is_told_in_words() -> None:
    assert SAID.told == "its status page says partial outage (API)"
    assert SAID._replace(detail="").told == "its status page says partial outage"
