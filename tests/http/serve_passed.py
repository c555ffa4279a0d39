"""One process of a service: serves on the socket that it is handed until SIGTERM, as a unit's process does.

Used by `test_restart.py`: `python serve_passed.py FILE_NUMBER uvloop|asyncio`; prints a line once it serves.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from conftest import World, make_config

from balancer.http import Server


class Passed(NamedTuple):
    name: str
    socket: socket.socket


async def serve(number: int) -> None:
    world = World(make_config())
    server = Server(world.hands())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start([], passed=[Passed("api", socket.socket(fileno=number))])
    print("serving", flush=True)
    await stop.wait()
    world.stop()
    await server.stop(grace=1.5)
    assert world.lines.lines == [], world.lines.lines


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[2] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(int(sys.argv[1])))
