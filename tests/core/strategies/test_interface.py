from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.strategies import Candidate, Need

MakeCandidate = Callable[..., Candidate]
PRICES = ((1e-6, 8e-6), (2e-6, 8e-6), (4e-6, 1.2e-5))


@pytest.mark.parametrize(
    ("span", "prompt", "answer", "usd"),
    [
        (0, 1_000_000, 0, 1.0),
        (0, 0, 1_000_000, 8.0),
        (0, 1000, 500, 0.005),
        (0, 0, 0, 0.0),
        (1, 1_000_000, 0, 2.0),
        (1, 1_000_000, 1_000_000, 10.0),
        (2, 1_000_000, 1_000_000, 16.0),
    ],
)
def test_a_request_costs_its_tokens_at_the_prices_of_its_span(
    candidate: MakeCandidate, span: int, prompt: int, answer: int, usd: float
) -> None:
    each = candidate("a", sent=PRICES[0][0], answered=PRICES[0][1], prices=PRICES)
    need = Need(prompt_tokens=prompt, completion_tokens=answer, span=span)
    assert need.costs([each]) == pytest.approx([usd])


tokens = st.integers(0, 1_000_000)
price = st.floats(0, 1e-3)


@given(st.lists(st.tuples(price, price), max_size=5), tokens, tokens)
def test_costs_are_told_in_the_order_of_the_candidates(
    candidate: MakeCandidate, drawn: list[tuple[float, float]], prompt: int, answer: int
) -> None:
    # In the first span the plain fields are read, in the others the table: they are the same prices.
    plain = [candidate(str(place), sent=sent, answered=answered) for place, (sent, answered) in enumerate(drawn)]
    table = [candidate(str(place), sent=1.0, prices=((1.0, 1.0), each)) for place, each in enumerate(drawn)]
    wanted = [sent * prompt + answered * answer for sent, answered in drawn]
    assert Need(prompt_tokens=prompt, completion_tokens=answer).costs(plain) == pytest.approx(wanted)
    assert Need(prompt_tokens=prompt, completion_tokens=answer, span=1).costs(table) == pytest.approx(wanted)


def test_an_ordinary_request_does_not_explore() -> None:
    assert Need(prompt_tokens=1, completion_tokens=1).explore is False
