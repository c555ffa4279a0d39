"""Families of samples → the two text formats that Prometheus reads.

Theory of operation: a sample line is the same in the text format 0.0.4 and in OpenMetrics 1.0; only the headers
differ, and the last line. So lines are made once, where the facts are, and `exposition` puts the headers on.

Why not prometheus_client's encoder: it spends 12-25 µs a line on names and labels that need no escaping, and the
text is made in the event loop, where every question waits for it.

What this module does not know: what any metric means. Names are ours and plain; label values are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isnan
from typing import Final

from prometheus_client.metrics_core import Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_SUFFIXES: Final = {"counter": "_total", "info": "_info"}
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})  # a quote needs none in 0.0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric and its finished sample lines.

    Shape: `name` without `_total` and `_info`, `kind` in OpenMetrics' words; the lines of one endpoint stand
    together, as OpenMetrics demands.
    """

    name: str
    kind: str
    help: str
    lines: list[str]


def escaped(value: str) -> str:
    """Make a text fit to stand between the quotes of a label."""
    return value.translate(_ESCAPES)


def number(value: float) -> str:
    """Write a value; the infinities in the words of the formats."""
    if isnan(value):
        return "NaN"
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def line(name: str, labels: Mapping[str, str], value: float) -> str:
    """Write one sample. For the few; the table writes its many lines itself."""
    inside = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {number(value)}" if inside else f"{name} {number(value)}"


def collected(metric: Metric) -> Family:
    """Take over what one of prometheus_client's collectors has read."""
    lines = [line(sample.name, sample.labels, sample.value) for sample in metric.samples]
    return Family(name=metric.name, kind=metric.type, help=metric.documentation, lines=lines)


def exposition(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """Write the families, each under its header; one without samples is left out."""
    written: list[str] = []
    for family in families:
        if not family.lines:
            continue
        name, kind = family.name, family.kind
        if not openmetrics:
            name += _SUFFIXES.get(kind, "")
            kind = "gauge" if kind == "info" else kind
        story = family.help.translate(_ESCAPES if openmetrics else _HELP_ESCAPES)
        written.append(f"# HELP {name} {story}")
        written.append(f"# TYPE {name} {kind}")
        written += family.lines
    written.append("# EOF\n" if openmetrics else "")
    return "\n".join(written).encode()


def wants_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header asks for OpenMetrics 1.0 at least as much as for plain text.

    Shape: false for a header that is empty, says nothing of OpenMetrics, or makes no sense.
    Source: RFC 9110 §12.5.1; Prometheus 2 and 3 name both formats and prefer OpenMetrics.
    """
    openmetrics = plain = 0.0
    for part in accept.split(","):
        media, *rest = (piece.strip().lower() for piece in part.split(";"))
        parameters = dict(piece.partition("=")[::2] for piece in rest)
        quality = _quality(parameters.get("q"))
        if media == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            openmetrics = max(openmetrics, quality)
        elif media in ("text/plain", "text/*", "*/*"):
            plain = max(plain, quality)
    return openmetrics > 0 and openmetrics >= plain


def _quality(text: str | None) -> float:
    if text is None:
        return 1.0
    try:
        return float(text)
    except ValueError:
        return 0.0
