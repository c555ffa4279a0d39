"""Recorded moments of requests → the arrivals of a world.

Theory of operation: real requests come in bursts that no Poisson process has. One recording serves every model: its
moments are stretched or squeezed until they come at the wanted rate, each model starts at another place of it,
drawn by seed, and it runs in a circle until the end of the world. Between its last moment and its first again lies
one mean gap.

What this module does not know: models, and what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from balancer.config.problems import one_of, shown
from balancer.simulation.columns import Table, number

UNITS: Final = {"t_s": 1.0, "t_ms": 1000.0}  # the columns of a moment, and how many of it are a second
MOMENT_MAX: Final = 1e15  # far beyond Unix milliseconds, far below where sums lose them


def recorded_arrivals(
    path: str | Path, *, models: int, rate: float, duration: float, seed: int
) -> tuple[tuple[float, ...], ...]:
    """Read a recording and lay it over each model's time.

    Units: `rate` is requests a second and model. Raises: ValueError.
    """
    assert rate > 0, f"{rate} requests a second"
    moments = _moments(path)
    mean = (moments[-1] - moments[0]) / (len(moments) - 1)
    stretched = [(moment - moments[0]) / mean / rate for moment in moments]
    lap = len(moments) / rate
    return tuple(
        tuple(_laid(stretched, lap, Random(f"{seed} arrivals {model}").random() * lap, duration))
        for model in range(models)
    )


def _laid(moments: Sequence[float], lap: float, start: float, duration: float) -> Iterator[float]:
    """The moments from `start` on, lap after lap, counted from there, until the end."""
    for laps in count():
        for moment in moments:
            at = laps * lap + moment - start
            if at >= duration:
                return
            if at >= 0:
                yield at


def _moments(path: str | Path) -> list[float]:
    """Read the recorded moments, ascending, in seconds. Raises: ValueError."""
    table = Table(path)
    header = table.header()
    name = next((name for name in UNITS if name in header), None)
    if name is None:
        found = f"no such column; there is {one_of(map(shown, header))}" if header else "no header"
        table.tell(1, " or ".join(UNITS), found, "give one of them")
        table.end()
    assert name is not None
    moments = list(_read(table, name))
    table.end()
    moments.sort()
    if not moments or moments[0] == moments[-1]:
        found = f"{len(moments)} moments, none apart from another"
        table.tell(None, name, found, "use two or more, some time apart")
        table.end()
    return moments


def _read(table: Table, name: str) -> Iterator[float]:
    for line, (text,) in table.rows([name]):
        try:
            yield number(text, -MOMENT_MAX, MOMENT_MAX) / UNITS[name]
        except ValueError as error:
            table.tell(line, name, f"{text} {error}".strip(), "use a number")
