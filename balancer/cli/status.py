"""`balancer status [MODEL] [--watch | --since 24h]`: every endpoint's state with its reason and its next moment.

Where health is only watched the table says so, above it and beside each reason: those states choose nothing. A
model's panic stands above its table too. Above all stands who is in doubt, for what it says changes no state, and
what is wrong with the disk. With `--since` the past is told instead: see `past`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection
from itertools import groupby
from shutil import get_terminal_size
from typing import Any, Final

from balancer.cli import client, table

WATCH: Final = 2.0  # s between two redraws


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    verb.add_argument("model", metavar="MODEL", nargs="?", help="only this model (id or alias)")
    how = verb.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="redraw in place until Ctrl-C")
    how.add_argument(
        "--since", metavar="24h", help="uptime, failures, times and ejections since then (a span, or a moment)"
    )
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Print the table once, or again and again; a daemon that goes away is shown, and waited for."""
    try:
        url = client.address(asked)
        if not asked.watch:
            print(_text(asked, url))
            return 0
        _redraw(_text(asked, url))  # a daemon that was never there is an error, not something to watch
        while True:
            time.sleep(WATCH)
            try:
                _redraw(_text(asked, url))
            except client.Unreachable as error:
                _redraw(json.dumps({"error": {"message": str(error)}}) if asked.json else f"balancer: {error}")
    except KeyboardInterrupt:
        return 0
    except (client.Unreachable, client.Refused) as error:
        return client.complain(error, as_json=asked.json)


def _text(asked: argparse.Namespace, url: str) -> str:
    if asked.since is not None:
        from balancer.cli import past  # it knows the outcomes, which nobody else here has to load

        query = {"since": asked.since, "step": "whole", "model": asked.model}
        told = client.ask(url, "/v1/history", needs="series", query=query)
        return json.dumps(told) if asked.json else past.page(told)
    answer = client.ask(url, "/v1/endpoints", needs="endpoints", query={"model": asked.model})
    if asked.json:
        return json.dumps(answer)
    models = client.ask(url, "/v1/models", needs="models")["models"]
    try:
        doubts = doubted(client.ask(url, "/-/ready", needs="ready"))
    except client.Refused:  # it is stopping
        doubts = []
    return "\n\n".join(
        [*doubts, page(answer["endpoints"], panics={str(each["id"]) for each in models if each["panic"]})]
    )


def doubted(ready: dict[str, Any]) -> list[str]:
    """Who is not believed at present, and what is wrong with the disk: a line each, and why."""
    lines = [
        f"reporter {name} is in doubt: {why}" for name, why in ready.get("reporters_suspect_reasons", {}).items()
    ]
    own = ready.get("self_suspect_reason")
    if own is not None:
        lines.insert(0, f"the daemon itself is in doubt: {own}")
    lines += [f"the disk: {why}" for why in ready.get("store_trouble_reasons", {}).values()]
    return ["\n".join(lines)] if lines else []


def page(endpoints: list[dict[str, Any]], *, panics: Collection[str]) -> str:
    """Lay out one table a model; `panics` are the models in panic."""
    parts = []
    for model, group in groupby(endpoints, key=lambda each: str(each["model"])):
        members = list(group)
        eligible = sum(each["eligible"] for each in members)
        watched = "" if all(each["enforced"] for each in members) else "; health is only watched"
        panic = "; panic: health leaves none, so the ejected are tried" if model in panics else ""
        windows = list(members[0]["error_ratio"]["report"])
        window = windows[min(1, len(windows) - 1)]
        rows = [_row(each, window) for each in members]
        header = ["ENDPOINT", "STATE", f"ERRORS {window}", "TTFT p50", "PICKS", "WHY"]
        parts.append(
            f"{model}   {eligible} of {len(members)} eligible{watched}{panic}\n"
            + table.render(header, rows, right=(2, 3, 4))
        )
    return "\n\n".join(parts) if parts else "no endpoints"


def _row(endpoint: dict[str, Any], window: str) -> list[str]:
    ratio = endpoint["error_ratio"]["report"][window]
    if ratio is None:
        ratio = endpoint["error_ratio"]["probe"][window]
    ttft = endpoint["ttft"]
    return [
        str(endpoint["tag"]),
        table.state(endpoint["state"]),
        table.percent(ratio),
        table.seconds(ttft["p50"] if ttft else None),
        str(endpoint["selections"]),
        why(endpoint),
    ]


def why(endpoint: dict[str, Any]) -> str:
    """The reason and what happens next, as one phrase."""
    story = [endpoint["reason"]] if endpoint["reason"] else []
    if story and not endpoint["enforced"] and endpoint["eligible"] and endpoint["state"] != "unverified":
        story[0] = f"only watched: {story[0]}"
    if endpoint["next"]:
        wait = endpoint["next_in"]
        story.append(f"{endpoint['next']} in {table.seconds(wait)}" if wait else str(endpoint["next"]))
    return "; ".join(story) if story else table.NONE


def _redraw(text: str) -> None:
    if not sys.stdout.isatty():
        print(text + "\n", flush=True)
        return
    size = get_terminal_size()
    lines = text.splitlines()
    if len(lines) >= size.lines:
        rest = len(lines) - size.lines + 2
        lines = [*lines[: size.lines - 2], f"… {rest} more lines; name a model, or enlarge the window"]
    # Lines are not wrapped, the cursor goes home, each line is cleared to its end, then the rest of the screen.
    drawn = "".join(f"{line}\x1b[K\n" for line in lines)
    sys.stdout.write(f"\x1b[?7l\x1b[H{drawn}\x1b[J\x1b[?7h")
    sys.stdout.flush()
