"""Server-sent events, from bytes as they come to the data of each event.

Theory of operation: lines end in CR LF, LF or CR; a blank line ends an event; lines that begin with a colon
are comments (providers send them to keep a connection open, and they are no sign of life). Only `data` is
kept: both dialects repeat in it what `event` says. The parser holds at most what the answer's size limit lets
through, so it needs none of its own.

Differs from the standard in one place: an event that is cut off by the end of the stream is handed out by
`end`, because some servers forget the last blank line after `[DONE]`.
"""

from __future__ import annotations


class EventParser:
    """One stream's events."""

    def __init__(self) -> None:
        self._rest = bytearray()  # grows in place: a line may come in thousands of pieces
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes; answer the data of every event that they complete."""
        if b"\n" not in chunk and b"\r" not in chunk:
            self._rest += chunk
            return []
        text = bytes(self._rest) + chunk
        # A CR at the very end may be half of a CR LF: it waits for the next chunk.
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(lines.pop() + (b"\r" if held else b""))
        events = (self._line(line) for line in lines)
        return [event for event in events if event is not None]

    def end(self) -> list[str]:
        """Say that nothing more comes; answer what the stream ended in the middle of."""
        lines = (bytes(self._rest).removesuffix(b"\r"), b"")
        self._rest.clear()
        events = (self._line(line) for line in lines)
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> str | None:
        if not line:
            data, self._data = self._data, []
            # The standard drops an event whose data is empty.
            return "\n".join(data) if any(data) else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None
