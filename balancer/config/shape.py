"""The configuration file as it is written: every key, its type, its bounds and what it means.

Theory of operation: one struct per mapping of the file. `check` walks them, msgspec decodes into them, and
`schema` prints them, so that a key exists in one place. `UNSET` is a key that is not there; `None` is
allowed only where an empty value has one obvious meaning: an empty section, an unknown number.

What this module does not know: inheritance and any rule between two keys (`resolve`, `rules`), and lines.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct

from balancer.config.settings import Budget, LogSettings, ProbeKind, ProbeSettings, Scope
from balancer.config.units import Duration, Size, duration_text, size_text
from balancer.config.vocabulary import (
    DAY,
    HOUR,
    Address,
    Alias,
    Day,
    Given,
    Header,
    Key,
    Modality,
    ModelId,
    Name,
    Parameter,
    Pattern,
    Price,
    ProbeUrl,
    Quantization,
    Region,
    Status,
    Tag,
    Tokens,
    Url,
    above,
    holds,
    lasts,
    number,
    told,
    whole,
)
from balancer.core.health import RECENT_MAX
from balancer.core.model import Dialect, HealthPolicy, Routing, StrategyName

# The defaults are those of the frozen values: stated once, printed here.
_ROUTING: Final = Routing()
_HEALTH: Final = HealthPolicy()
_WINDOWS: Final = [duration_text(window) for window in _HEALTH.windows]
_PROBE: Final = ProbeSettings()
_BUDGET: Final = Budget()
_LOG: Final = LogSettings()


class Shape(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A mapping of the file. An unknown key is a mistake."""


class SecretShape(Shape, frozen=True, kw_only=True):
    """Where a secret is; never the secret itself. Exactly one of the three."""

    env: Given[Annotated[str, told("Name of the environment variable that holds it.")]] = UNSET
    file: Given[Annotated[str, told("Path of the file that holds it; relative to the configuration.")]] = UNSET
    credential: Given[Annotated[str, told("Name of a systemd credential, a file in $CREDENTIALS_DIRECTORY.")]] = (
        UNSET
    )


_ONE_OF_THREE: Final = Meta(extra_json_schema={"minProperties": 1, "maxProperties": 1})
_PLACES: Final = "{env: NAME}, {file: PATH} or {credential: NAME}"


class TokenShape(Shape, frozen=True, kw_only=True):
    """A bearer token of the API."""

    name: Annotated[Name, told("Who holds it; shown in logs.")]
    scopes: Annotated[
        list[Scope],
        Meta(min_length=1),
        told("What it may do: read (questions, lists, metrics), report (outcomes), admin (everything)."),
    ]
    token: Annotated[SecretShape, _ONE_OF_THREE, told(f"Where the token is: {_PLACES}.")]


class AuthShape(Shape, frozen=True, kw_only=True):
    """Who may use the API. Needed where others than this machine can reach it."""

    tokens: Given[
        Annotated[
            list[TokenShape],
            Meta(max_length=1000),
            told("Bearer tokens; with any, every request needs one, except the health checks."),
        ]
    ] = UNSET


class DoorShape(Shape, frozen=True, kw_only=True):
    """What a provider and its variants have in common; a variant's key wins over the provider's."""

    base_url: Given[Annotated[Url, told("Where the API is: what stands before /models and the like.")]] = UNSET
    api: Given[Annotated[Dialect, told("Dialect of requests and errors.", "openai")]] = UNSET
    region: Given[Annotated[Region, told("Where it runs; a question may ask for it.")]] = UNSET
    credential: Given[
        Annotated[SecretShape, _ONE_OF_THREE, told(f"Where the key is: {_PLACES}; none is needed without.")]
    ] = UNSET
    data_collection: Given[
        Annotated[Literal["allow", "deny"], told("Whether it may keep or train on prompts.", "allow")]
    ] = UNSET
    zdr: Given[Annotated[bool, told("Whether it keeps nothing at all (zero data retention).", False)]] = UNSET


class VariantShape(DoorShape, frozen=True, kw_only=True):
    """One of a provider's doors. What is not given comes from the provider."""

    quantization: Given[Annotated[Quantization, told("Precision of the weights there.", "unknown")]] = UNSET


