"""The operator's own door: the whole API on a unix socket that only root and the daemon's own user can open.

Theory of operation: a service manager gives us a folder of our own (`RuntimeDirectory=`). Who may open a socket in
it with mode 0600 may read our memory too, so no token is asked there, and a reload needs none: it works whatever
the configuration says of tokens, TLS and addresses. It has its own limit on connections, and the files that are
spared from all other clients, so the operator gets in where everybody else waits. Its file is removed at the end,
and a dead daemon's is replaced.

What this module does not know: what is served, and where else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from balancer.config import Listen
from balancer.http import Hands, Limits, Server

NAME: Final = "control.sock"
MODE: Final = 0o600  # to connect is to write
# No crowd of proxies comes here, but operators and what looks after us.
LIMITS: Final = Limits(connections=16, handshakes=1, streams=4, spare=0)


class Control:
    """The API without tokens on a socket in `runtime_dir`; nowhere without one."""

    def __init__(self, hands: Hands, runtime_dir: Path | None) -> None:
        self._server = Server(hands, limits=LIMITS, asks_tokens=False)
        self._runtime_dir = runtime_dir

    async def start(self) -> None:
        """Serve. Raises: OSError naming the socket that cannot be bound."""
        if self._runtime_dir is not None:
            await self._server.start([Listen(path=str(self._runtime_dir / NAME), mode=MODE)])

    async def stop(self, *, grace: float) -> None:
        """Let answers under way end within `grace` seconds, and remove the socket."""
        await self._server.stop(grace=grace)


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """The folder that a service manager made for as long as we run; the first of several, `None` without any."""
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else None
