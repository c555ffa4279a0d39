from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.fates import shared_fates
from balancer.core.model import Endpoint

MakeEndpoint = Callable[..., Endpoint]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("alpha/eu", "https://eu.alpha.example/v1"), ("alpha/us", "https://us.alpha.example/v1"), True),
        (("alpha", "https://alpha.example/v1"), ("beta", "https://beta.example/v1"), False),
        (("alpha", "https://cloud.example/alpha"), ("beta", "https://cloud.example/beta"), True),
        (("alpha", "https://Cloud.Example/v1"), ("beta", "https://cloud.example/v1"), True),
        (("alpha", "https://key@cloud.example/v1"), ("beta", "https://cloud.example/v1"), True),
        (("alpha", "http://127.0.0.1:8001/v1"), ("beta", "http://127.0.0.1:8002/v1"), False),
        (("alpha", "http://127.0.0.1:8001/v1"), ("beta", "http://127.0.0.1:8001/v2"), True),
    ],
    ids=["a provider", "nothing", "a host", "a host in any case", "a host with a user", "two ports", "a port"],
)
def test_what_shares_a_provider_or_a_host_shares_its_fate(
    endpoint: MakeEndpoint, one: tuple[str, str], other: tuple[str, str], shared: bool
) -> None:
    first, second = (endpoint(tag, base_url=url) for tag, url in (one, other))
    fates = shared_fates([first, second])
    assert (fates[first.id] == fates[second.id]) == shared


def test_fates_are_shared_through_a_third(endpoint: MakeEndpoint) -> None:
    chain = [
        endpoint("alpha", base_url="https://one.example"),
        endpoint("alpha/eu", base_url="https://two.example"),
        endpoint("beta", base_url="https://two.example"),
        endpoint("gamma", base_url="https://three.example"),
    ]
    assert list(shared_fates(chain).values()) == [0, 0, 0, 1]


def test_one_provider_of_many_models_has_one_fate(endpoint: MakeEndpoint) -> None:
    both = [endpoint("alpha"), endpoint("alpha", model="author/other")]
    assert list(shared_fates(both).values()) == [0, 0]


pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(pairs)
def test_numbers_are_dense_and_the_order_of_endpoints_joins_and_parts_nobody(
    endpoint: MakeEndpoint, world: list[tuple[int, int]]
) -> None:
    endpoints = [
        endpoint(f"p{provider}/{place}", base_url=f"https://h{host}.example/v1")
        for place, (provider, host) in enumerate(world)
    ]
    fates = shared_fates(endpoints)
    assert set(fates) == {each.id for each in endpoints}
    assert sorted(set(fates.values())) == list(range(len(set(fates.values()))))
    backwards = shared_fates(reversed(endpoints))
    for one in endpoints:
        for other in endpoints:
            assert (fates[one.id] == fates[other.id]) == (backwards[one.id] == backwards[other.id])
            if one.provider == other.provider or one.base_url == other.base_url:
                assert fates[one.id] == fates[other.id]
