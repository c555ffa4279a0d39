"""The table of `balancer status --since`: how each endpoint did over a span of time.

A line is told out of reports, the outcomes of real requests, where there were any that count, else out of probes.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from balancer.cli import table
from balancer.core.outcome import COUNTS

KINDS_MAX: Final = 3  # kinds of failure that a line names; the rest is counted
HEADER: Final = (
    "ENDPOINT", "OF", "UPTIME", "BY MINUTE", "CALLS", "p50", "p90", "EJECTED", "LONGEST OUT", "FAILURES",
)  # fmt: skip


def page(past: dict[str, Any]) -> str:
    """Lay out one table a model; `past` is an answer of /v1/history in one step."""
    parts = []
    for model, group in groupby(past["series"], key=lambda each: str(each["model"])):
        rows = [_row(each) for each in group]
        parts.append(f"{model}\n" + table.render(HEADER, rows, right=(2, 3, 4, 5, 6, 7, 8)))
    return "\n\n".join(parts) if parts else "nothing was kept of that time"


def _row(series: dict[str, Any]) -> list[str]:
    point = series["points"][0] if series["points"] else None
    source = "report" if point is not None and _counting(point["outcomes"].get("report", {})) else "probe"
    outcomes = {} if point is None else point["outcomes"].get(source, {})
    uptime = {} if point is None else point["uptime"].get(source, {})
    latency = {} if point is None else point["latency"].get(source, {})
    outage = series["outage_longest"]
    return [
        str(series["endpoint"]).partition("@")[2],
        f"{source}s",
        _share(uptime.get("requests")),
        _share(uptime.get("minutes")),
        str(sum(outcomes.values())),
        table.seconds(latency.get("p50")),
        table.seconds(latency.get("p90")),
        str(series["ejections"]),
        table.seconds(outage if outage > 0 else None),
        _failures(outcomes),
    ]


def _counting(outcomes: dict[str, int]) -> int:
    return sum(count for kind, count in outcomes.items() if _class(kind) != "none")


def _class(kind: str) -> str:
    """What an outcome counts for; one that only a newer daemon knows counts for nothing here."""
    return next((counts for known, counts in COUNTS.items() if known == kind), "none")


def _share(ratio: float | None) -> str:
    """A share with two digits: of uptime the first two are nines."""
    return table.NONE if ratio is None else f"{ratio * 100:.2f} %"


def _failures(outcomes: dict[str, int]) -> str:
    found = sorted(
        ((count, kind) for kind, count in outcomes.items() if _class(kind) in ("failure", "rate_limited")),
        reverse=True,
    )
    told = [f"{count} {kind}" for count, kind in found[:KINDS_MAX]]
    rest = sum(count for count, _ in found[KINDS_MAX:])
    if rest:
        told.append(f"{rest} others")
    return ", ".join(told) if told else table.NONE
