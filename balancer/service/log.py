"""Log events: a closed list of names, facts as keys, one line each.

Theory of operation: `configure` sets structlog up once for the process: the console's lines on a terminal, fields
in the journal where standard error is the journal, JSON lines elsewhere. A `Log` refuses a name that is not in
`EVENTS`, so that the list in the README is the whole truth. Facts are made plain (`plain.py`) and written down
while the caller waits, which takes microseconds; where they go takes as long as it likes, and that is the outlet's
business. Secrets are a type that prints `***`, and bodies are never facts.

What this module does not know: who reads, and what a terminal or a journal does with the lines.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, Literal, Protocol, TextIO

import structlog

from balancer.service import journal
from balancer.service.outlet import Outlet, Sink, StreamSink
from balancer.service.plain import Plain, plain, printable

EVENTS: Final = frozenset(
    {
        "daemon.started",
        "daemon.ready",
        "daemon.stopping",
        "daemon.stopped",
        "daemon.crashed",
        "daemon.unwell",
        "daemon.well",
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
        "endpoint.enforced",
        "endpoint.watched",
        "endpoint.restored",
        "model.panic_entered",
        "model.panic_left",
        "probe.failed",
        "probe.rejected",
        "probe.budget_spent",
        "probe.crashed",
        "probe.stretched",
        "probe.unstretched",
        "handshake.failed",
        "accept.paused",
        "accept.resumed",
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
        "log.dropped",
        "store.restored",
        "store.set_aside",
        "store.left_alone",
        "store.failed",
        "store.recovered",
        "library.warned",
    }
)

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json", "journal"]

PATIENCE: Final = 1.0  # s that the end of the program waits for its last lines: a third of what a stop may take

_PROSE: Final = ("exception",)  # a fact of several lines that people read as such


class Way(Protocol):
    """Where written lines go."""

    @property
    def dropped(self) -> int:
        """How many did not arrive."""
        ...

    def put(self, entry: bytes) -> None:
        """Take one without waiting."""
        ...

    def close(self, patience: float) -> bool:
        """Take no more, and let those arrive that were taken."""
        ...


class Log:
    """Writes events of the closed list. Raises: ValueError for any other name, a programmer's error."""

    def __init__(self, logger: Any, way: Way | None = None, *, unfiltered: Any = None) -> None:
        self._logger = logger
        self._unfiltered = logger if unfiltered is None else unfiltered
        self._way = way

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

    def audit(self, event: str, **facts: Any) -> None:
        """What somebody did: at level info, and written whatever the level is."""
        self._write("info", event, facts, logger=self._unfiltered)

    @property
    def dropped(self) -> int:
        """How many events were lost because nobody took them in time."""
        return 0 if self._way is None else self._way.dropped

    def close(self, patience: float = PATIENCE) -> bool:
        """Write what waits, for so many seconds at most, and drop what comes later; tell whether all is written."""
        return True if self._way is None else self._way.close(patience)

    def _write(self, level: Level, event: str, facts: dict[str, Any], *, logger: Any = None) -> None:
        if event not in EVENTS:
            raise ValueError(f"{event!r} is not a log event; add it to EVENTS and to the README")
        getattr(self._logger if logger is None else logger, level)(event, **facts)


def configure(
    *,
    level: Level,
    style: Format,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    socket: str = journal.SOCKET,
) -> Log:
    """Make the process's log.

    Shape: `stream` is standard error when not given; `auto` is console where that is a terminal, journal where the
    variable JOURNAL_STREAM of `environ` says that it is the journal, and JSON elsewhere. A stream without a file
    descriptor is memory, and written at once.
    Raises: OSError where the journal is asked for by name and there is none.
    """
    out = sys.stderr if stream is None else stream
    descriptor = _descriptor(out)
    if style == "auto":
        said = None if environ is None else environ.get("JOURNAL_STREAM")
        style = _style(terminal=out.isatty(), descriptor=descriptor, said=said, socket=socket)
    elif style == "journal" and not journal.is_there(socket):
        raise OSError(f"log.format: journal, but there is none at {socket}; use auto, json or console")
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _plain,
        _renderer(style, colors=out.isatty()),
        _encoder(out.encoding if style == "console" and descriptor is not None else "utf-8"),
    ]
    way: Way
    if style == "journal":
        way = _outlet(journal.JournalSink(socket), processors)
    elif descriptor is None:
        way = _Memory(out)
    else:
        out.flush()  # what was written to the stream comes before what is written beside it
        way = _outlet(StreamSink(descriptor), processors)
    filtered, unfiltered = (
        structlog.wrap_logger(_Writer(way), processors, structlog.make_filtering_bound_logger(least)).bind()
        for least in (_LEVELS[level], logging.NOTSET)
    )  # bound once: the wrapper would bind anew for each event
    return Log(filtered, way, unfiltered=unfiltered)


