"""A checked file → the frozen `Config`: what is inherited is filled in, what is secret is fetched.

Theory of operation: an endpoint takes each value from itself, else its variant, else its provider, else the
default; its probe is merged key by key over the top level's. A missing credential is not a mistake of the
file (keys come and go, and the rest must run): the endpoint says why in `misconfigured`. A missing token is
one, because a token that nobody can present locks its owner out. A further credential of a door makes a copy of
each endpoint there, which differs in nothing but its id, its tag and its key.

Without an environment nothing secret is looked for: an embedded core needs no keys.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from msgspec import UNSET, UnsetType

from balancer.config.credentials import Credential, Credentials
from balancer.config.lookouts import lookouts
from balancer.config.overlay import first, overlay
from balancer.config.prices import pricing
from balancer.config.probes import Probes
from balancer.config.problems import Path, near, one_of
from balancer.config.proxies import Proxies, proxies
from balancer.config.references import Vault
from balancer.config.rules import Sheet, as_written, listens
from balancer.config.secret import Secret
from balancer.config.settings import Config, LogSettings, ProbeSettings, StoreSettings, TlsSettings, Token
from balancer.config.shape import (
    EndpointShape,
    ModelHealthShape,
    ModelShape,
    ProviderShape,
    VariantShape,
)
from balancer.config.storing import state_dir
from balancer.config.vocabulary import SecretShape
from balancer.core.model import Endpoint, HealthPolicy, Limits, Model, Provider, Routing


def resolve(sheet: Sheet, environ: Mapping[str, str] | None) -> Config:
    """Build the configuration, telling what is wrong with it on the way.

    Shape: what it returns is of use only when the sheet has no problems afterwards.
    """
    vault = None if environ is None else Vault(environ, sheet.folder)
    directory = state_dir(sheet.file.state_dir, environ, sheet.folder)
    return _Build(sheet, vault, Proxies() if environ is None else proxies(environ), directory).config()


class _Build:
    """Builds one configuration."""

    def __init__(self, sheet: Sheet, vault: Vault | None, found: Proxies, directory: str | None) -> None:
        self._sheet = sheet
        self._vault = vault
        self._proxies = found
        self._state_dir = directory
        self._probes = Probes(sheet, vault, found)
        self._keys = Credentials(sheet)
        self._endpoints: dict[str, Endpoint] = {}
        self._places: dict[str, Path] = {}
        self._settings: dict[str, ProbeSettings] = {}
        self._credentials: dict[str, Secret | None] = {}

    def config(self) -> Config:
        file = self._sheet.file
        for path, name, model, endpoint in self._sheet.endpoints():
            self._add(path, name, model, endpoint)
        self._probes.finish()
        return Config(
            providers=self._providers(),
            models={name: self._model(name, model) for name, model in file.models.items()},
            endpoints=self._endpoints,
            routing=overlay(Routing(), file.routing),
            health=overlay(HealthPolicy(), file.health),
            listen=listens(file),
            tls=self._tls(),
            insecure=file.insecure is True,
            tokens=self._tokens(),
            probes=self._settings,
            credentials=self._credentials,
            lookouts=lookouts(self._sheet, self._proxies),
            state_dir=self._state_dir,
            store=overlay(StoreSettings(), file.store),
            log=overlay(LogSettings(), file.log),
        )

    def _tls(self) -> TlsSettings | None:
        tls = self._sheet.file.tls
        if tls is None or isinstance(tls, UnsetType):
            return None
        return TlsSettings(
            cert_file=self._beside(tls.cert_file),
            key_file=None if isinstance(tls.key_file, UnsetType) else self._beside(tls.key_file),
            client_ca_file=None if isinstance(tls.client_ca_file, UnsetType) else self._beside(tls.client_ca_file),
        )

    def _beside(self, file: str) -> str:
        return str(self._sheet.folder / file)

    def _providers(self) -> dict[str, Provider]:
        tags: dict[str, list[str]] = {key: [] for key in self._sheet.file.providers}
        for endpoint in self._endpoints.values():
            if endpoint.tag not in tags[endpoint.provider]:
                tags[endpoint.provider].append(endpoint.tag)
        return {
            key: Provider(key=key, name=_name(key, shape), tags=tuple(tags[key]))
            for key, shape in self._sheet.file.providers.items()
        }

    def _model(self, name: str, shape: ModelShape) -> Model:
        given = first(shape.name)
        return Model(
            id=name,
            name=name if given is None else given,
            aliases=() if isinstance(shape.aliases, UnsetType) else tuple(shape.aliases),
            created=first(shape.created),
            context_length=first(shape.context_length),
            input_modalities=_modalities(shape.input_modalities),
            output_modalities=_modalities(shape.output_modalities),
            distillable=first(shape.distillable),
            endpoints=tuple(one.id for one in self._endpoints.values() if one.model == name),
            enforce=first(shape.health.enforce) if isinstance(shape.health, ModelHealthShape) else None,
        )

    def _add(self, path: Path, name: str, model: ModelShape, shape: EndpointShape) -> None:
        """Resolve one endpoint, and keep it when it can be one."""
        doors = self._doors((*path, "provider"), shape.provider)
        identifier = f"{name}@{shape.provider}"
        if identifier in self._places:
            found = f"a second endpoint {identifier}; the first is endpoints[{self._places[identifier][-1]}]"
            self._sheet.tell((*path, "provider"), found, "use another variant for each: provider/variant")
            return
        probe = self._probes.settings(path, shape)
        prices = pricing(self._sheet, path, shape)
        if doors is None:
            return
        provider, variant = doors
        base_url = first(shape.base_url, variant.base_url, provider.base_url)
        if base_url is None:
            self._tell_no_address(path, shape.provider)
            return
        endpoint = dataclasses.replace(
            _endpoint(name, model, shape, provider, variant),
            base_url=_trimmed(base_url),
            pricing=prices,
        )
        self._probes.judge_address(path, shape, probe, base_url)
        probe = self._probes.with_address(_places_of_address(path, shape.provider), probe)
        self._places[identifier] = path
        for credential in self._keys.at(shape.provider, provider, variant):
            self._keep(endpoint, credential, probe)
        self._judge_tokens(path, model, shape)

    def _keep(self, endpoint: Endpoint, credential: Credential, probe: ProbeSettings) -> None:
        """Add an endpoint as it is called with one credential."""
        secret, fault = self._secret(credential.reference)
        identifier = credential.numbered(f"{endpoint.model}@{endpoint.door}")
        self._endpoints[identifier] = dataclasses.replace(
            endpoint,
            id=identifier,
            tag=credential.numbered(endpoint.door),
            credential=credential.place,
            quota=credential.quota,
            identity=_identity(endpoint.base_url, endpoint.upstream_model, credential.reference, secret),
            misconfigured=fault,
        )
        self._settings[identifier] = probe
        self._credentials[identifier] = secret

    def _doors(self, path: Path, tag: str) -> tuple[ProviderShape, VariantShape] | None:
        """Find the provider and variant of a tag; an undeclared variant is the provider as it is."""
        key, _, variant = tag.partition("/")
        known = self._sheet.keys(("providers",))
        if key not in known:
            meant = near(key, known)
            ask = f"use one of {one_of(known)}" if meant is None else f"did you mean {meant}?"
            self._sheet.tell(path, f"there is no provider {as_written(self._sheet, path)}", ask)
            return None
        if key not in self._sheet.file.providers:
            return None  # it is there and broken: that was told
        shape = self._sheet.file.providers[key]
        provider = ProviderShape() if shape is None else shape
        door = None if isinstance(provider.variants, UnsetType) else provider.variants.get(variant)
        return provider, VariantShape() if door is None else door

    def _tell_no_address(self, path: Path, tag: str) -> None:
        key = tag.partition("/")[0]
        if not any(self._sheet.problems.touches(place) for place in _places_of_address(path, tag)):
            found = "no base_url: neither this endpoint, nor its variant, nor its provider gives one"
            self._sheet.tell(path, found, f"give providers.{key}.base_url")

    def _judge_tokens(self, path: Path, model: ModelShape, shape: EndpointShape) -> None:
        context = first(shape.context_length, model.context_length)
        limit = first(shape.max_prompt_tokens)
        broken = self._sheet.problems.touches((*path, "context_length"))
        if limit is not None and context is not None and limit > context and not broken:
            found = f"{limit} is more than context_length, {context}"
            self._sheet.tell((*path, "max_prompt_tokens"), found, f"use at most {context}")

    def _secret(self, reference: SecretShape | None) -> tuple[Secret | None, str | None]:
        if reference is None or self._vault is None:
            return None, None
        held = self._vault.get(reference)
        return (held, None) if isinstance(held, Secret) else (None, held)

    def _tokens(self) -> tuple[Token, ...]:
        auth = self._sheet.file.auth
        if self._vault is None or auth is None or isinstance(auth, UnsetType):
            return ()
        tokens: list[Token] = []
        within: Path = ("auth", "tokens")
        for index, shape in enumerate(() if isinstance(auth.tokens, UnsetType) else auth.tokens):
            held = self._vault.get(shape.token)
            if isinstance(held, Secret):
                tokens.append(Token(name=shape.name, scopes=frozenset(shape.scopes), secret=held))
            else:
                path = (*within, self._sheet.checked.number(within, index), "token")
                self._sheet.tell(path, held, "provide the token, or remove its entry")
        return tuple(tokens)


def _endpoint(
    name: str, model: ModelShape, shape: EndpointShape, provider: ProviderShape, variant: VariantShape
) -> Endpoint:
    """Fill in what does not depend on the address, the prices and the credential."""
    key = shape.provider.partition("/")[0]
    quantization = first(shape.quantization, variant.quantization)
    data_collection = first(variant.data_collection, provider.data_collection)
    parameters = first(shape.supported_parameters)
    return Endpoint(
        id="",
        model=name,
        tag=shape.provider,
        door=shape.provider,
        provider=key,
        provider_name=_name(key, provider),
        upstream_model=shape.model,
        base_url="",
        api=_or("openai", first(variant.api, provider.api)),
        region=first(shape.region, variant.region, provider.region),
        context_length=first(shape.context_length, model.context_length),
        max_completion_tokens=first(shape.max_completion_tokens),
        max_prompt_tokens=first(shape.max_prompt_tokens),
        quantization=_or("unknown", quantization),
        supported_parameters=None if parameters is None else frozenset(parameters),
        input_modalities=_modalities(model.input_modalities),
        output_modalities=_modalities(model.output_modalities),
        tier=first(shape.tier),
        weight=_or(1.0, first(shape.weight)),
        priority=_or(0, first(shape.priority)),
        limits=_limits(provider, variant),
        cache_ttl=_seconds(first(shape.cache_ttl)),
        data_collection=_or("allow", data_collection),
        zdr=_or(False, first(variant.zdr, provider.zdr)),
        distillable=first(model.distillable),
    )


def _places_of_address(path: Path, tag: str) -> tuple[Path, ...]:
    """Where the file may have an endpoint's address, the nearest place first."""
    key, _, variant = tag.partition("/")
    of_variant = ("providers", key, "variants", variant, "base_url")
    return (*path, "base_url"), of_variant, ("providers", key, "base_url")


