"""Bytes from a server → its answers, and what is wrong with each.

What it holds against the daemon: a status that is documented, one envelope for every error, a body as long as it
says, and headers that say neither too much nor too little.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

STATUSES: Final = frozenset({200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 422, 429, 431, 503})
"""What is documented; of those above 500 only one."""


class Answer(NamedTuple):
    """One answer. `whole` is false where the connection ended before its body did."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


def answers(heard: bytes) -> list[Answer]:
    """Take apart what a server said. Raises: ValueError for what is no HTTP."""
    found: list[Answer] = []
    while heard:
        head, end, heard = heard.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, *_ = first.split(" ")
        if not end or version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(f"no head of an answer: {head[:200]!r}")
        if status == "100":
            continue
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", "0"))
        if headers.get("content-type") == "text/event-stream":  # it has no length, and ends with the connection
            body, heard = heard, b""
        elif not heard or heard.startswith(b"HTTP/1."):  # of a HEAD, or of nothing
            body = b""
        else:
            body, heard = heard[:size], heard[size:]
        found.append(Answer(int(status), headers, body, len(body) in (0, size)))
    return found


def faults(answer: Answer) -> list[str]:
    """Say what is wrong with an answer."""
    wrong: list[str] = []
    if answer.status not in STATUSES:
        wrong.append(f"the status {answer.status} is not documented")
    if answer.headers.get("server") != "balancer":
        wrong.append("the server has another name")
    if answer.headers.get("x-content-type-options") != "nosniff":
        wrong.append("a browser may guess the type")
    wrong += [f"the header {name}" for name in answer.headers if name.startswith("access-control-")]
    if answer.status >= 400 and answer.body and answer.whole:
        wrong += _envelope(answer)
    return wrong


def _envelope(answer: Answer) -> list[str]:
    try:
        error: Any = json.loads(answer.body)["error"]
        code, message, kind = error["code"], error["message"], error["metadata"]["error_type"]
    except (ValueError, KeyError, TypeError) as problem:
        return [f"no envelope ({problem!r}): {answer.body[:200]!r}"]
    if not (isinstance(message, str) and message and isinstance(kind, str)):
        return [f"an envelope without words: {error!r}"]
    if "\n" in message or "Traceback" in message:
        return [f"a message of several lines: {message!r}"]
    if code != answer.status and answer.status not in (403, 429, 503):  # to which `refuse_with` may change it
        return [f"the code {code} under the status {answer.status}"]
    return []
