"""Asks for a URL of the operator's choice and holds the answer against what was written down as good.

The credential goes along only to the origin of `base_url`: an absolute URL may lead to a status page of somebody
else. The operator's own headers go along wherever it leads. Redirects are not followed: what they lead to is
another URL, which can be configured. A URL of the operator's that is not there (404, 405, 410) is a wrong one, and
no verdict; but one that was good before is gone, as where a gateway has lost the servers behind it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import msgspec

from balancer.config.secret import Secret
from balancer.core.outcome import Outcome
from balancer.probing.aside import SEARCHES, aside
from balancer.probing.client import Answer, Client
from balancer.probing.connection import origin_of
from balancer.probing.dialects.interface import parsed
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import ABSENT, Check, good, refusal
from balancer.probing.patterns import SEARCH_MAX, compiled, endless, found, nodes

MATCH_MAX: Final = 4096  # bytes: the time of a pattern like `a.*b` grows with the square of the text
JSON_MAX: Final = 262_144  # bytes; status pages of the largest providers have half of it, and a path reads it all
PATH_MAX: Final = 3.0  # seconds; a path that comes by every value of the largest body takes half of one
FOUND_MAX: Final = 100  # characters of a value that is told instead of the wanted one


async def run(client: Client) -> Outcome:
    """Ask, and compare status, headers and body."""
    settings = client.settings
    url = client.endpoint.base_url if settings.url is None else settings.url
    if not url.startswith(("http://", "https://")):
        url = client.below(url)
    expression = None if settings.body is None else compiled(settings.body)
    own = origin_of(url) == origin_of(client.endpoint.base_url)
    headers = {"accept": "*/*", **(client.identity if own else {})}
    text = settings.send_body.reveal() if isinstance(settings.send_body, Secret) else settings.send_body
    sent = b"" if text is None else text.encode()
    if sent:
        headers["content-type"] = "application/json"  # what APIs take; send_headers may say another
    async with client.request(settings.method, url, headers=headers, body=sent) as answer:
        if answer.status not in settings.status:
            text = await answer.beginning()
            gone = answer.status in ABSENT and settings.url is not None and client.url_good
            if not good(answer.status) and not gone:
                return refusal(client, answer, text, optional=True)
            wanted = ", ".join(str(status) for status in settings.status)
            said = client.explained(answer, text)
            raise Failure("malformed", f"expected status {wanted}; got {said}", status=answer.status)
        _compare_headers(client, answer)
        body = await answer.read()
        client.trace.say_body(body)
        if expression is not None and not await found(
            expression, body[:MATCH_MAX].decode("utf-8", "replace"), limit=client.spare(SEARCH_MAX)
        ):
            said = f"the first {MATCH_MAX} bytes of the body do not match probe.body"
            raise Failure("malformed", said, status=answer.status)
        if settings.json:
            await _compare_json(client, answer, body)
        return Outcome(kind="success", status=answer.status)


def _compare_headers(client: Client, answer: Answer) -> None:
    for name, wanted in client.settings.headers.items():
        found = answer.headers.get(name.lower())
        if found is None or wanted not in found:
            said = "is absent" if found is None else f"is {client.trace.clean(found, 100)!r}"
            raise Failure("malformed", f"header {name} {said}; it must contain {wanted!r}", status=answer.status)


async def _compare_json(client: Client, answer: Answer, body: bytes) -> None:
    if len(body) > JSON_MAX:
        raise Failure("probe_invalid", f"the body is larger than probe.json reads ({JSON_MAX} bytes)")
    try:
        document = parsed(body)
    except ValueError as problem:
        raise Failure("malformed", f"the body is {problem}", status=answer.status) from None
    for path, wanted in client.settings.json.items():
        # In a thread, where decisions need not wait for it: a filter looks at every value of the body.
        limit = client.spare(PATH_MAX)
        follow = partial(_found, path, document, wanted, limit=limit)
        try:
            async with asyncio.timeout(limit):
                first = await aside(follow, name="probe.json", slots=SEARCHES)
        except TimeoutError:
            raise endless(f"probe.json {path}", limit) from None
        if first is None:
            continue
        said = "found nothing" if first == "" else f"found {client.trace.clean(first, FOUND_MAX)}"
        want = "" if wanted is None else f"; it must find {wanted}"
        raise Failure("malformed", f"probe.json {path} {said}{want}", status=answer.status)


def _found(path: str, document: Any, wanted: str | None, *, limit: float) -> str | None:
    """Give what a path finds instead of what is wanted: a value or "" for none; `None` where all is well.

    Raises: Failure; TimeoutError after `limit` seconds.
    """
    from jsonpath import JSONPathError  # slow to import, and few probes need it

    first = ""
    try:
        for value in nodes(path, document, limit=limit):
            text = msgspec.json.encode(value).decode()
            if wanted is None or wanted in (text, value):
                return None
            first = text if first == "" else first
    except JSONPathError as problem:
        raise Failure("probe_invalid", f"probe.json {path} cannot be followed: {problem}") from None
    return first


HTTP: Final = Check(run=run, shallow=True)