def _limits(provider: ProviderShape, variant: VariantShape) -> Limits | None:
    """Give the limits of a door: a variant's replace the provider's whole, so that {} there lifts them."""
    limits = overlay(Limits(), first(variant.limits, provider.limits))
    return None if limits == Limits() else limits


def _seconds(duration: float | None) -> float | None:
    return None if duration is None else float(duration)


def _or(default: Any, value: Any) -> Any:
    """Give the value, or the default where there is none: 0 and False are values."""
    return default if value is None else value


def _name(key: str, shape: ProviderShape | None) -> str:
    given = first(UNSET if shape is None else shape.name)
    return key if given is None else given


def _modalities(value: list[str] | UnsetType) -> frozenset[str]:
    return frozenset({"text"}) if isinstance(value, UnsetType) else frozenset(value)


def _trimmed(base_url: str) -> str:
    """Take the slashes off the end of an address, before its query: paths that are put there bring their own."""
    path, mark, query = base_url.partition("?")
    return f"{path.rstrip('/')}{mark}{query}"


def _identity(base_url: str, model: str, reference: SecretShape | None, secret: Secret | None) -> str:
    """Mark an endpoint so that another address, upstream model or key makes another mark.

    Where no key could be read its place stands in, so that a key that arrives later changes the mark.
    """
    key: object = None
    if secret is not None:
        key = secret.fingerprint
    elif reference is not None:
        key = [str(place) for place in (reference.env, reference.file, reference.credential)]
    text = json.dumps([base_url, model, key])
    return blake2b(text.encode(), digest_size=12, person=b"endpoint").hexdigest()