def adopt_libraries(log: Log) -> None:
    """Let the warnings and errors of Python's own `logging` come into this log, for as long as the process lives.

    Source: without a handler they go straight to standard error, and whoever does not read that could hold us up.
    """
    logging.captureWarnings(True)
    logging.getLogger().addHandler(_Library(log))


def silent() -> Log:
    """A log that writes nothing, for a daemon inside another program's terminal."""
    return Log(structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)))


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # in memory, closed, or no file at all
        return None


def _style(*, terminal: bool, descriptor: int | None, said: str | None, socket: str) -> Format:
    if terminal:
        return "console"
    if descriptor is not None and journal.leads_to_journal(descriptor, said) and journal.is_there(socket):
        return "journal"
    return "json"


def _outlet(sink: Sink, processors: list[Any]) -> Outlet:
    def tell(count: int) -> bytes:
        # Whatever the level is: what is missing may have been an error.
        event: Any = {"event": "log.dropped", "events": count}
        for each in processors:
            event = each(None, "warning", event)
        return bytes(event)

    return Outlet(sink, tell=tell)


# ---- how an event is written down ------------------------------------------------------------------------


def _plain(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # People read lines from the left: when, how bad, what, and then the facts.
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**first, **{key: plain(value) for key, value in event.items()}}


def _renderer(style: Format, *, colors: bool) -> Any:
    if style == "journal":
        return _as_entry
    if style == "json":
        return structlog.processors.JSONRenderer(sort_keys=False)
    console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        return console(logger, method, {key: _shown(key, value) for key, value in event.items()})

    return render


def _encoder(encoding: str) -> Any:
    def encode(_logger: Any, _method: str, rendered: str | bytes) -> bytes:
        # What the encoding lacks is written as its escape: the half of a character that came from outside, too.
        return rendered if isinstance(rendered, bytes) else f"{rendered}\n".encode(encoding, "backslashreplace")

    return encode


def _as_entry(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    timestamp, level, name = (event.pop(key) for key in ("timestamp", "level", "event"))
    return journal.entry(level, name, event, timestamp=timestamp)


def _shown(key: str, value: Plain) -> Plain:
    """What a terminal may print: it obeys control characters, and texts come from outside."""
    if isinstance(value, str):
        lines = value.split("\n") if key in _PROSE else [value]
        return "\n".join(printable(line) for line in lines)
    return value


# ---- where it goes ---------------------------------------------------------------------------------------


class _Writer:
    """What structlog calls a logger: it is handed what the last processor made."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def _put(self, entry: bytes) -> None:
        self._way.put(entry)

    debug = info = warning = error = _put


class _Library(logging.Handler):
    """Tells what a library logs as an event of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:  # of the arguments' own `str`, or they do not fit the text
            said = str(record.msg)
        tell = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        tell("library.warned", library=record.name, said=said, exc_info=record.exc_info)


class _Memory:
    """A stream without a file behind it: it cannot make anybody wait."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def put(self, entry: bytes) -> None:
        try:
            self._stream.write(entry.decode())
        except (OSError, ValueError):  # closed
            self.dropped += 1

    def close(self, patience: float) -> bool:
        del patience
        with suppress(OSError, ValueError):
            self._stream.flush()
        return True
