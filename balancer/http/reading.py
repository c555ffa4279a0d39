"""Pictures of the table over HTTP: models, providers, endpoints, and the configuration in force.

Theory of operation: every handler takes one snapshot at one moment, so that what an answer says in one place
agrees with what it says in another.

What this module does not know: how a snapshot is made, and secrets: `/v1/config` names what it shows, piece by
piece, and of a credential only the place where it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from msgspec import Struct

from balancer.config import LogSettings, ProbeSettings, TlsSettings
from balancer.config.secret import Absent, Secret
from balancer.config.settings import StoreSettings
from balancer.core.model import STATES, HealthPolicy, Model, Routing
from balancer.core.view import EndpointView
from balancer.http.answers import Refused, answer
from balancer.http.api import Ask
from balancer.http.hands import Hands
from balancer.http.pictures import (
    EndpointList,
    ModelList,
    endpoint_detail,
    endpoint_item,
    model_detail,
    model_item,
)
from balancer.http.providers import ProviderList, provider_item
from balancer.http.query import pairs, single
from balancer.http.words import close, hint, shown

_HIDDEN: Final = "***"


class TokenItem(Struct, kw_only=True):
    """Who may do what; never the token itself."""

    name: str
    scopes: list[str]


class ConfigAnswer(Struct, kw_only=True):
    """The configuration in force. `generation` grows by one with every reload. Secrets are left out."""

    generation: int
    listen: list[str]
    tls: TlsSettings | None
    tokens: list[TokenItem]
    state_dir: str | None
    store: StoreSettings
    log: LogSettings
    routing: Routing
    health: HealthPolicy
    providers: list[dict[str, Any]]
    models: list[dict[str, Any]]
    endpoints: list[dict[str, Any]]
    lookouts: list[dict[str, Any]]


class Reading:
    """The handlers."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    async def models(self, ask: Ask) -> web.StreamResponse:
        """Every model."""
        pairs(ask.query, ())
        balancer = self._hands.balancer
        view = balancer.view(now=self._hands.clock())
        catalog = balancer.catalog
        return answer(ModelList(models=[model_item(catalog.models[each.id], each) for each in view.models]))

    async def model(self, ask: Ask) -> web.StreamResponse:
        """One model, by id or alias."""
        model = self._model(_id(ask))
        now = self._hands.clock()
        view = self._hands.balancer.view(now=now)
        (counts,) = [each for each in view.models if each.id == model.id]
        endpoints = [endpoint_item(each, now) for each in view.endpoints if each.endpoint.model == model.id]
        return answer(model_detail(model, counts, endpoints))

    async def providers(self, ask: Ask) -> web.StreamResponse:
        """Every provider."""
        pairs(ask.query, ())
        balancer = self._hands.balancer
        view = balancer.view(now=self._hands.clock())
        of: dict[str, list[EndpointView]] = {key: [] for key in balancer.catalog.providers}
        for each in view.endpoints:
            of[each.endpoint.provider].append(each)
        said = view.announcements
        return answer(
            ProviderList(
                providers=[
                    provider_item(provider, of[key], said.get(key), view.now)
                    for key, provider in balancer.catalog.providers.items()
                ]
            )
        )

    async def endpoints(self, ask: Ask) -> web.StreamResponse:
        """Endpoints, all or of one model, provider (or tag) and state."""
        asked = single(ask.query, ("model", "provider", "state"))
        model, provider, state = asked.get("model"), asked.get("provider"), asked.get("state")
        if state is not None and state not in STATES:
            raise Refused(400, f"state: {shown(state)} is not a state; {hint(state, STATES)}")
        wanted = None if model is None else self._model(model).id
        if provider is not None:
            self._know_provider(provider)
        now = self._hands.clock()
        return answer(
            EndpointList(
                endpoints=[
                    endpoint_item(view, now)
                    for view in self._hands.balancer.view(now=now).endpoints
                    if wanted in (None, view.endpoint.model)
                    and provider in (None, view.endpoint.provider, view.endpoint.tag)
                    and state in (None, view.state)
                ]
            )
        )

    async def endpoint(self, ask: Ask) -> web.StreamResponse:
        """One endpoint, by id."""
        key = _id(ask)
        balancer = self._hands.balancer
        if key not in balancer.catalog.endpoints:
            raise unknown_endpoint(key, self._hands)
        now = self._hands.clock()
        return answer(endpoint_detail(balancer.endpoint(key, now=now), now))

    async def config(self, ask: Ask) -> web.StreamResponse:
        """The configuration in force, without its secrets."""
        pairs(ask.query, ())
        config = self._hands.config()
        return answer(
            ConfigAnswer(
                generation=self._hands.balancer.generation,
                listen=[str(each) for each in config.listen],
                tls=config.tls,
                tokens=[TokenItem(name=each.name, scopes=sorted(each.scopes)) for each in config.tokens],
                state_dir=config.state_dir,
                store=config.store,
                log=config.log,
                routing=config.routing,
                health=config.health,
                providers=[_builtins(each) for each in config.providers.values()],
                models=[_builtins(each) for each in config.models.values()],
                endpoints=[
                    _endpoint(_builtins(each), config.probes.get(key)) for key, each in config.endpoints.items()
                ],
                lookouts=[
                    {
                        "id": key,
                        "address": _address(_masked(each.endpoint.base_url, each.settings)),
                        "probe": _probe(each.settings),
                    }
                    for key, each in config.lookouts.items()
                ],
            )
        )

    def _model(self, name: str) -> Model:
        models = self._hands.balancer.catalog.models
        word = name.lower()
        for model in models.values():
            if word == model.id or word in model.aliases:
                return model
        raise unknown_model(name, self._hands)

    def _know_provider(self, name: str) -> None:
        providers = self._hands.balancer.catalog.providers
        if name not in providers and not any(name in each.tags for each in providers.values()):
            raise Refused(404, f"no provider {shown(name)}{_maybe(close(name, providers))}")


