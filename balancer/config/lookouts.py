"""What is probed besides endpoints, resolved: each status page and each target of the self check as a `Lookout`.

Theory of operation: the probing machinery asks endpoints, so a lookout is dressed as one: no model, no credential,
its address as `base_url`. The environment's proxies lead to it as to any endpoint, unless the top level's
`probe.proxy` says no; not to a bare TCP port, which no proxy passes on. Nothing else of `probe` holds for it.

What this module does not know: what an answer means.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain, count
from typing import Final
from urllib.parse import urlsplit

from msgspec import UnsetType

from balancer.config.beside import SelfCheckShape, StatusPageShape
from balancer.config.overlay import overlay
from balancer.config.problems import Path
from balancer.config.proxies import Proxies
from balancer.config.rules import Sheet
from balancer.config.secret import Secret
from balancer.config.sections import ProbeShape
from balancer.config.settings import Lookout, PageSettings, ProbeSettings, SelfCheck, StatusPage
from balancer.config.units import duration_text
from balancer.config.variables import private
from balancer.core.model import Endpoint

SELF: Final = "self"
"""The provider of all self checks: their line has a limit of its own."""


def lookouts(sheet: Sheet, proxies: Proxies) -> Mapping[str, Lookout]:
    """Build them, telling what is wrong on the way."""
    found: dict[str, Lookout] = {}
    top = sheet.file.probe
    if isinstance(top, ProbeShape) and top.proxy is False:
        proxies = Proxies()
    for key, provider in sheet.file.providers.items():
        shape = None if provider is None else provider.status_page
        if isinstance(shape, StatusPageShape):
            page = overlay(StatusPage(), shape)
            _judge_times(sheet, ("providers", key, "status_page"), shape, page)
            variables = _variables(sheet, ("providers", key, "status_page", "url"), page.url)
            found[f"status_page:{key}"] = _page(key, page, proxies, variables)
    own = sheet.file.self_check
    if isinstance(own, SelfCheckShape):
        check = overlay(SelfCheck(), own)
        _judge_times(sheet, ("self_check",), own, check)
        within: Path = ("self_check", "targets")
        for index, target in enumerate(check.targets):
            variables = _variables(sheet, (*within, sheet.checked.number(within, index)), target)
            key = _name(target, found)
            found[key] = _target(key, target, check, proxies, variables)
    return found


def _name(target: str, taken: Collection[str]) -> str:
    """Name a target by where it is: what stands behind that may be private, and is nobody's label."""
    parts = urlsplit(target)
    name = f"self:{parts.scheme}://{parts.netloc}"
    return next(each for each in chain([name], (f"{name}#{number}" for number in count(2))) if each not in taken)


def _variables(sheet: Sheet, path: Path, url: str) -> tuple[Secret, ...]:
    """What the environment put behind the host of an address."""
    node = sheet.written(path)
    return () if node is None else tuple(map(Secret, private(node.held, url)))


def _page(provider: str, page: StatusPage, proxies: Proxies, variables: tuple[Secret, ...]) -> Lookout:
    return Lookout(
        endpoint=_place(f"status_page:{provider}", provider, page.url),
        settings=PageSettings(
            kind="status_page",
            interval=page.interval,
            suspect_interval=page.interval,
            timeout=min(page.timeout, page.interval),
            proxy=proxies,
            variables=variables,
            components=page.components,
        ),
    )


def _target(key: str, target: str, check: SelfCheck, proxies: Proxies, variables: tuple[Secret, ...]) -> Lookout:
    return Lookout(
        endpoint=_place(key, SELF, target),
        settings=ProbeSettings(
            kind="self",
            interval=check.interval,
            suspect_interval=check.interval,
            timeout=min(check.timeout, check.interval),
            concurrency=max(1, len(check.targets)),
            proxy=proxies if target.startswith("http") else Proxies(),
            variables=variables,
            # A kept connection may outlive the network by minutes.
            reuse=False,
        ),
    )


def _place(key: str, provider: str, url: str) -> Endpoint:
    return Endpoint(
        id=key, model="", tag=provider, provider=provider, provider_name=provider, upstream_model="", base_url=url
    )


def _judge_times(
    sheet: Sheet, at: Path, shape: StatusPageShape | SelfCheckShape, value: StatusPage | SelfCheck
) -> None:
    if isinstance(shape.timeout, UnsetType) or value.timeout <= value.interval:
        return
    if any(sheet.problems.touches((*at, key)) for key in ("timeout", "interval")):
        return
    found = f"{duration_text(value.timeout)} is longer than interval, {duration_text(value.interval)}"
    sheet.tell((*at, "timeout"), found, f"use at most {duration_text(value.interval)}")