class ProviderShape(DoorShape, frozen=True, kw_only=True):
    """A company or host that serves models."""

    name: Given[Annotated[Name, told("The name to show; default: the key.")]] = UNSET
    variants: Given[
        Annotated[
            dict[Key, VariantShape | None],
            told("The provider's doors by name, e.g. one per region; azure/eastus2 is the tag of one."),
        ]
    ] = UNSET


class PricingShape(Shape, frozen=True, kw_only=True):
    """What an endpoint charges, in USD per million tokens. Not given is unknown; 0 is free."""

    prompt: Given[Annotated[Price, told("Tokens that are sent.")]] = UNSET
    completion: Given[Annotated[Price, told("Tokens that come back.")]] = UNSET
    input_cache_read: Given[Annotated[Price, told("Sent tokens that the provider had cached.")]] = UNSET


class BudgetShape(Shape, frozen=True, kw_only=True):
    """What the paid probes of one provider may use per UTC day."""

    requests: Given[
        Annotated[int, whole(0, 10_000_000), told("Paid probes per provider and UTC day.", _BUDGET.requests)]
    ] = UNSET
    usd: Given[
        Annotated[float, number(0, 1_000_000), told("USD spent on probes per provider and UTC day.", _BUDGET.usd)]
    ] = UNSET


class ProbeShape(Shape, frozen=True, kw_only=True):
    """How endpoints are checked without traffic. An endpoint's own keys win over the top level's."""

    kind: Given[
        Annotated[
            ProbeKind,
            told(
                "models lists models (free), completion asks for a few tokens (paid), http asks an address of "
                "yours, tcp opens a connection, none relies on reports.",
                _PROBE.kind,
            ),
        ]
    ] = UNSET
    interval: Given[
        Annotated[Duration, lasts(1.0, HOUR), told("Time between two probes.", duration_text(_PROBE.interval))]
    ] = UNSET
    timeout: Given[
        Annotated[
            Duration,
            lasts(0.05, 300.0),
            told("Longest probe; never above the interval.", duration_text(_PROBE.timeout)),
        ]
    ] = UNSET
    stale_after: Given[
        Annotated[
            Duration,
            lasts(1.0, 7 * DAY),
            told("Paid probes are left out while the last report is younger.", duration_text(_PROBE.stale_after)),
        ]
    ] = UNSET
    budget: Given[Annotated[BudgetShape | None, told("Limits of the paid probes.")]] = UNSET
    concurrency: Given[
        Annotated[int, whole(1, 1000), told("Probes of one provider at the same time.", _PROBE.concurrency)]
    ] = UNSET
    reuse: Given[Annotated[bool, told("Keep the connection between probes.", _PROBE.reuse)]] = UNSET
    size_max: Given[
        Annotated[Size, holds(1024, 64 * 1024**2), told("Longest answer that is read.", size_text(_PROBE.size_max))]
    ] = UNSET
    url: Given[Annotated[ProbeUrl, told("Kind http: the address to ask, or a path below base_url.")]] = UNSET
    status: Given[
        Annotated[
            Status | Annotated[list[Status], Meta(min_length=1, max_length=500)],
            told("Kind http: the HTTP status, or list of them, that is good.", list(_PROBE.status)),
        ]
    ] = UNSET
    headers: Given[
        Annotated[
            dict[Header, str],
            told("Kind http: headers that must be there, each with text that its value contains."),
        ]
    ] = UNSET
    body: Given[Annotated[Pattern, told("Kind http: a regular expression that must be found in the body.")]] = UNSET


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
    weight: Given[Annotated[float, above(0, 1_000_000), told("Your multiplier of its share.", 1.0)]] = UNSET
    priority: Given[
        Annotated[int, whole(-1000, 1000), told("Your order: lower first; a degraded one falls to the next.", 0)]
    ] = UNSET
    probe: Given[Annotated[ProbeShape | None, told("What differs from the top level's probe.")]] = UNSET
    base_url: Given[Annotated[Url | None, told("Where the API is; default: the variant's or provider's.")]] = UNSET


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
    endpoints: Annotated[list[EndpointShape], Meta(min_length=1, max_length=1000), told("Where it can be called.")]


