"""`balancer simulate --trace FILE`: policies side by side in a recorded or invented world, one of them the core."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Final

from balancer.cli import table
from balancer.config.units import DURATION_PATTERN, parse_duration
from balancer.core.model import Routing
from balancer.service import clock
from balancer.simulation import invented, limits, recorded, report
from balancer.simulation.arrivals import recorded_arrivals
from balancer.simulation.comparison import Setting, compare
from balancer.simulation.policies import POLICIES, describe, make
from balancer.simulation.replay import TRACKS_MAX, TRIES
from balancer.simulation.world import World

RECORDED: Final = (".csv", ".csv.gz")
INVENTED: Final = (".yaml", ".yml")
REFERENCE: Final = "two_memory"
OURS: Final = "balancer"
RATE: Final = 0.1  # requests a second and model: six a minute, the recorded-outage protocol's
PROBE_EVERY: Final = 60.0  # s; the same protocol's
TRIES_MAX: Final = 10  # no proxy goes further down a list
SEEDS_MAX: Final = 1000
BAR: Final = 40  # characters

_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)/([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `simulate`."""
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    verb.epilog = f"policies, and their options in brackets:\n{describe()}"
    verb.add_argument(
        "--trace", required=True, type=_trace, metavar="FILE", help="recorded (.csv, .csv.gz) or invented (.yaml)"
    )
    verb.add_argument(
        "--policy",
        action="append",
        type=_policy,
        metavar="NAME:KEY=VALUE,…",
        help="one to compare; again for more (all)",
    )
    verb.add_argument("--models", type=_models, metavar="N|all|a,b", help="of a recorded world: how many, or which")
    verb.add_argument("--days", type=_days, metavar="D", help="of a recorded world: only its first days")
    verb.add_argument("--rate", type=_rate, default=RATE, metavar="6/m", help="requests a model (6/m)")
    verb.add_argument(
        "--probe-every", type=_probe_every, default=PROBE_EVERY, metavar="60s|off", help="of each endpoint (60s)"
    )
    verb.add_argument("--tries", type=_count(TRIES_MAX), default=TRIES, metavar="N", help=f"a request ({TRIES})")
    verb.add_argument("--seed", type=int, default=1, metavar="N", help="of the world and the first run (1)")
    verb.add_argument("--seeds", type=_count(SEEDS_MAX), default=1, metavar="K", help="runs of each policy (1)")
    verb.add_argument("--limits", action="store_true", help="add 429s: bursts, and a capacity for each endpoint")
    verb.add_argument("--arrivals", metavar="FILE", help="recorded moments of requests instead of Poisson's")
    verb.add_argument(
        "--front", type=_front, default=(), metavar="2,5,15,40", help=f"add {OURS} at these prices of a failure"
    )
    verb.add_argument("--reference", metavar="NAME", help=f"whom all are paired with ({REFERENCE}, or the first)")
    verb.add_argument("--jobs", type=_count(SEEDS_MAX), metavar="N", help="processes (one a processor)")
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.add_argument("--plot", type=_picture, metavar="FILE.png", help="draw what is lost against what it costs")


def run(asked: argparse.Namespace) -> int:
    """Build the world, run every policy with every seed, and tell."""
    policies = _policies(asked)
    reference = asked.reference
    if reference is None:
        reference = REFERENCE if REFERENCE in policies else policies[0]
    wrong = _wrong_together(asked, policies, reference)
    if wrong is not None:
        return _complain(wrong, 2)
    plot = None
    if asked.plot is not None:
        try:
            plot = _drawing()
        except ImportError as error:
            return _complain(f"--plot needs matplotlib ({error}); pip install 'balancer[plot]'", 1)
    try:
        world = _world(asked)
    except (OSError, ValueError) as error:
        return _complain(str(error), 1)
    setting = Setting(rate=asked.rate, probe_every=asked.probe_every, tries=asked.tries)
    seeds = range(asked.seed, asked.seed + asked.seeds)
    bar = _Bar()
    try:
        results = compare(world, policies, seeds, setting, jobs=_jobs(asked), progress=bar)
    except BrokenProcessPool:
        bar.end()
        return _complain("a process of the simulation was killed, perhaps for want of memory; give fewer --jobs", 1)
    finally:
        bar.end()
    comparison = report.Comparison(
        world=world,
        setting=setting,
        seeds=seeds,
        results=results,
        reference=reference,
        ours=[name for name in policies if _price(name) is not None] if asked.front else (),
        limits=asked.limits,
        arrivals=None if asked.arrivals is None else Path(asked.arrivals).name,
    )
    print(json.dumps(report.document(comparison)) if asked.json else _page(comparison))
    if plot is not None:
        try:
            plot.draw(comparison, asked.plot)
        except OSError as error:
            # Only those of the system have a number and its meaning.
            return _complain(f"{asked.plot}: {error if error.strerror is None else error.strerror}", 1)
    return 0


# ---- what was asked --------------------------------------------------------------------------------------


def _policies(asked: argparse.Namespace) -> list[str]:
    """The names that are run: those asked for, then the front's, each once, whatever it is called."""
    names = list(POLICIES) if asked.policy is None else asked.policy
    usual = Routing().failure_price
    front = [OURS if price == usual else f"{OURS}:failure_price={price:g}" for price in asked.front]
    once: dict[str | float, str] = {}
    for name in [*names, *front]:
        price = _price(name)
        once.setdefault(name if price is None else price, name)
    return list(once.values())


def _price(name: str) -> float | None:
    """The price of a failure at a point of the front, the usual configuration but for it; `None` for all others."""
    if name == OURS:
        return Routing().failure_price
    head, _, price = name.partition("=")
    return float(price) if head == f"{OURS}:failure_price" and "," not in price else None


