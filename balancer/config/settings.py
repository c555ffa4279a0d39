"""The frozen values that a configuration decodes into, besides those of the core.

`Config` is a `core.model.Catalog` with what only the rims need: sockets, tokens, credentials and probes.
What this module does not know: YAML, lines and files; `load` makes these values, nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from balancer.config.proxies import Proxies
from balancer.config.secret import Absent, Secret
from balancer.core.model import Catalog, Endpoint

EndpointKind = Literal["models", "completion", "tools", "http", "tls", "tcp", "dns", "none"]
"""What `probe.kind` may say of an endpoint."""
FreeKind = Literal["models", "http", "tls", "tcp", "dns", "none"]
"""What `probe.free_kind` may say: the kinds that cost nothing."""
ProbeKind = Literal[EndpointKind, "status_page", "self"]
Method = Literal["GET", "HEAD", "POST", "PUT", "OPTIONS"]
IpVersion = Literal["any", "4", "6"]
Scope = Literal["read", "report", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """One address to serve on: a TCP `host` and `port`, or a unix socket `path`.

    `mode` (permission bits) and `group` are of a unix socket; without them it is as the process makes its files.
    `reuse_port` is of TCP: several processes share the address, and the kernel chooses among them.
    """

    host: str | None = None
    port: int | None = None
    path: str | None = None
    mode: int | None = None
    group: str | None = None
    reuse_port: bool = False

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if self.host is not None and ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The files of the API's own TLS; a key in the same file needs no `key_file`.

    With a `client_ca_file` every client has to show a certificate that one of its authorities has signed.
    """

    cert_file: str
    key_file: str | None = None
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token of the API: who it is and what it may do."""

    name: str
    scopes: frozenset[Scope]
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What paid probes of one provider may use per UTC day."""

    requests: int = 2000
    usd: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCert:
    """The files of the certificate that probes show; a key in the same file needs no `key_file`."""

    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How one endpoint is probed. Units: seconds, bytes.

    Where `kind` is paid, `free_kind` is probed at the turns for which none is bought; `none` leaves them out.
    `suspect_interval` takes the place of `interval` while something is wrong, and is never the longer of the two.
    `floor` is how often a paid probe goes out where no report is young. `concurrency` is per provider. `reuse`
    keeps the connection between probes, and every `fresh_every`-th probe opens another all the same. `ca_file`
    names the only authorities to believe, `proxy` has the environment's proxies. `listed` makes it a failure that a
    list of models lacks the endpoint's. `send_headers` go along with every HTTP request, besides our own. The rest
    is for the kind `http`: an absolute URL or a path below `base_url`, what is sent there, the statuses that are
    good, headers that must be there (name → text that the value must contain), a regular expression the body must
    match, and JSONPaths of which something must be found in it (path → the value as text, or `None` for any).
    `answer_model` is for the paid kinds: the model that an answer must name instead of the one that was asked for,
    or `any`. `variables` are what the environment put into what is sent: into `url`, `send_headers`, `send_body`
    and the query of `base_url`.
    """

    kind: ProbeKind = "models"
    free_kind: FreeKind = "models"
    interval: float = 30.0
    suspect_interval: float = 10.0
    timeout: float = 10.0
    stale_after: float = 300.0
    floor: float = 28_800.0
    budget: Budget = field(default_factory=Budget)
    concurrency: int = 4
    reuse: bool = True
    fresh_every: int = 10
    ip_version: IpVersion = "any"
    ca_file: str | None = None
    client_cert: ClientCert = field(default_factory=ClientCert)
    proxy: Proxies = field(default_factory=Proxies)
    size_max: int = 4_194_304
    send_headers: Mapping[str, str | Secret | Absent] = field(default_factory=dict)
    listed: bool = False
    method: Method = "GET"
    send_body: str | Secret | None = None
    url: str | None = None
    status: tuple[int, ...] = (200,)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    json: Mapping[str, str | None] = field(default_factory=dict)
    answer_model: str | None = None
    variables: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPage:
    """Where a provider tells of its own trouble, and which of the components there matter (none: all of it).

    Units: seconds. Source of the interval: what pages tell is late by minutes, so asking oftener finds nothing.
    """

    url: str = ""
    components: tuple[str, ...] = ()
    interval: float = 60.0
    timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """What answers while this machine is online: `https://…`, `tcp://host:port`, `dns://name`. Units: seconds.

    Source of the times: together they notice a cut before five failures, at the usual interval, eject anybody.
    """

    targets: tuple[str, ...] = ()
    interval: float = 10.0
    timeout: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings(ProbeSettings):
    """How a status page is read: `components` are the names of those that matter, none for all of it."""

    components: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookout:
    """What is probed besides endpoints, as if it were one: its `base_url` is the page, or the target."""

    endpoint: Endpoint
    settings: ProbeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged and how; `auto` is console on a terminal, journal under systemd and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "journal"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """For how long the history keeps counts by minute, and counts by hour with the transitions. Units: seconds."""

    minutes: float = 604_800.0
    hours: float = 7_776_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What is kept on disk. Units: seconds, bytes.

    `history` is false where no past is to be kept at all. Over `max_size` its oldest goes first, whatever its age.
    Source of the interval: holds begin at ten seconds, so a crash loses about one of them; and a table of 2,000
    endpoints and 100,000 sessions, 20 MB, is written at 2 MB/s.
    """

    save_interval: float = 10.0
    history: bool = True
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    max_size: int = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Catalog):
    """A whole configuration: what the core knows and what the rims need. Secrets never print.

    `probes` and `credentials` are by endpoint id; a credential is `None` where the provider needs none. `lookouts`
    are by id too, `status_page:PROVIDER` and `self:TARGET`. `state_dir` is where a restart finds what it keeps;
    `None` keeps nothing. `files` are those that it was read from; two configurations that say the same are equal
    wherever it stands.
    """

    listen: tuple[Listen, ...] = (Listen(host="127.0.0.1", port=8790),)
    tls: TlsSettings | None = None
    insecure: bool = False
    tokens: tuple[Token, ...] = ()
    probes: Mapping[str, ProbeSettings] = field(default_factory=dict)
    credentials: Mapping[str, Secret | None] = field(default_factory=dict)
    lookouts: Mapping[str, Lookout] = field(default_factory=dict)
    state_dir: str | None = None
    store: StoreSettings = field(default_factory=StoreSettings)
    log: LogSettings = field(default_factory=LogSettings)
    files: tuple[str, ...] = field(default=(), compare=False)
