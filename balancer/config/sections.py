"""The sections of the file that stand apart from providers and models: routing, health, probe and log.

Every key here has a default, and it is that of the frozen value that the section becomes: stated once there,
printed here.

What this module does not know: providers, models and endpoints (`shape`), and rules between two keys (`rules`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta

from balancer.config.settings import Budget, EndpointKind, FreeKind, IpVersion, LogSettings, Method, ProbeSettings
from balancer.config.units import Duration, Size, duration_text, size_text
from balancer.config.vocabulary import (
    DAY,
    HOUR,
    PLACES,
    File,
    Given,
    Header,
    JsonPath,
    Name,
    Pattern,
    ProbeUrl,
    SecretShape,
    SentName,
    SentValue,
    Shape,
    Status,
    above,
    holds,
    lasts,
    number,
    told,
    whole,
)
from balancer.core.model import HealthPolicy, Routing, StrategyName
from balancer.core.recent import RECENT_MAX

_ROUTING: Final = Routing()
_STICKY: Final = _ROUTING.sticky
_TIMEOUTS: Final = _ROUTING.timeouts
_RETRY: Final = _ROUTING.retry_budget
_HEALTH: Final = HealthPolicy()
_WINDOWS: Final = [duration_text(window) for window in _HEALTH.windows]
_PROBE: Final = ProbeSettings()
_BUDGET: Final = Budget()
_LOG: Final = LogSettings()


class BudgetShape(Shape, frozen=True, kw_only=True):
    """What the paid probes of one provider may use per UTC day."""

    requests: Given[
        Annotated[int, whole(0, 10_000_000), told("Paid probes per provider and UTC day.", _BUDGET.requests)]
    ] = UNSET
    usd: Given[
        Annotated[float, number(0, 1_000_000), told("USD spent on probes per provider and UTC day.", _BUDGET.usd)]
    ] = UNSET


class ClientCertShape(Shape, frozen=True, kw_only=True):
    """The certificate that probes show; paths are relative to the configuration."""

    cert_file: Annotated[File, told("The PEM file of the certificate, and of those between it and the authority.")]
    key_file: Given[Annotated[File, told("PEM file of its key, without a password; default: cert_file.")]] = UNSET


class ProbeShape(Shape, frozen=True, kw_only=True):
    """How endpoints are checked without traffic. An endpoint's own keys win over the top level's."""

    kind: Given[
        Annotated[
            EndpointKind,
            told(
                "models lists models (free), completion asks for a few tokens (paid), tools forces a tool call "
                "(paid), http asks an address of yours, tls shakes hands, tcp opens a connection, dns resolves the "
                "name, none relies on reports.",
                _PROBE.kind,
            ),
        ]
    ] = UNSET
    free_kind: Given[
        Annotated[
            FreeKind,
            told("Kinds completion and tools: what is probed at turns for which none is bought.", _PROBE.free_kind),
        ]
    ] = UNSET
    interval: Given[
        Annotated[Duration, lasts(1.0, HOUR), told("Time between two probes.", duration_text(_PROBE.interval))]
    ] = UNSET
    suspect_interval: Given[
        Annotated[
            Duration,
            lasts(1.0, HOUR),
            told("The same while something is wrong; at most interval.", duration_text(_PROBE.suspect_interval)),
        ]
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
    floor: Given[
        Annotated[
            Duration,
            lasts(1.0, 7 * DAY),
            told(
                "A paid probe goes out this often at least, unless reports are young.", duration_text(_PROBE.floor)
            ),
        ]
    ] = UNSET
    budget: Given[Annotated[BudgetShape | None, told("Limits of the paid probes.")]] = UNSET
    concurrency: Given[
        Annotated[int, whole(1, 1000), told("Probes of one provider at the same time.", _PROBE.concurrency)]
    ] = UNSET
    reuse: Given[Annotated[bool, told("Keep the connection between probes.", _PROBE.reuse)]] = UNSET
    fresh_every: Given[
        Annotated[
            int,
            whole(1, 1_000_000),
            told("Every n-th probe opens a connection although one is kept; 1: each.", _PROBE.fresh_every),
        ]
    ] = UNSET
    ip_version: Given[
        Annotated[IpVersion, told("4 or 6 for only such addresses; any: the resolver's first.", _PROBE.ip_version)]
    ] = UNSET
    ca_file: Given[
        Annotated[File, told("PEM file of the only authorities to believe, instead of the system's.")]
    ] = UNSET
    # Not that of the frozen value, which holds the environment's proxies themselves.
    proxy: Given[Annotated[bool, told("Use the proxies of the environment (HTTPS_PROXY, NO_PROXY, …).", True)]] = (
        UNSET
    )
    client_cert: Given[Annotated[ClientCertShape | None, told("The certificate that probes show.")]] = UNSET
    size_max: Given[
        Annotated[Size, holds(1024, 64 * 1024**2), told("Longest answer that is read.", size_text(_PROBE.size_max))]
    ] = UNSET
    send_headers: Given[
        Annotated[
            dict[SentName, SentValue | SecretShape],
            told(f"Headers that probes send besides their own: text, or where a secret is: {PLACES}."),
        ]
    ] = UNSET
    listed: Given[
        Annotated[
            bool,
            told("Kind models: a list without the endpoint's model is a failure, not only told.", _PROBE.listed),
        ]
    ] = UNSET
    method: Given[Annotated[Method, told("Kind http: how to ask.", _PROBE.method)]] = UNSET
    send_body: Given[
        Annotated[str, Meta(max_length=65_536), told("Kind http, with POST and PUT: the text to send.")]
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
    answer_model: Given[
        Annotated[Name, told("Kinds completion and tools: the model that answers name instead of ours, or any.")]
    ] = UNSET
    json: Given[
        Annotated[
            dict[JsonPath, str | None],
            told("Kind http: JSONPaths that must be found in the body, each with the value as text, or with none."),
        ]
    ] = UNSET


class StickyShape(Shape, frozen=True, kw_only=True):
    """How long a session stays with its provider."""

    ttl: Given[
        Annotated[
            Duration,
            lasts(1.0, 7 * DAY),
            told(
                "Idle time after which a session is free again; an endpoint's cache_ttl wins.",
                duration_text(_STICKY.ttl),
            ),
        ]
    ] = UNSET
    max_sessions: Given[
        Annotated[
            int,
            whole(0, 10_000_000),
            told(
                "Sessions that are remembered; the one that was idle longest gives way. 0: none.",
                _STICKY.max_sessions,
            ),
        ]
    ] = UNSET


class TimeoutsShape(Shape, frozen=True, kw_only=True):
    """Floors and caps of what an answer allows one attempt."""

    connect: Given[
        Annotated[Duration, lasts(0.05, 300.0), told("To connect.", duration_text(_TIMEOUTS.connect))]
    ] = UNSET
    first_token_min: Given[
        Annotated[
            Duration,
            lasts(0.05, HOUR),
            told("Least time to the first token.", duration_text(_TIMEOUTS.first_token_min)),
        ]
    ] = UNSET
    first_token_max: Given[
        Annotated[
            Duration,
            lasts(0.05, HOUR),
            told("Most time to the first token.", duration_text(_TIMEOUTS.first_token_max)),
        ]
    ] = UNSET
    total_min: Given[
        Annotated[
            Duration,
            lasts(0.05, DAY),
            told("Least time to the end of the answer.", duration_text(_TIMEOUTS.total_min)),
        ]
    ] = UNSET
    total_max: Given[
        Annotated[
            Duration,
            lasts(0.05, DAY),
            told("Most time to the end of the answer.", duration_text(_TIMEOUTS.total_max)),
        ]
    ] = UNSET


class RetryBudgetShape(Shape, frozen=True, kw_only=True):
    """How many of the recent requests may be retries, before an answer says that it is enough."""

    ratio: Given[
        Annotated[float, number(0, 1), told("Share of recent requests that may be retries.", _RETRY.ratio)]
    ] = UNSET
    floor: Given[
        Annotated[
            int,
            whole(0, 1_000_000),
            told("Retries that are allowed however few requests there were.", _RETRY.floor),
        ]
    ] = UNSET


class RoutingShape(Shape, frozen=True, kw_only=True):
    """How a decision is made."""

    strategy: Given[
        Annotated[
            StrategyName,
            told(
                "adaptive weighs price against the chance to fail and the wait; price draws by 1/price^2; weighted "
                "draws by your weights; least_loaded takes the less busy of two.",
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
    sticky: Given[Annotated[StickyShape | None, told("How long a session stays with its provider.")]] = UNSET
    timeouts: Given[Annotated[TimeoutsShape | None, told("Floors and caps of an attempt's timeouts.")]] = UNSET
    retry_budget: Given[Annotated[RetryBudgetShape | None, told("How many retries are too many.")]] = UNSET


class HealthShape(Shape, frozen=True, kw_only=True):
    """When an endpoint is out, for how long, and how it comes back."""

    enforce: Given[
        Annotated[
            bool,
            told(
                "false only watches: states and would-be ejections are computed, shown and counted, and choose "
                "nothing.",
                _HEALTH.enforce,
            ),
        ]
    ] = UNSET
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
            told(
                "Failure share of the last 40 outcomes (20 of them at least) that ejects, once it is significant.",
                _HEALTH.error_ratio,
            ),
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
        Annotated[
            Literal["auto", "console", "json", "journal"],
            told("auto: console on a terminal, journal where standard error is systemd's, else JSON.", _LOG.format),
        ]
    ] = UNSET
