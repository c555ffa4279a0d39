"""The configuration file as it is written: every key, its type, its bounds and what it means.

Theory of operation: one struct per mapping of the file. `check` walks them, msgspec decodes into them, and
`schema` prints them, so that a key exists in one place. `UNSET` is a key that is not there; `None` is
allowed only where an empty value has one obvious meaning: an empty section, an unknown number.

The sections with defaults (routing, health, probe, log) are in `sections`, what is probed besides endpoints in
`beside`.

What this module does not know: inheritance and any rule between two keys (`resolve`, `rules`), and lines.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta

from balancer.config.beside import SelfCheckShape, StatusPageShape
from balancer.config.sections import HealthShape, LogShape, ProbeShape, RoutingShape
from balancer.config.settings import Scope
from balancer.config.storing import StoreShape
from balancer.config.units import Duration
from balancer.config.vocabulary import (
    DAY,
    PLACES,
    Address,
    Alias,
    Clock,
    Day,
    Directory,
    File,
    Given,
    Group,
    Key,
    Modality,
    Mode,
    ModelId,
    Name,
    Parameter,
    Price,
    Quantization,
    Region,
    SecretShape,
    Shape,
    Tag,
    Tokens,
    Url,
    Weekday,
    above,
    lasts,
    told,
    whole,
)
from balancer.core.model import Dialect

CREDENTIALS_MAX: Final = 20  # of one door: each makes a copy of every endpoint there, with probes of its own
OVERRIDES_MAX: Final = 50  # of one endpoint: each price is looked up among them at every decision
RPM_MAX: Final = 1_000_000_000  # far above what any provider sells, far below where sums lose exactness
TPM_MAX: Final = 1_000_000_000_000


class ListenShape(Shape, frozen=True, kw_only=True):
    """An address to serve on, with what only some of them need."""

    address: Annotated[Address, told("host:port, or unix:/path.")]
    mode: Given[
        Annotated[Mode, told('Unix sockets: who may connect, as of a file, e.g. "0660"; needs the right to write.')]
    ] = UNSET
    group: Given[
        Annotated[
            Group, told('Unix sockets: the group that the file is given to; without a mode it is "0660" then.')
        ]
    ] = UNSET
    reuse_port: Given[
        Annotated[bool, told("TCP: several processes may share the address (SO_REUSEPORT).", False)]
    ] = UNSET


class TlsShape(Shape, frozen=True, kw_only=True):
    """TLS on every TCP socket of the API. Paths are relative to the configuration; a reload reads them again."""

    cert_file: Annotated[File, told("The PEM file of our certificate, and of those between it and the authority.")]
    key_file: Given[Annotated[File, told("PEM file of its key, without a password; default: cert_file.")]] = UNSET
    client_ca_file: Given[
        Annotated[File, told("PEM file of the authorities whose certificate every client has to show.")]
    ] = UNSET


class TokenShape(Shape, frozen=True, kw_only=True):
    """A bearer token of the API."""

    name: Annotated[Name, told("Who holds it; shown in logs.")]
    scopes: Annotated[
        list[Scope],
        Meta(min_length=1),
        told("What it may do: read (questions, lists, metrics), report (outcomes), admin (everything)."),
    ]
    token: Annotated[SecretShape, told(f"Where the token is: {PLACES}.")]


class AuthShape(Shape, frozen=True, kw_only=True):
    """Who may use the API. Needed where others than this machine can reach it."""

    tokens: Given[
        Annotated[
            list[TokenShape],
            Meta(max_length=1000),
            told("Bearer tokens; with any, every request needs one, except the health checks."),
        ]
    ] = UNSET


class LimitsShape(Shape, frozen=True, kw_only=True):
    """What you allow one key, counted from decisions and reports. Not given is no limit."""

    rpm: Given[Annotated[Annotated[int, whole(1, RPM_MAX)] | None, told("Requests per minute and key.")]] = UNSET
    tpm: Given[Annotated[Annotated[int, whole(1, TPM_MAX)] | None, told("Tokens per minute and key.")]] = UNSET


class DoorShape(Shape, frozen=True, kw_only=True):
    """What a provider and its variants have in common; a variant's key wins over the provider's."""

    base_url: Given[Annotated[Url, told("Where the API is: what stands before /models and the like.")]] = UNSET
    api: Given[Annotated[Dialect, told("Dialect of requests and errors.", "openai")]] = UNSET
    region: Given[Annotated[Region, told("Where it runs; a question may ask for it.")]] = UNSET
    credential: Given[
        Annotated[
            SecretShape | Annotated[list[SecretShape], Meta(min_length=1, max_length=CREDENTIALS_MAX)],
            told(
                f"Where the key is: {PLACES}; none is needed without. A list is several keys: each further one "
                "makes a copy of every endpoint here, TAG:2, TAG:3, with a quota of its own."
            ),
        ]
    ] = UNSET
    data_collection: Given[
        Annotated[Literal["allow", "deny"], told("Whether it may keep or train on prompts.", "allow")]
    ] = UNSET
    zdr: Given[Annotated[bool, told("Whether it keeps nothing at all (zero data retention).", False)]] = UNSET
    limits: Given[
        Annotated[LimitsShape | None, told("What you allow each key; a variant's limits replace the provider's.")]
    ] = UNSET


class VariantShape(DoorShape, frozen=True, kw_only=True):
    """One of a provider's doors. What is not given comes from the provider."""

    quantization: Given[Annotated[Quantization, told("Precision of the weights there.", "unknown")]] = UNSET


