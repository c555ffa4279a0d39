"""`balancer probe [ENDPOINT…] [--all]`: probe once now, without a daemon: phases, verdict, cost."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from difflib import get_close_matches
from typing import Final

from balancer.cli import table
from balancer.config import Config, ConfigError, load_config
from balancer.probing import Connections, ProbeResult, probe
from balancer.service import clock

AT_ONCE: Final = 8  # probes; a command on a laptop is no load test

DAY: Final = 86_400.0  # seconds

PHASES: Final = ("resolve", "connect", "tls", "request", "first_byte", "first_token", "transfer")


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `probe`."""
    verb.add_argument(
        "endpoint", metavar="ENDPOINT", nargs="*", help="ids of endpoints; status_page:PROVIDER, self:TARGET"
    )
    verb.add_argument(
        "-c", "--config", default="balancer.yaml", help="configuration: a file or directory (balancer.yaml)"
    )
    verb.add_argument("--all", action="store_true", help="all of these, but endpoints whose credential is not set")
    verb.add_argument("--debug", action="store_true", help="show requests and answers, without secrets")
    verb.add_argument("--json", action="store_true", help="print one JSON object")


def run(asked: argparse.Namespace) -> int:
    """Probe and print; 1 when a probe was no success."""
    if asked.all == bool(asked.endpoint):
        print("balancer: name endpoints, or give --all", file=sys.stderr)
        return 2
    try:
        config = load_config(asked.config, environ=os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    known = [*config.endpoints, *config.lookouts]
    for key in asked.endpoint:
        if key not in known:
            near = get_close_matches(key, known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else f"; {asked.config} has {len(known)}"
            print(f"balancer: no endpoint {key!r}{hint}", file=sys.stderr)
            return 2
    chosen = known if asked.all else list(dict.fromkeys(asked.endpoint))
    skipped = {key: why for key in chosen if (why := _unprobed(config, key)) is not None}
    results = asyncio.run(_probe(config, [key for key in chosen if key not in skipped]))
    if asked.json:
        print(json.dumps({"probes": [each.facts() for each in results], "skipped": skipped}))
    else:
        _print(results, skipped, debug=asked.debug)
    good = all(each.outcome.kind == "success" for each in results) and (asked.all or not skipped)
    return 0 if good and results else 1


def _unprobed(config: Config, key: str) -> str | None:
    if key in config.lookouts:
        return None
    if config.probes[key].kind == "none":
        return "probe.kind is none"
    return config.endpoints[key].misconfigured


async def _probe(config: Config, keys: list[str]) -> list[ProbeResult]:
    connections = Connections(clock=clock.monotonic)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> ProbeResult:
        lookout = config.lookouts.get(key)
        async with slots:
            return await probe(
                config.endpoints[key] if lookout is None else lookout.endpoint,
                config.probes[key] if lookout is None else lookout.settings,
                None if lookout is not None else config.credentials[key],
                connections=connections,
                clock=clock.monotonic,
                wall=clock.wall,
            )

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one(key), name=f"probe:{key}") for key in keys]
    finally:
        await connections.close()
    return [task.result() for task in running]


def _print(results: list[ProbeResult], skipped: dict[str, str], *, debug: bool) -> None:
    if debug:
        for each in results:
            print(f"── {each.endpoint}", *each.transcript, "", sep="\n")
    certified = any(each.certificate_expires is not None for each in results)
    rows = [
        [
            each.endpoint,
            each.kind,
            each.outcome.kind,
            *(table.seconds(each.phases.get(phase)) for phase in PHASES),
            table.seconds(each.outcome.ttft),
            table.NONE if each.tokens_per_second is None else f"{each.tokens_per_second:.1f}",
            table.NONE if each.cost is None else f"${each.cost:.6f}",
            *([_left(each.certificate_expires)] if certified else []),
            each.outcome.detail or table.NONE,
        ]
        for each in results
    ]
    columns = len(PHASES) + 3 + certified
    rows += [[key, table.NONE, "not probed", *[table.NONE] * columns, why] for key, why in skipped.items()]
    header = ["ENDPOINT", "KIND", "VERDICT", *(phase.replace("_", " ").upper() for phase in PHASES)]
    header += ["TTFT", "TOKENS/S", "COST", *(["CERTIFICATE"] if certified else []), "DETAIL"]
    if rows:
        print(table.render(header, rows, right=range(3, 3 + columns)))


def _left(expires: float | None) -> str:
    """Say for how long a certificate is still good."""
    return table.NONE if expires is None else f"{(expires - clock.wall()) / DAY:.0f} days"