class RoutingShape(Shape, frozen=True, kw_only=True):
    """How a decision is made."""

    strategy: Given[
        Annotated[
            StrategyName,
            told(
                "adaptive weighs price against the chance to fail and the wait; price only price.",
                _ROUTING.strategy,
            ),
        ]
    ] = UNSET
    failure_price: Given[
        Annotated[
            float,
            number(0, 1_000_000),
            told("What a failed try costs, in multiples of the cheapest endpoint's price.", _ROUTING.failure_price),
        ]
    ] = UNSET
    value_of_time: Given[
        Annotated[
            float, number(0, 1_000_000), told("What a second of waiting costs, in USD.", _ROUTING.value_of_time)
        ]
    ] = UNSET
    fallbacks: Given[
        Annotated[int, whole(0, 100), told("How many further endpoints an answer names.", _ROUTING.fallbacks)]
    ] = UNSET
    valid_for: Given[
        Annotated[
            Duration, lasts(0.0, HOUR), told("How long an answer may be used.", duration_text(_ROUTING.valid_for))
        ]
    ] = UNSET


class HealthShape(Shape, frozen=True, kw_only=True):
    """When an endpoint is out, for how long, and how it comes back."""

    windows: Given[
        Annotated[
            list[Annotated[Duration, lasts(1.0, 30 * DAY)]],
            Meta(min_length=2, max_length=8),
            told(
                "Trailing spans in which outcomes are counted, ascending.",
                _WINDOWS,
            ),
        ]
    ] = UNSET
    consecutive_failures: Given[
        Annotated[int, whole(1, RECENT_MAX), told("Failures in a row that eject.", _HEALTH.consecutive_failures)]
    ] = UNSET
    error_ratio: Given[
        Annotated[
            float,
            above(0, 1),
            told("Failure share of the last 20 outcomes that ejects, once it is significant.", _HEALTH.error_ratio),
        ]
    ] = UNSET
    min_outcomes: Given[
        Annotated[
            int, whole(1, RECENT_MAX), told("Outcomes without which the ratio says nothing.", _HEALTH.min_outcomes)
        ]
    ] = UNSET
    hold: Given[
        Annotated[
            Duration,
            lasts(0.05, HOUR),
            told("First time out; grows with each ejection.", duration_text(_HEALTH.hold)),
        ]
    ] = UNSET
    hold_max: Given[
        Annotated[Duration, lasts(0.05, DAY), told("Longest time out.", duration_text(_HEALTH.hold_max))]
    ] = UNSET
    throttle_max: Given[
        Annotated[
            Duration,
            lasts(0.05, DAY),
            told("Longest wait after a 429, whatever it asks for.", duration_text(_HEALTH.throttle_max)),
        ]
    ] = UNSET
    ramp_requests: Given[
        Annotated[
            int,
            whole(0, 1_000_000),
            told("Requests over which a readmitted endpoint returns to its share.", _HEALTH.ramp_requests),
        ]
    ] = UNSET


class LogShape(Shape, frozen=True, kw_only=True):
    """What is logged and how."""

    level: Given[
        Annotated[Literal["debug", "info", "warning", "error"], told("The least that is logged.", _LOG.level)]
    ] = UNSET
    format: Given[
        Annotated[Literal["auto", "console", "json"], told("auto: console on a terminal, else JSON.", _LOG.format)]
    ] = UNSET


class FileShape(Shape, frozen=True, kw_only=True):
    """The configuration of balancer: which models can be called where, and how to choose."""

    listen: Given[
        Annotated[
            Address | Annotated[list[Address], Meta(min_length=1, max_length=16)],
            told("Where to serve: host:port, unix:/path, or a list.", "127.0.0.1:8790"),
        ]
    ] = UNSET
    insecure: Given[Annotated[bool, told("Serve others than this machine without tokens.", False)]] = UNSET
    auth: Given[Annotated[AuthShape | None, told("Who may use the API.")]] = UNSET
    providers: Annotated[dict[Key, ProviderShape | None], Meta(min_length=1), told("Who serves, by key.")]
    models: Annotated[dict[ModelId, ModelShape], Meta(min_length=1), told("What can be asked for, by id.")]
    routing: Given[Annotated[RoutingShape | None, told("How a decision is made.")]] = UNSET
    health: Given[Annotated[HealthShape | None, told("When an endpoint is out, and how it returns.")]] = UNSET
    probe: Given[Annotated[ProbeShape | None, told("How endpoints are checked without traffic.")]] = UNSET
    log: Given[Annotated[LogShape | None, told("What is logged and how.")]] = UNSET
