"""`balancer demo`: mock providers with a timetable of faults, the daemon on them, and round-robin beside it."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from typing import Final

from balancer.cli.run import loop_factory
from balancer.demo import run_demo
from balancer.demo.timetable import DURATION_MIN

DURATION_MAX: Final = 600.0  # s; a longer one only stretches the quiet between the faults
_SPAN: Final = re.compile(r"(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `demo`."""
    verb.add_argument("--port", type=_port, metavar="N", help="port of the daemon's API (8790, or a free one)")
    verb.add_argument("--for", dest="span", type=_duration, default=60.0, metavar="60s", help="how long (60s)")
    verb.add_argument("--seed", type=int, default=1, metavar="N", help="another timetable and other luck (1)")
    verb.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(asked: argparse.Namespace) -> int:
    """Run the demo to its end or to Ctrl-C."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(
            run_demo(port=asked.port, duration=asked.span, seed=asked.seed, as_json=asked.json, out=sys.stdout)
        )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; use 0 (any free one) to 65535")
    return int(text)


def _duration(text: str) -> float:
    found = _SPAN.fullmatch(text)
    minutes, seconds = found.groups() if found and text else (None, None)
    total = 60 * int(minutes or 0) + float(seconds or 0)
    if not DURATION_MIN <= total <= DURATION_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time for a demo; use {DURATION_MIN:g}s to {DURATION_MAX / 60:g}m, such as 60s or 1m30s"
        )
    return total