class ProviderShape(DoorShape, frozen=True, kw_only=True):
    """A company or host that serves models."""

    name: Given[Annotated[Name, told("The name to show; default: the key.")]] = UNSET
    status_page: Given[
        Annotated[StatusPageShape | None, told("Its status page: evidence of lower rank, which ejects nobody.")]
    ] = UNSET
    variants: Given[
        Annotated[
            dict[Key, VariantShape | None],
            told("The provider's doors by name, e.g. one per region; azure/eastus2 is the tag of one."),
        ]
    ] = UNSET


class OverrideShape(Shape, frozen=True, kw_only=True):
    """Other prices for long prompts or times of the day. All conditions that are given must hold."""

    min_prompt_tokens: Given[Annotated[Tokens, told("For prompts longer than this.")]] = UNSET
    utc_start: Given[Annotated[Clock, told("From this time of the UTC day on; needs utc_end.")]] = UNSET
    utc_end: Given[Annotated[Clock, told("Before this time; over midnight where it is not after utc_start.")]] = (
        UNSET
    )
    utc_days: Given[
        Annotated[list[Weekday], Meta(min_length=1, max_length=7), told("On these days of the week, in UTC.")]
    ] = UNSET
    prompt: Given[Annotated[Price, told("Tokens that are sent, then.")]] = UNSET
    completion: Given[Annotated[Price, told("Tokens that come back, then.")]] = UNSET
    input_cache_read: Given[Annotated[Price, told("Sent tokens that the provider had cached, then.")]] = UNSET


class PricingShape(Shape, frozen=True, kw_only=True):
    """What an endpoint charges, in USD per million tokens. Not given is unknown; 0 is free."""

    prompt: Given[Annotated[Price, told("Tokens that are sent.")]] = UNSET
    completion: Given[Annotated[Price, told("Tokens that come back.")]] = UNSET
    input_cache_read: Given[Annotated[Price, told("Sent tokens that the provider had cached.")]] = UNSET
    overrides: Given[
        Annotated[
            list[OverrideShape],
            Meta(max_length=OVERRIDES_MAX),
            told("Other prices under conditions; where several hold, the later one wins, price by price."),
        ]
    ] = UNSET


