"""A table to take views of, and a reader of the text."""

from collections.abc import Callable, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, HealthPolicy, Model, Provider

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def _catalog(
    *providers: str,
    model: str = "acme/small",
    windows: tuple[float, ...] = (30.0, 300.0),
    enforce: bool = True,
) -> Catalog:
    endpoints = {
        f"{model}@{provider}": Endpoint(
            id=f"{model}@{provider}",
            model=model,
            tag=provider,
            provider=provider,
            provider_name=provider.title(),
            upstream_model="small",
            base_url="https://example.test/v1",
        )
        for provider in providers
    }
    return Catalog(
        providers={each.provider: Provider(key=each.provider, name=each.provider) for each in endpoints.values()},
        models={model: Model(id=model, name="Small", endpoints=tuple(endpoints))},
        endpoints=endpoints,
        health=HealthPolicy(windows=windows, enforce=enforce),
    )


@pytest.fixture
def catalog() -> Callable[..., Catalog]:
    """Make a catalog of one model with an endpoint at each of the given providers."""
    return _catalog


@pytest.fixture
def table() -> Balancer:
    """A table of one model at two providers, `near` and `far`."""
    return Balancer(_catalog("near", "far"), seed=1)


@pytest.fixture
def samples() -> Callable[[bytes], Samples]:
    """Read text with prometheus_client's parser: (name, labels) → value."""

    def read(body: bytes) -> Samples:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    return read
