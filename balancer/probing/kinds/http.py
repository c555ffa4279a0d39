"""Asks for a URL of the operator's choice and holds the answer against what was written down as good.

The credential goes along only to the origin of `base_url`: an absolute URL may lead to a status page of somebody
else. The operator's own headers go along wherever it leads. Redirects are not followed: what they lead to is
another URL, which can be configured.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from balancer.config.secret import Secret
from balancer.core.outcome import Outcome
from balancer.probing.aside import aside
from balancer.probing.client import Answer, Client
from balancer.probing.connection import origin_of
from balancer.probing.dialects.interface import parsed
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check, good, refusal

if TYPE_CHECKING:
    import regex

MATCH_MAX: Final = 4096  # bytes: a pattern like `a.*b` takes time that grows with the square of the text
MATCH_TIME: Final = (
    1.0  # seconds of a thread; what takes milliseconds is common, and what takes longer may take years
)
JSON_MAX: Final = 262_144  # bytes; status pages of the largest providers have half of it, and a path reads it all
FOUND_MAX: Final = 100  # characters of a value that is told instead of the wanted one


async def run(client: Client) -> Outcome:
    """Ask, and compare status, headers and body."""
    settings = client.settings
    url = client.endpoint.base_url if settings.url is None else settings.url
    if not url.startswith(("http://", "https://")):
        url = client.below(url)
    pattern = None if settings.body is None else _pattern(settings.body)
    own = origin_of(url) == origin_of(client.endpoint.base_url)
    headers = {"accept": "*/*", **(client.identity if own else {})}
    text = settings.send_body.reveal() if isinstance(settings.send_body, Secret) else settings.send_body
    sent = b"" if text is None else text.encode()
    if sent:
        headers["content-type"] = "application/json"  # what APIs take; send_headers may say another
    async with client.request(settings.method, url, headers=headers, body=sent) as answer:
        if answer.status not in settings.status:
            text = await answer.beginning()
            if not good(answer.status):
                return refusal(client, answer, text, optional=True)
            wanted = ", ".join(str(status) for status in settings.status)
            said = client.explained(answer, text)
            raise Failure("malformed", f"expected status {wanted}; got {said}", status=answer.status)
        _compare_headers(client, answer)
        body = await answer.read()
        client.trace.say_body(body)
        if pattern is not None:
            await _compare_text(answer, body, pattern)
        if settings.json:
            await _compare_json(client, answer, body)
        return Outcome(kind="success", status=answer.status)


def _pattern(text: str) -> regex.Pattern[str]:
    import regex  # slow to import, and few probes need it

    try:
        return regex.compile(text)
    except regex.error as problem:
        raise Failure("probe_invalid", f"probe.body is not a regular expression: {problem}") from None


async def _compare_text(answer: Answer, body: bytes, pattern: regex.Pattern[str]) -> None:
    text = body[:MATCH_MAX].decode("utf-8", "replace")
    # In a thread that nobody has to wait for, and not for ever: some patterns try more ways than can be counted.
    search = partial(pattern.search, text, concurrent=True, timeout=MATCH_TIME)
    try:
        found = await aside(search, name="probe.body")
    except TimeoutError:
        said = f"probe.body is too slow: no end after {MATCH_TIME:g} s; it may match the same text in many ways"
        raise Failure("probe_invalid", said) from None
    if found is None:
        said = f"the first {MATCH_MAX} bytes of the body do not match probe.body"
        raise Failure("malformed", said, status=answer.status)


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
        found = await aside(partial(_found, path, document, wanted), name="probe.json")
        if found is None:
            continue
        said = "found nothing" if found == "" else f"found {client.trace.clean(found, FOUND_MAX)}"
        want = "" if wanted is None else f"; it must find {wanted}"
        raise Failure("malformed", f"probe.json {path} {said}{want}", status=answer.status)


def _found(path: str, document: Any, wanted: str | None) -> str | None:
    """Give what a path finds instead of what is wanted: a value or "" for none; `None` where all is well."""
    from jsonpath import JSONPathEnvironment, JSONPathError  # slow to import, and few probes need it

    first = ""
    try:
        for node in JSONPathEnvironment(strict=True).finditer(path, document):
            text = msgspec.json.encode(node.value).decode()
            if wanted is None or wanted in (text, node.value):
                return None
            first = text if first == "" else first
    except JSONPathError as problem:
        raise Failure("probe_invalid", f"probe.json {path} cannot be followed: {problem}") from None
    return first


HTTP: Final = Check(run=run, shallow=True)
