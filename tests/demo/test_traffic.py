"""The blind way on real mocks. The balanced way needs the daemon: `test_run.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from balancer.demo.ledger import Ledger
from balancer.demo.mock import Mock
from balancer.demo.traffic import RoundRobin, Target, session

KEYS = ("a", "b", "c")


@pytest.fixture
async def mocks() -> AsyncIterator[list[Mock]]:
    async with AsyncExitStack() as stack:
        made = [Mock(key, model="llama", seed=7) for key in KEYS]
        for mock in made:
            await mock.start()
            stack.push_async_callback(mock.stop)
        yield made


async def send(mocks: list[Mock], numbers: range) -> Ledger:
    ledger = Ledger(KEYS)
    targets = [Target(provider=mock.key, base_url=mock.base_url, model=mock.model) for mock in mocks]
    async with session() as client:
        blind = RoundRobin(targets, ledger=ledger, client=client)
        for number in numbers:
            await blind.send(number)
    return ledger


async def test_round_robin_takes_each_provider_in_turn(mocks: list[Mock]) -> None:
    score = (await send(mocks, range(6))).scores["round_robin"]
    assert dict(score.first_tries) == {"a": 2, "b": 2, "c": 2}
    assert (score.requests, score.first_errors, score.lost) == (6, 0, 0)


async def test_a_second_try_at_the_next_provider_saves_the_request(mocks: list[Mock]) -> None:
    await mocks[2].become("error")
    score = (await send(mocks, range(6))).scores["round_robin"]
    assert (score.requests, score.first_errors, score.lost) == (6, 2, 0)
    assert dict(score.failed_tries) == {"c": 2}


async def test_two_ill_neighbours_lose_the_requests_of_the_first(mocks: list[Mock]) -> None:
    await mocks[1].become("refuse")
    await mocks[2].become("limited")
    score = (await send(mocks, range(6))).scores["round_robin"]
    assert (score.requests, score.first_errors, score.lost) == (6, 4, 2)
    assert dict(score.failed_tries) == {"b": 2, "c": 4}
