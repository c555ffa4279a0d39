"""Log events: a closed list of names, facts as keys, one line each.

Theory of operation: `configure` sets structlog up once for the process: console on a terminal, JSON lines
elsewhere, to standard error. A `Log` refuses a name that is not in `EVENTS`, so that the list in the README is
the whole truth. Secrets are a type that prints `***`, and bodies are never facts.

What this module does not know: journald and its fields; standard error under systemd ends there as JSON.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

EVENTS: Final = frozenset(
    {
        "daemon.started",
        "daemon.ready",
        "daemon.stopping",
        "daemon.stopped",
        "daemon.crashed",
        "config.loaded",
        "config.rejected",
        "endpoint.added",
        "endpoint.removed",
        "endpoint.misconfigured",
        "endpoint.degraded",
        "endpoint.healthy",
        "endpoint.ejected",
        "endpoint.trial_started",
        "endpoint.trial_lapsed",
        "endpoint.readmitted",
        "endpoint.recovered",
        "endpoint.throttled",
        "endpoint.drained",
        "endpoint.resumed",
        "model.panic_entered",
        "model.panic_left",
        "probe.failed",
        "probe.rejected",
        "probe.budget_spent",
        "probe.crashed",
        "probe.stretched",
        "probe.unstretched",
        "lookout.failed",
        "provider.announced",
        "report.refused",
        "request.refused",
        "request.crashed",
        "operator.acted",
        "connection.evicted",
        "self.suspected",
        "self.cleared",
        "reporter.suspected",
        "reporter.cleared",
    }
)

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]


class Log:
    """Writes events of the closed list. Raises: ValueError for any other name, a programmer's error."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def debug(self, event: str, **facts: Any) -> None:
        """What only a developer asks for."""
        self._write("debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """What is worth a line in a quiet week."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """What an operator may have to act on."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """What is our own fault, or stops us."""
        self._write("error", event, facts)

    def _write(self, level: Level, event: str, facts: dict[str, Any]) -> None:
        if event not in EVENTS:
            raise ValueError(f"{event!r} is not a log event; add it to EVENTS and to the README")
        getattr(self._logger, level)(event, **facts)


def configure(*, level: Level, style: Format, stream: TextIO | None = None) -> Log:
    """Make the process's log.

    Shape: `stream` is standard error when not given; `auto` is console where that is a terminal.
    """
    out = sys.stderr if stream is None else stream
    console = style == "console" or (style == "auto" and out.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    logger = structlog.wrap_logger(
        structlog.PrintLogger(file=out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _name_first,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    return Log(logger)


def _name_first(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # People read lines from the left: when, how bad, what, and then the facts.
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**first, **event}


def silent() -> Log:
    """A log that writes nothing, for a daemon inside another program's terminal."""
    return Log(structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)))