def _wrong_together(asked: argparse.Namespace, policies: list[str], reference: str) -> str | None:
    """What is wrong with options that are right one by one."""
    if reference not in policies:
        return f"--reference {reference} is not among the policies; use {', '.join(policies)}"
    recorded_only = [name for name in ("models", "days") if getattr(asked, name) is not None]
    if recorded_only and asked.trace.endswith(INVENTED):
        return f"--{recorded_only[0]} is for recorded worlds; {asked.trace} is an invented one"
    return None


def _world(asked: argparse.Namespace) -> World:
    """Read the world and add to it what was asked for. Raises: OSError, ValueError."""
    if asked.trace.endswith(INVENTED):
        world = invented.load(asked.trace)
    else:
        models = None if asked.models == "all" else asked.models
        world = recorded.load(asked.trace, models=models, seed=asked.seed, days=asked.days)
    if len(world.tracks) > TRACKS_MAX:
        raise ValueError(f"{asked.trace}: {len(world.tracks)} endpoints; use {TRACKS_MAX} or fewer")
    if asked.limits:
        world = limits.limited(world, seed=asked.seed, rate=asked.rate)
    if asked.arrivals is not None:
        world = replace(world, arrivals=_arrivals(asked, world))
    return world


def _arrivals(asked: argparse.Namespace, world: World) -> tuple[tuple[float, ...], ...]:
    """Recorded moments for each model, as many as its weight says. Raises: ValueError."""
    weights = (1.0,) * len(world.models) if not world.weights else world.weights
    laid = {
        weight: recorded_arrivals(
            asked.arrivals,
            models=len(world.models),
            rate=asked.rate * weight,
            duration=world.duration,
            seed=asked.seed,
        )
        for weight in set(weights)
        if weight > 0
    }
    return tuple(laid[weight][model] if weight > 0 else () for model, weight in enumerate(weights))


def _drawing() -> ModuleType:
    """The one module that needs matplotlib. Raises: ImportError."""
    from balancer.simulation import plot

    return plot


def _jobs(asked: argparse.Namespace) -> int:
    jobs: int = len(os.sched_getaffinity(0)) if asked.jobs is None else asked.jobs
    return jobs


# ---- one option ------------------------------------------------------------------------------------------


def _trace(text: str) -> str:
    if not text.endswith((*RECORDED, *INVENTED)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no world; use a recorded one ({', '.join(RECORDED)}) or an invented one "
            f"({', '.join(INVENTED)})"
        )
    return text


def _policy(text: str) -> str:
    try:
        return make(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _models(text: str) -> int | str | list[str]:
    if text == "all":
        return text
    if re.fullmatch(r"\d+", text):
        return _count(sys.maxsize)(text)
    names = text.split(",")
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; use a number, all, or names with commas")
    return names


def _days(text: str) -> float:
    value = _number(text)
    if value is None or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days; use one above 0, such as 1 or 0.5")
    return value


def _rate(text: str) -> float:
    found = _RATE.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no rate; use requests a second, minute, hour or day: 0.1/s, 6/m"
        )
    return float(found[1]) / _SECONDS[found[2]]


def _probe_every(text: str) -> float | None:
    if text == "off":
        return None
    if re.fullmatch(DURATION_PATTERN, text) is None or parse_duration(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no time between probes; use 1s or more, such as 60s, or off")
    return float(parse_duration(text))


def _front(text: str) -> tuple[float, ...]:
    prices = [_number(part) for part in text.split(",")]
    good = tuple(price for price in prices if price is not None and price >= 0)
    if len(good) < len(prices):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of prices; use numbers from 0 up, such as 2,5,15,40")
    for price in good:
        _policy(f"{OURS}:failure_price={price:g}")
    return good


def _picture(text: str) -> str:
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} is no picture's name; use one that ends in .png")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no folder {str(path.parent)!r}")
    return text


def _count(most: int) -> Callable[[str], int]:
    """A whole number from 1 to a bound."""

    def count(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,18}", text) is None or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is out of range; use a whole number, 1 to {most}")
        return int(text)

    return count


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


# ---- what is told ----------------------------------------------------------------------------------------


def _page(comparison: report.Comparison) -> str:
    """The whole answer, as people read it."""
    parts = [
        report.header(comparison),
        _table(["POLICY", *report.COLUMNS], report.rows(comparison)),
    ]
    about = report.about_differences(comparison)
    if about is not None:
        heads = [f"LOST@{tries}" for tries in report.PAIRED_TRIES]
        parts.append(f"{about}\n{_table(['POLICY', *heads], report.differences(comparison))}")
    front = report.about_front(comparison)
    return "\n\n".join([*parts, "\n".join(front)] if front else parts)


def _table(header: list[str], rows: list[list[str | None]]) -> str:
    cells = [[table.NONE if cell is None else cell for cell in row] for row in rows]
    return table.render(header, cells, right=range(1, len(header)))


def _complain(why: str, status: int) -> int:
    print("\n".join(f"balancer simulate: {line}" for line in why.splitlines()), file=sys.stderr)
    return status


class _Bar:
    """How far the whole is, on a terminal's last line; nothing elsewhere."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._began = clock.monotonic()
        self._shown = ""

    def __call__(self, part: float) -> None:
        """Redraw where there is news."""
        if not self._shows:
            return
        filled = round(part * BAR)
        text = f"[{'#' * filled}{'·' * (BAR - filled)}] {part * 100:3.0f} %"
        if part > 0:
            text += f", {table.seconds((clock.monotonic() - self._began) * (1 - part) / part)} left"
        if text != self._shown:
            self._shown = text
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line as it was found."""
        if self._shown:
            self._shown = ""
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
