"""How each endpoint is probed: the top level's `probe` with the endpoint's own keys over it, and its rules.

A rule about two keys is told where one of them was written: at the endpoint where it gave one, else once at
the top level. A timeout that nobody gave shrinks with the interval.

What this module does not know: how a probe is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import UnsetType

from balancer.config.faults import address_version
from balancer.config.overlay import first, overlay
from balancer.config.problems import Path, path_text
from balancer.config.proxies import Proxies
from balancer.config.references import Vault
from balancer.config.rules import Sheet
from balancer.config.secret import Absent, Secret
from balancer.config.sections import ProbeShape
from balancer.config.settings import ClientCert, ProbeSettings
from balancer.config.shape import EndpointShape
from balancer.config.units import duration_text
from balancer.config.variables import PRIVATE_MIN, private

_HTTP_KEYS = ("url", "method", "send_body", "status", "headers", "body", "json")
_BODY_KEYS = ("body", "json")
_SILENT = ("tls", "tcp", "dns", "none")  # the kinds that send nothing

Headers = Mapping[str, str | Secret | Absent]


class Probes:
    """Merges the probe settings of one file."""

    def __init__(self, sheet: Sheet, vault: Vault | None, proxies: Proxies) -> None:
        self._sheet = sheet
        self._vault = vault
        self._proxies = proxies
        self._top = _given(sheet.file.probe)
        self._base = overlay(ProbeSettings(), self._top)
        self._kinds: set[str] = set()
        self._shared: dict[tuple[str, Path], tuple[float, Path]] = {}
        self._lacks_url: set[str] = set()
        self._judge_times(("probe",), self._top, self._top)

    def settings(self, path: Path, endpoint: EndpointShape) -> ProbeSettings:
        """Merge one endpoint's settings, telling what does not fit together."""
        own = _given(endpoint.probe)
        at = (*path, "probe")
        merged = overlay(self._base, own)
        if isinstance(own.timeout, UnsetType) and isinstance(self._top.timeout, UnsetType):
            merged = dataclasses.replace(merged, timeout=min(merged.timeout, merged.interval))
        merged = dataclasses.replace(
            merged,
            proxy=Proxies() if first(own.proxy, self._top.proxy) is False else self._proxies,
            send_headers=self._headers(at, own),
            send_body=self._body(at, own),
            variables=self._variables(at, own),
            ca_file=self._file(merged.ca_file),
            client_cert=ClientCert(
                cert_file=self._file(merged.client_cert.cert_file), key_file=self._file(merged.client_cert.key_file)
            ),
        )
        self._judge_times(at, own, self._top)
        self._judge_http(at, own, merged)
        self._judge_paid(at, own, merged)
        self._judge_shared(path, endpoint.provider.partition("/")[0], merged)
        self._kinds.update(_used(merged).values())
        return merged

    def judge_address(self, path: Path, endpoint: EndpointShape, settings: ProbeSettings, base_url: str) -> None:
        """Tell where a kind has nothing to do at an endpoint's address."""
        own = _given(endpoint.probe)
        parts = urlsplit(base_url)
        version = address_version(parts.hostname)
        for key, kind in _used(settings).items():
            at: Path = path if isinstance(getattr(own, key), UnsetType) else (*path, "probe", key)
            said = f"the probe kind is {kind}" if key == "kind" else f"{key} is {kind}"
            if kind == "tls" and parts.scheme == "http":
                self._sheet.tell(at, f"{said}, and base_url is plain http", f"use https, or {key}: tcp")
            if kind == "dns" and version is not None:
                found = f"{said}, and base_url holds an address: nothing to resolve"
                self._sheet.tell(at, found, f"use a host's name, or {key}: tcp")
        if settings.ip_version != "any" and version not in (None, settings.ip_version):
            at = path if isinstance(own.ip_version, UnsetType) else (*path, "probe", "ip_version")
            found = f"ip_version is {settings.ip_version}, and base_url holds an IPv{version} address"
            self._sheet.tell(at, found, f"use {version}, or any")

    def with_address(self, places: Sequence[Path], settings: ProbeSettings) -> ProbeSettings:
        """Add what the environment put into the query of an address, which is at the first of some places."""
        node = next((node for node in map(self._sheet.written, places) if node is not None), None)
        held = () if node is None else private(node.held, str(node.value), path=False)
        return (
            dataclasses.replace(settings, variables=(*settings.variables, *map(Secret, held))) if held else settings
        )

    def finish(self) -> None:
        """Tell what is wrong at the top level, now that it is known what the endpoints made of it."""
        touches = self._sheet.problems.touches
        if not self._kinds & _PAID and not touches(("probe", "kind")) and not touches(("models",)):
            self._refuse_paid(("probe",), self._top, "no endpoint has a paid probe kind")
        for key in sorted(self._lacks_url) if not touches(("probe",)) else ():
            self._sheet.tell(("probe", key), "http without a url", "give url: an address or a path")
        self._judge_listed()
        if "http" in self._kinds or touches(("probe", "kind")) or touches(("models",)):
            return
        for key in _written(self._top):
            self._sheet.tell(("probe", key), f"no endpoint has the probe kind http, which alone reads {key}", _USE)

    def _judge_listed(self) -> None:
        touches = self._sheet.problems.touches
        if "models" in self._kinds or touches(("probe", "kind")) or touches(("models",)):
            return
        if not isinstance(self._top.listed, UnsetType):
            found = "no endpoint has the probe kind models, which alone reads listed"
            self._sheet.tell(("probe", "listed"), found, "set kind: models, or remove it")

    def _judge_times(self, at: Path, own: ProbeShape, top: ProbeShape) -> None:
        for low, high, written in _ORDERS:
            if isinstance(getattr(own, low), UnsetType) and isinstance(getattr(own, high), UnsetType):
                continue
            if any(
                self._sheet.problems.touches((*place, key)) for place in (at, ("probe",)) for key in (low, high)
            ):
                continue
            given: dict[str, float | None] = {
                key: first(getattr(own, key), getattr(top, key)) for key in (low, high)
            }
            if given[written] is None:
                continue
            held: dict[str, float] = {
                key: getattr(ProbeSettings(), key) if value is None else value for key, value in given.items()
            }
            if held[low] <= held[high]:
                continue
            least, most = duration_text(held[low]), duration_text(held[high])
            key = written if not isinstance(getattr(own, written), UnsetType) else ({low, high} - {written}).pop()
            if key == low:
                self._sheet.tell((*at, low), f"{least} is longer than {high}, {most}", f"use at most {most}")
            else:
                self._sheet.tell((*at, high), f"{most} is shorter than {low}, {least}", f"use {least} or more")

    def _judge_shared(self, path: Path, provider: str, merged: ProbeSettings) -> None:
        """Tell where endpoints of one provider have different limits, of which it has one."""
        shared: dict[Path, float] = {} if merged.kind == "none" else {("concurrency",): merged.concurrency}
        if merged.kind in _PAID:
            shared[("budget", "requests")] = merged.budget.requests
            shared[("budget", "usd")] = merged.budget.usd
        for key, value in shared.items():
            place: Path = (*path, "probe", *key)
            if self._sheet.problems.touches(place) or self._sheet.problems.touches(("probe", *key)):
                continue
            first_value, first_path = self._shared.setdefault((provider, key), (value, path))
            if value != first_value:
                was = f"the {first_value:.12g} of {path_text(first_path)}{self._sheet.elsewhere(path, first_path)}"
                found = f"{value:.12g} is not {was}, and both are limits of {provider}"
                self._sheet.tell(place, found, "use the same for all endpoints of a provider")

    def _judge_http(self, at: Path, own: ProbeShape, merged: ProbeSettings) -> None:
        touches = self._sheet.problems.touches
        if any(touches((*place, key)) for place in (at, ("probe",)) for key in ("kind", "free_kind")):
            return
        kinds = _used(merged).values()
        paid = merged.kind in _PAID
        said = f"the probe kind is {merged.kind}" + (f" and free_kind {merged.free_kind}" if paid else "")
        if "http" in kinds:
            if merged.url is None and not any(touches((*place, "url")) for place in (at, ("probe",))):
                self._tell_no_url(at, own, "free_kind" if paid else "kind")
            self._judge_message(at, own, merged)
        for key in _written(own) if "http" not in kinds else ():
            use = "set free_kind: http, or remove it" if paid else _USE
            self._sheet.tell((*at, key), f"{said}, and only http reads {key}", use)
        if "models" not in kinds and not isinstance(own.listed, UnsetType):
            use = f"set {'free_kind' if paid else 'kind'}: models, or remove it"
            self._sheet.tell((*at, "listed"), f"{said}, and only models reads listed", use)
        if merged.kind in _SILENT and not isinstance(own.send_headers, UnsetType):
            found = f"the probe kind is {merged.kind}, which sends no headers"
            self._sheet.tell((*at, "send_headers"), found, "use another kind, or remove it")

    def _tell_no_url(self, at: Path, own: ProbeShape, key: str) -> None:
        if isinstance(getattr(own, key), UnsetType):
            self._lacks_url.add(key)
        else:
            self._sheet.tell((*at, key), "http without a url", "give url: an address or a path")

    def _judge_message(self, at: Path, own: ProbeShape, merged: ProbeSettings) -> None:
        """Tell what a method cannot send or bring back, where the method or that was written."""
        if merged.send_body is not None and merged.method not in ("POST", "PUT"):
            place = at if not isinstance(own.send_body, UnsetType) else ("probe",)
            self._once((*place, "send_body"), f"{merged.method} sends no body", "set method: POST or PUT")
        if merged.method == "HEAD":
            for key in _BODY_KEYS:
                if getattr(merged, key):
                    place = at if not isinstance(getattr(own, key), UnsetType) else ("probe",)
                    self._once((*place, key), "HEAD brings no body back", "use another method, or remove it")

    def _once(self, path: Path, found: str, allowed: str) -> None:
        """Tell a problem that many endpoints may inherit from one place."""
        if not self._sheet.problems.touches(path):
            self._sheet.tell(path, found, allowed)

    def _file(self, path: str | None) -> str | None:
        """Read a path as the configuration's own folder sees it."""
        return None if path is None else str(self._sheet.folder / path)

    def _private(self, path: Path, text: str) -> str | Secret:
        """Take text for a secret where a variable is part of it: nobody says whether that holds one."""
        node = self._sheet.written(path)
        variable = node is not None and node.written != text
        return Secret(text) if variable and len(text) >= PRIVATE_MIN else text

    def _variables(self, at: Path, own: ProbeShape) -> tuple[Secret, ...]:
        """What the environment put into what is sent: a server may repeat that and not the rest."""
        held: dict[str, None] = {}
        for key in ("url", "send_body", "send_headers"):
            place = ("probe",) if isinstance(getattr(own, key), UnsetType) else at
            node = self._sheet.written((*place, key))
            nodes = [node] if node is None or not isinstance(node.value, dict) else list(node.value.values())
            held |= dict.fromkeys(value for each in nodes if each is not None for value in each.held)
            if key == "url" and node is not None:
                held |= dict.fromkeys(private(node.held, str(node.value)))
        return tuple(Secret(value) for value in held if len(value) >= PRIVATE_MIN)

    def _body(self, at: Path, own: ProbeShape) -> str | Secret | None:
        place, text = (at, own.send_body) if isinstance(own.send_body, str) else (("probe",), self._top.send_body)
        return self._private((*place, "send_body"), text) if isinstance(text, str) else None

    def _headers(self, at: Path, own: ProbeShape) -> Headers:
        """Fetch the headers to send: an endpoint's replace the top level's. Secrets only with an environment."""
        place, given = at, own.send_headers
        if isinstance(given, UnsetType):
            place, given = ("probe",), self._top.send_headers
        if isinstance(given, UnsetType):
            return {}
        headers: dict[str, str | Secret | Absent] = {}
        for name, value in given.items():
            if isinstance(value, str):
                headers[name] = self._private((*place, "send_headers", name), value)
            elif self._vault is not None:
                held = self._vault.get(value)
                headers[name] = held if isinstance(held, Secret) else Absent(held)
        return headers

    def _judge_paid(self, at: Path, own: ProbeShape, merged: ProbeSettings) -> None:
        if merged.kind not in _PAID and not any(
            self._sheet.problems.touches((*place, "kind")) for place in (at, ("probe",))
        ):
            self._refuse_paid(at, own, f"the probe kind is {merged.kind}")

    def _refuse_paid(self, at: Path, shape: ProbeShape, why: str) -> None:
        for key in _PAID_KEYS:
            if not isinstance(getattr(shape, key), UnsetType):
                found = f"{why}, and only completion and tools read {key}"
                self._sheet.tell((*at, key), found, "set kind: completion, or remove it")


_PAID = frozenset({"completion", "tools"})
_PAID_KEYS = ("answer_model", "free_kind")  # read by those alone
_USE = "set kind: http, or remove it"
# What may not be longer than what; the third was written somewhere, or its default gives way.
_ORDERS = (
    ("timeout", "interval", "timeout"),
    ("suspect_interval", "interval", "suspect_interval"),
    ("interval", "floor", "floor"),
)


def _given(shape: ProbeShape | UnsetType | None) -> ProbeShape:
    return ProbeShape() if shape is None or isinstance(shape, UnsetType) else shape


def _used(settings: ProbeSettings) -> dict[str, str]:
    """The kinds that an endpoint is probed with, by the key that says so."""
    kinds: dict[str, str] = {"kind": settings.kind}
    return kinds | {"free_kind": settings.free_kind} if settings.kind in _PAID else kinds


def _written(shape: ProbeShape) -> list[str]:
    return [key for key in _HTTP_KEYS if not isinstance(getattr(shape, key), UnsetType)]
