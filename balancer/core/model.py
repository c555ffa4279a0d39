"""The frozen values that the core works on: what is configured, what is asked, what is answered.

Theory of operation: a `Catalog` is everything the core knows of a configuration. `config.Config` extends
it with what only the rims need (sockets, credentials, probes), so the core never sees a secret: an
`Endpoint` carries `identity`, an opaque mark that changes when its address, upstream model or credential
does, and `misconfigured`, the reason why it cannot be called at all.

What this module does not know: YAML, inheritance from provider to variant to endpoint (resolved by
`config` before a value gets here), and time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

State = Literal[
    "drained",
    "misconfigured",
    "ejected",
    "half_open",
    "throttled",
    "recovering",
    "degraded",
    "unverified",
    "healthy",
]
"""One at a time; where several hold, the first of this list is shown."""

STATES: Final[tuple[State, ...]] = get_args(State)

Source = Literal["probe", "report"]
SOURCES: Final[tuple[Source, ...]] = get_args(Source)

Dialect = Literal["openai", "anthropic"]
StrategyName = Literal["adaptive", "price"]

SOFT_PARAMETERS: Final = ("tools", "response_format", "verbosity")
"""Parameters that route to the endpoints which support them, if any does. Source: OpenRouter."""

QUANTIZATIONS: Final = (
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown",
)  # fmt: skip
"""OpenRouter's words for the precision of the weights."""

QUANTIZATION_FAMILIES: Final[Mapping[str, frozenset[str]]] = {
    "fp4": frozenset({"fp4", "mxfp4", "nvfp4"}),
    "fp8": frozenset({"fp8", "mxfp8"}),
}
"""Asking for the family takes its members; asking for a member takes only that one."""

MODALITIES: Final = ("text", "image", "audio", "video", "file", "embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What an endpoint charges. Units: USD per million tokens; `None` is unknown, 0 is free."""

    prompt: float | None = None
    completion: float | None = None
    input_cache_read: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A company or host: the key, its name and the tags of the doors that the catalog uses."""

    key: str
    name: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a client asks for, and the ids of its endpoints in the configured order."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    created: str | None = None
    context_length: int | None = None
    input_modalities: frozenset[str] = frozenset({"text"})
    output_modalities: frozenset[str] = frozenset({"text"})
    distillable: bool | None = None
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One callable, everything inherited already resolved. `None` is unknown."""

    id: str
    model: str
    tag: str
    provider: str
    provider_name: str
    upstream_model: str
    base_url: str
    api: Dialect = "openai"
    region: str | None = None
    pricing: Pricing = field(default_factory=Pricing)
    context_length: int | None = None
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    quantization: str = "unknown"
    supported_parameters: frozenset[str] | None = None
    input_modalities: frozenset[str] = frozenset({"text"})
    output_modalities: frozenset[str] = frozenset({"text"})
    tier: Literal["flex", "priority"] | None = None
    weight: float = 1.0
    priority: int = 0
    data_collection: Literal["allow", "deny"] = "allow"
    zdr: bool = False
    distillable: bool | None = None
    identity: str = ""
    misconfigured: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How a decision is made.

    Units: `failure_price` in multiples of the cheapest eligible price for the request, `value_of_time` in
    USD per second waited, `valid_for` in seconds.
    Source: 15 is the knee of the recorded-outage simulation (lost first tries against price paid).
    """

    strategy: StrategyName = "adaptive"
    failure_price: float = 15.0
    value_of_time: float = 0.0
    fallbacks: int = 3
    valid_for: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """When an endpoint is out, for how long, and how it comes back. Units: seconds, ratios 0..1.

    Source: 5 in a row is Envoy's `consecutive_5xx`; 0.2 with a Wilson bound is the quick and quiet detector
    of the recorded simulations; holds follow Finagle (equal jitter, cap 300 s).
    """

    windows: tuple[float, ...] = (30.0, 300.0, 1800.0, 86400.0)
    consecutive_failures: int = 5
    error_ratio: float = 0.2
    min_outcomes: int = 5
    hold: float = 10.0
    hold_max: float = 300.0
    throttle_max: float = 300.0
    ramp_requests: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All that the core knows of a configuration. Mappings keep the configured order."""

    providers: Mapping[str, Provider] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    health: HealthPolicy = field(default_factory=HealthPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """OpenRouter's `provider` object, as far as it is built. Prices in USD per million tokens."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    data_collection: Literal["allow", "deny"] = "allow"
    zdr: bool = False
    enforce_distillable_text: bool = False
    max_price_prompt: float | None = None
    max_price_completion: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one call needs. `None` is unknown: a filter that needs an unknown number lets it pass."""

    model: str
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    require: tuple[str, ...] = ()
    require_parameters: bool = False
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    region: str | None = None
    exclude: tuple[str, ...] = ()
    count: int | None = None
    provider: Preferences = field(default_factory=Preferences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """What a proxy should allow one attempt. Units: seconds."""

    connect: float
    first_token: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One endpoint of an answer: what a proxy needs to call it."""

    id: str
    tag: str
    provider: str
    model: str
    base_url: str
    api: Dialect
    state: State
    timeouts: Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """Why one endpoint stands where it does. `score` is lower-is-better; `share` is its part of picks."""

    id: str
    state: State
    score: float | None
    share: float
    excluded_by: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to "which provider now?". `evidence_age` is `None` where nothing was ever observed."""

    id: str
    model: str
    strategy: StrategyName
    selected: Selected
    fallbacks: tuple[Selected, ...]
    panic: bool
    trial: bool
    valid_for: float
    evidence_age: float | None
    considered: tuple[Considered, ...] = ()


Refusal = Literal[
    "model_not_found", "constraint_filtered", "privacy_restricted", "unavailable", "capacity_exhausted"
]


class NoEndpoint(Exception):
    """Nothing can be chosen. The only exception that `Balancer.best` raises for a well-formed request.

    `code` says which kind of refusal, `excluded_by` the filters and states that emptied the set, `near`
    close model names, `retry_after` the smallest wait in seconds where waiting helps.
    """

    def __init__(
        self,
        code: Refusal,
        message: str,
        *,
        model: str,
        excluded_by: tuple[str, ...] = (),
        near: tuple[str, ...] = (),
        retry_after: float | None = None,
        considered: tuple[Considered, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code: Refusal = code
        self.message = message
        self.model = model
        self.excluded_by = excluded_by
        self.near = near
        self.retry_after = retry_after
        self.considered = considered


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of an endpoint's (or a model's) state. `number` grows by one and never repeats.

    `event` is the log event: `endpoint.ejected`, `endpoint.trial_started`, `endpoint.readmitted`, …
    `next_at` is the monotonic moment of what happens next, `None` where nothing is scheduled.
    """

    number: int
    now: float
    event: str
    endpoint: str | None
    model: str | None
    state: State | None
    reason: str
    next_at: float | None = None
