"""Makers of small worlds for the core's tests: endpoints with every field at its plain default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balancer.core.balancer import Balancer
from balancer.core.model import Catalog, Endpoint, HealthPolicy, Model, Pricing, Provider, Routing
from balancer.core.outcome import Outcome
from balancer.core.request import Preferences, Request

MODEL = "author/slug"


def _endpoint(tag: str = "alpha", *, model: str = MODEL, price: float | None = 1.0, **fields: Any) -> Endpoint:
    provider = tag.partition("/")[0]
    given: dict[str, Any] = {
        "id": f"{model}@{tag}",
        "model": model,
        "tag": tag,
        "provider": provider,
        "provider_name": provider.title(),
        "upstream_model": "upstream",
        "base_url": f"https://{provider}.example/v1",
        "pricing": Pricing(prompt=price, completion=price),
        "identity": "1",
    }
    return Endpoint(**(given | fields))


def _catalog(
    *endpoints: Endpoint,
    aliases: dict[str, tuple[str, ...]] | None = None,
    routing: Routing | None = None,
    health: HealthPolicy | None = None,
) -> Catalog:
    models: dict[str, list[str]] = {}
    tags: dict[str, list[str]] = {}
    for each in endpoints:
        models.setdefault(each.model, []).append(each.id)
        tags.setdefault(each.provider, []).append(each.tag)
    names = {} if aliases is None else aliases
    return Catalog(
        providers={key: Provider(key=key, name=key.title(), tags=tuple(of)) for key, of in tags.items()},
        models={
            key: Model(id=key, name=key, aliases=names.get(key, ()), endpoints=tuple(ids))
            for key, ids in models.items()
        },
        endpoints={each.id: each for each in endpoints},
        routing=Routing() if routing is None else routing,
        health=HealthPolicy() if health is None else health,
    )


def _ask(model: str = MODEL, **fields: Any) -> Request:
    preferences = {key: fields.pop(key) for key in list(fields) if key in Preferences.__dataclass_fields__}
    return Request(model=model, provider=Preferences(**preferences), **fields)


def _fail(table: Balancer, tag: str, *, now: float, times: int = 5, kind: str = "server_error") -> None:
    for _ in range(times):
        table.record(f"{MODEL}@{tag}", Outcome(kind=kind, status=500), now=now)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def endpoint() -> Callable[..., Endpoint]:
    """Make an endpoint of `author/slug` from its tag."""
    return _endpoint


@pytest.fixture(scope="session")
def catalog() -> Callable[..., Catalog]:
    """Make a catalog from endpoints."""
    return _catalog


@pytest.fixture(scope="session")
def ask() -> Callable[..., Request]:
    """Make a request; fields of the preferences are given beside the others."""
    return _ask


@pytest.fixture(scope="session")
def fail() -> Callable[..., None]:
    """Report failures of one endpoint in a row."""
    return _fail


@pytest.fixture
def pair() -> Balancer:
    """A table of `author/slug`, alias `slug`, on the endpoints a and b."""
    return Balancer(_catalog(_endpoint("a"), _endpoint("b"), aliases={MODEL: ("slug",)}), seed=1)