class EndpointShape(Shape, frozen=True, kw_only=True):
    """One callable: a model at a provider."""

    provider: Annotated[Tag, told("The tag: a provider's key, or provider/variant.")]
    model: Annotated[Name, told("What the provider itself calls the model.")]
    pricing: Given[Annotated[PricingShape | None, told("What it charges.")]] = UNSET
    context_length: Given[Annotated[Tokens | None, told("Tokens in and out; default: the model's.")]] = UNSET
    max_completion_tokens: Given[Annotated[Tokens | None, told("Longest answer in tokens.")]] = UNSET
    max_prompt_tokens: Given[Annotated[Tokens | None, told("Longest prompt in tokens.")]] = UNSET
    quantization: Given[
        Annotated[Quantization | None, told("Precision of the weights; default: the variant's, else unknown.")]
    ] = UNSET
    supported_parameters: Given[
        Annotated[
            Annotated[list[Parameter], Meta(max_length=200)] | None,
            told("Request parameters that it understands, e.g. tools; not given is unknown."),
        ]
    ] = UNSET
    region: Given[Annotated[Region | None, told("Where it runs; default: the variant's or provider's.")]] = UNSET
    tier: Given[
        Annotated[Literal["flex", "priority"] | None, told("A service tier, chosen only when asked for.")]
    ] = UNSET
    cache_ttl: Given[
        Annotated[
            Duration | None,
            lasts(1.0, 7 * DAY),
            told("How long a prompt stays in the provider's cache; a session stays as long. Default: sticky.ttl."),
        ]
    ] = UNSET
    weight: Given[Annotated[float, above(0, 1_000_000), told("Your multiplier of its share.", 1.0)]] = UNSET
    priority: Given[
        Annotated[int, whole(-1000, 1000), told("Your order: lower first; a degraded one falls to the next.", 0)]
    ] = UNSET
    probe: Given[Annotated[ProbeShape | None, told("What differs from the top level's probe.")]] = UNSET
    base_url: Given[Annotated[Url | None, told("Where the API is; default: the variant's or provider's.")]] = UNSET


class ModelHealthShape(Shape, frozen=True, kw_only=True):
    """What of health differs for one model."""

    enforce: Given[
        Annotated[
            bool | None,
            told("Whether health chooses among its endpoints (false only watches); default: the top level's."),
        ]
    ] = UNSET


class ModelShape(Shape, frozen=True, kw_only=True):
    """What a client asks for."""

    name: Given[Annotated[Name, told("The name to show; default: the id.")]] = UNSET
    aliases: Given[Annotated[list[Alias], Meta(max_length=100), told("Other names of it.")]] = UNSET
    created: Given[Annotated[Day | None, told("The day it was published.")]] = UNSET
    context_length: Given[Annotated[Tokens | None, told("Tokens in and out; not given is unknown.")]] = UNSET
    input_modalities: Given[Annotated[list[Modality], Meta(min_length=1), told("What it takes.", ["text"])]] = UNSET
    output_modalities: Given[Annotated[list[Modality], Meta(min_length=1), told("What it makes.", ["text"])]] = (
        UNSET
    )
    distillable: Given[
        Annotated[bool | None, told("Whether its text may train other models; not given is unknown.")]
    ] = UNSET
    health: Given[Annotated[ModelHealthShape | None, told("What differs from the top level's health.")]] = UNSET
    endpoints: Annotated[list[EndpointShape], Meta(min_length=1, max_length=1000), told("Where it can be called.")]


class FileShape(Shape, frozen=True, kw_only=True):
    """The configuration of balancer: which models can be called where, and how to choose."""

    listen: Given[
        Annotated[
            Address | ListenShape | Annotated[list[Address | ListenShape], Meta(min_length=1, max_length=16)],
            told("Where to serve: host:port, unix:/path, {address: …, …}, or a list.", "127.0.0.1:8790"),
        ]
    ] = UNSET
    tls: Given[Annotated[TlsShape | None, told("TLS on every TCP socket; unix sockets stay plain.")]] = UNSET
    insecure: Given[Annotated[bool, told("Serve others than this machine without tokens.", False)]] = UNSET
    auth: Given[Annotated[AuthShape | None, told("Who may use the API.")]] = UNSET
    providers: Annotated[dict[Key, ProviderShape | None], Meta(min_length=1), told("Who serves, by key.")]
    models: Annotated[dict[ModelId, ModelShape], Meta(min_length=1), told("What can be asked for, by id.")]
    routing: Given[Annotated[RoutingShape | None, told("How a decision is made.")]] = UNSET
    health: Given[Annotated[HealthShape | None, told("When an endpoint is out, and how it returns.")]] = UNSET
    probe: Given[Annotated[ProbeShape | None, told("How endpoints are checked without traffic.")]] = UNSET
    self_check: Given[
        Annotated[SelfCheckShape | None, told("How we know that we are online ourselves; default: by the probes.")]
    ] = UNSET
    state_dir: Given[
        Annotated[
            Directory | None,
            told(
                "Where a restart finds what it keeps, relative to the configuration; none: it keeps nothing. "
                "Default: $STATE_DIRECTORY, else ./state."
            ),
        ]
    ] = UNSET
    store: Given[Annotated[StoreShape | None, told("What is kept in state_dir, and how often.")]] = UNSET
    log: Given[Annotated[LogShape | None, told("What is logged and how.")]] = UNSET
