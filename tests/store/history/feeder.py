"""Feeds a history until it is killed; run by `test_history`, once for all kills: to start Python takes long.

For each line on standard input a child is forked that prints its process id, and then again and again how many
outcomes it knows to be written and how many it is about to have fed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from balancer.config import StoreSettings
from balancer.core.model import Transition
from balancer.core.outcome import Outcome
from balancer.service.log import silent
from balancer.store.history import History

SETTINGS = StoreSettings(max_size=1_500_000)  # so that it removes and copies its log while it is killed
WALL = 1_794_999_600.0  # an hour's beginning; each child has an hour of its own
OUTCOME = Outcome(kind="success", latency=1.0)
TRANSITION = Transition(
    number=1, now=0.0, event="endpoint.healthy", endpoint="acme/m@0", model="acme/m", state="healthy", reason=""
)
AT_ONCE = 40


def tell(line: str) -> None:
    """Write a line at once: one that a kill cuts in two would run into the next."""
    os.write(1, f"{line}\n".encode())


def feed(directory: Path, hour: int) -> None:
    """Feed until the end."""
    history = History(directory, SETTINGS, log=silent(), clock=time.monotonic, wall=lambda: WALL)
    history.start()
    began = time.monotonic()
    fed = written = handed = 0
    number = 0
    while True:
        number += 1
        wall = WALL + hour * 3600.0 + number % 60 * 60.0
        tell(f"{written} {fed + AT_ONCE}")
        for each in range(AT_ONCE):
            history.outcome(f"acme/m@{each}", OUTCOME, source="report", wall=wall)
        history.transition(TRANSITION, now=0.0, wall=wall)
        fed += AT_ONCE
        if history.idle:
            written, handed = handed, fed
            history.tick(now=began + number * 6.0, wall=wall)  # six seconds pass in each turn
        time.sleep(0.001)


def main() -> None:
    """Fork for each line, and wait until the child is dead."""
    directory = Path(sys.argv[1])
    for hour, _ in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            tell(str(os.getpid()))
            feed(directory, hour)
        os.waitpid(child, 0)
        tell("dead")


if __name__ == "__main__":
    main()
