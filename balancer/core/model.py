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

from msgspec import Struct

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
Tier = Literal["flex", "priority"]

StrategyName = Literal["adaptive", "price", "weighted", "least_loaded"]
"""What `routing.strategy` may say."""

Sort = Literal["price", "latency", "throughput", "exacto"]
"""OpenRouter's sorts: they replace the strategy for one request."""

Ranking = Literal[
    "adaptive", "price", "weighted", "least_loaded", "sort:price", "sort:latency", "sort:throughput", "sort:exacto"
]
"""What a decision says of how it was made. `price` is a lottery, `sort:price` takes the cheapest."""

SOFT_PARAMETERS: Final = ("tools", "response_format", "verbosity")
"""Parameters that route to the endpoints which support them, if any does. Source: OpenRouter."""

QUANTIZATIONS: Final = (
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown",
)  # fmt: skip
"""OpenRouter's words for the precision of the weights."""

MODALITIES: Final = ("text", "image", "audio", "video", "file", "embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOverride:
    """Other prices under conditions, of which all that are given must hold. A price of `None` is not overridden.

    `min_prompt_tokens`: the prompt is longer than this. `start` and `end`: minutes of the UTC day, half-open, over
    midnight where the end is not after the start. `days`: 0 is Monday, of the UTC moment itself.
    Source: OpenRouter's `pricing.overrides[]` (`min_prompt_tokens` is strictly greater).
    """

    min_prompt_tokens: int | None = None
    start: int | None = None
    end: int | None = None
    days: frozenset[int] | None = None
    prompt: float | None = None
    completion: float | None = None
    input_cache_read: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What an endpoint charges. Units: USD per million tokens; `None` is unknown, 0 is free.

    `overrides` say other prices for long prompts or times of the day; a later one wins, price by price.
    """

    prompt: float | None = None
    completion: float | None = None
    input_cache_read: float | None = None
    overrides: tuple[PriceOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator allows one credential. Units: requests and tokens per minute; `None` is no limit."""

    rpm: int | None = None
    tpm: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A company or host: the key, its name and the tags of the doors that the catalog uses."""

    key: str
    name: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a client asks for, and the ids of its endpoints in the configured order.

    `enforce`: whether health chooses here or only watches; `None` is as the policy says (see `enforced`).
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    created: str | None = None
    context_length: int | None = None
    input_modalities: frozenset[str] = frozenset({"text"})
    output_modalities: frozenset[str] = frozenset({"text"})
    distillable: bool | None = None
    endpoints: tuple[str, ...] = ()
    enforce: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One callable, everything inherited already resolved. `None` is unknown.

    Several credentials of a provider make copies of its endpoints. `door` is the tag without the copy's number
    (empty: the tag itself), `credential` names the place of the key and never tells it, and `quota` is the domain
    in which `limits` are counted: endpoints with the same one share them. `cache_ttl`: seconds that a prompt stays
    in the provider's cache.
    """

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
    tier: Tier | None = None
    weight: float = 1.0
    priority: int = 0
    door: str = ""
    credential: str | None = None
    quota: str = ""
    limits: Limits | None = None
    cache_ttl: float | None = None
    data_collection: Literal["allow", "deny"] = "allow"
    zdr: bool = False
    distillable: bool | None = None
    identity: str = ""
    misconfigured: str | None = None

    def __post_init__(self) -> None:
        if not self.door:  # else the empty name would mean every endpoint
            object.__setattr__(self, "door", self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyPolicy:
    """How long a session stays with its provider. Units: seconds of idleness.

    Source: OpenRouter's 10 minutes; the provider's own `cache_ttl` wins where it is known.
    """

    ttl: float = 600.0
    max_sessions: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutPolicy:
    """Floors and caps of what one attempt is given. Units: seconds.

    Source: below 2 s a busy host's first token is cut though it comes; reasoning models think for most of a minute;
    long answers take minutes, and no proxy waits longer than ten.
    """

    connect: float = 2.0
    first_token_min: float = 2.0
    first_token_max: float = 60.0
    total_min: float = 30.0
    total_max: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The share of recent requests that may be retries, and a number of them that is always allowed.

    Source: Finagle's retry budget (20 %, and a floor, so that a quiet service may retry at all).
    """

    ratio: float = 0.2
    floor: int = 10


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
    sticky: StickyPolicy = field(default_factory=StickyPolicy)
    timeouts: TimeoutPolicy = field(default_factory=TimeoutPolicy)
    retry_budget: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """When an endpoint is out, for how long, and how it comes back. Units: seconds, ratios 0..1.

    Source: 5 in a row is Envoy's `consecutive_5xx`; 0.2 with a Wilson bound is the quick and quiet detector
    of the recorded simulations; holds follow Finagle (equal jitter, cap 300 s).
    """

    enforce: bool = True
    windows: tuple[float, ...] = (30.0, 300.0, 1800.0, 86400.0)
    consecutive_failures: int = 5
    error_ratio: float = 0.2
    min_outcomes: int = 5
    hold: float = 10.0
    hold_max: float = 300.0
    throttle_max: float = 300.0
    ramp_requests: int = 10


def enforced(model: Model, policy: HealthPolicy) -> bool:
    """Whether health chooses among the model's endpoints; where not, all of it is computed, shown and counted."""
    return policy.enforce if model.enforce is None else model.enforce


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All that the core knows of a configuration. Mappings keep the configured order."""

    providers: Mapping[str, Provider] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    health: HealthPolicy = field(default_factory=HealthPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """What a proxy should allow one attempt. Units: seconds."""

    connect: float
    first_token: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One endpoint of an answer: what a proxy needs to call it. `credential` names the key's place, not the key."""

    id: str
    tag: str
    provider: str
    model: str
    base_url: str
    api: Dialect
    state: State
    timeouts: Timeouts
    credential: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """Why one endpoint stands where it does.

    `score` is lower-is-better; `weight` its part in a lottery, else the operator's factor; `share` of first picks.
    """

    id: str
    state: State
    score: float | None
    weight: float | None
    share: float
    excluded_by: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How the retry budget stands. `share` is retries among the requests of the last minute."""

    share: float
    exhausted: bool


class Decision(Struct, frozen=True, kw_only=True):
    """The answer to "which provider now?". `evidence_age` is `None` where nothing was ever observed.

    A struct and no dataclass: it is made for a tenth of the cost. `sticky`: the session's own provider was chosen.
    """

    id: str
    model: str
    strategy: Ranking
    selected: Selected
    fallbacks: tuple[Selected, ...]
    panic: bool
    trial: bool
    sticky: bool
    valid_for: float
    evidence_age: float | None
    retry_budget: RetryBudget
    considered: tuple[Considered, ...] = ()


Refusal = Literal[
    "model_not_found", "constraint_filtered", "privacy_restricted", "unavailable", "capacity_exhausted"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The wish that stood in the way of most endpoints, and what would have met it."""

    field: str
    detail: str


class NoEndpoint(Exception):
    """Nothing can be chosen. The only exception that `Balancer.best` raises.

    `code` says which kind of refusal, `excluded_by` the filters and states that emptied the set, `constraint` the
    one that did most, `near` close model names, `retry_after` the smallest wait in seconds where waiting helps.
    """

    def __init__(
        self,
        code: Refusal,
        message: str,
        *,
        model: str,
        excluded_by: tuple[str, ...] = (),
        constraint: Constraint | None = None,
        near: tuple[str, ...] = (),
        retry_after: float | None = None,
        considered: tuple[Considered, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code: Refusal = code
        self.message = message
        self.model = model
        self.excluded_by = excluded_by
        self.constraint = constraint
        self.near = near
        self.retry_after = retry_after
        self.considered = considered

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.retry_after is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change: of an endpoint's or model's state, of trust, of a provider's word. `number` grows by one.

    `event` is the log event, `next_at` the monotonic moment of what happens next, if any; `enforced`: it chooses.
    """

    number: int
    now: float
    event: str
    endpoint: str | None
    model: str | None
    state: State | None
    reason: str
    next_at: float | None = None
    reporter: str | None = None
    provider: str | None = None
    enforced: bool = True
