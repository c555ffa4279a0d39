from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.strategies import Candidate, Need

MakeCandidate = Callable[..., Candidate]


@pytest.mark.parametrize(
    ("prompt", "answer", "usd"),
    [
        (1_000_000, 0, 1.0),
        (0, 1_000_000, 8.0),
        (1000, 500, 0.005),
        (0, 0, 0.0),
        (1_000_000, 1_000_000, 9.0),
    ],
)
@pytest.mark.parametrize("unit", [None, 0.25])
def test_a_request_costs_its_tokens_at_their_prices_in_usd_whatever_the_unit(
    candidate: MakeCandidate, prompt: int, answer: int, usd: float, unit: float | None
) -> None:
    need = Need(prompt_tokens=prompt, completion_tokens=answer, unit=unit)
    assert need.costs([candidate("a", sent=1e-6, answered=8e-6)]) == pytest.approx([usd])


tokens = st.integers(0, 1_000_000)
price = st.floats(0, 1e-3)


@given(st.lists(st.tuples(price, price), max_size=5), tokens, tokens)
def test_costs_are_told_in_the_order_of_the_candidates(
    candidate: MakeCandidate, drawn: list[tuple[float, float]], prompt: int, answer: int
) -> None:
    candidates = [
        candidate(str(place), sent=sent, answered=answered) for place, (sent, answered) in enumerate(drawn)
    ]
    wanted = [sent * prompt + answered * answer for sent, answered in drawn]
    assert Need(prompt_tokens=prompt, completion_tokens=answer).costs(candidates) == pytest.approx(wanted)


def test_an_ordinary_request_does_not_explore() -> None:
    assert Need(prompt_tokens=1, completion_tokens=1).explore is False


def test_candidates_are_compared_among_themselves_where_nothing_else_is_told() -> None:
    assert Need(prompt_tokens=1, completion_tokens=1).unit is None