def unknown_model(name: str, hands: Hands) -> Refused:
    """Say that there is no such model, and which are close."""
    models = hands.balancer.catalog.models
    near = close(name, (each for model in models.values() for each in (model.id, *model.aliases)))
    return Refused(404, f"no model {shown(name)}{_maybe(near)}", metadata={"close_models": near})


def unknown_endpoint(key: str, hands: Hands) -> Refused:
    """Say that there is no such endpoint, and which there are of that model or that tag."""
    model, _, tag = key.partition("@")
    endpoints = hands.balancer.catalog.endpoints
    kin = [each.id for each in endpoints.values() if each.model == model or each.tag == tag]
    near = close(key, kin if len(kin) > 0 else endpoints)
    return Refused(404, f"no endpoint {shown(key)}{_maybe(near)}", metadata={"close_endpoints": near})


def _id(ask: Ask) -> str:
    key = single(ask.query, ("id",)).get("id")
    if key is None or key == "":
        raise Refused(400, "id: is needed")
    return key


def _maybe(near: list[str]) -> str:
    return f"; did you mean {', '.join(near)}?" if near else ""


def _builtins(value: Any) -> dict[str, Any]:
    # Deterministic: sets have no order of their own.
    built: dict[str, Any] = msgspec.to_builtins(value, order="deterministic", enc_hook=_hidden)
    return built


def _hidden(value: object) -> str:
    if isinstance(value, Secret):
        return _HIDDEN
    raise NotImplementedError(f"{type(value).__name__} is no part of a configuration that is shown")


def _endpoint(endpoint: dict[str, Any], probe: ProbeSettings | None) -> dict[str, Any]:
    del endpoint["identity"]  # a digest of the credential, among other things
    return {
        **endpoint,
        "base_url": _address(endpoint["base_url"]),
        "probe": None if probe is None else _probe(probe),
    }


def _probe(probe: ProbeSettings) -> dict[str, Any]:
    shape = _builtins(probe)
    del shape["variables"]  # they stand in other values
    if shape["url"] is not None:
        shape["url"] = _address(_masked(shape["url"], probe))
    # What is not there is told with the reason, and not as a value.
    shape["send_headers"] |= _absences(probe.send_headers)
    shape["proxy"] |= _absences({"http": probe.proxy.http, "https": probe.proxy.https})
    return shape


def _masked(url: str, probe: ProbeSettings) -> str:
    """An address without what the environment put into it."""
    for variable in probe.variables:
        url = url.replace(variable.reveal(), _HIDDEN)
    return url


def _absences(values: Mapping[str, object]) -> dict[str, dict[str, str]]:
    return {name: {"absent": value.why} for name, value in values.items() if isinstance(value, Absent)}


def _address(url: str) -> str:
    """An address without what it keeps private: its user and its query."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        parts = parts._replace(netloc=f"{_HIDDEN}@{parts.netloc.rpartition('@')[2]}")
    return (parts._replace(query=_HIDDEN) if parts.query else parts).geturl()
