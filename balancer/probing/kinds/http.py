"""Asks for a URL of the operator's choice and holds the answer against what was written down as good.

The credential goes along only to the origin of `base_url`: an absolute URL may lead to a status page of somebody
else. Redirects are not followed: what they lead to is another URL, which can be configured.
"""

from __future__ import annotations

import re
from typing import Final

from balancer.core.outcome import Outcome
from balancer.probing.client import Answer, Client
from balancer.probing.connection import origin_of
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check, good, refusal

# Bytes. A search cannot be interrupted, and the whole daemon waits for it: a pattern like `a.*b` takes time that
# grows with the square of the text.
MATCH_MAX: Final = 4096


async def run(client: Client) -> Outcome:
    """Ask, and compare status, headers and body."""
    settings = client.settings
    url = client.endpoint.base_url if settings.url is None else settings.url
    if not url.startswith(("http://", "https://")):
        url = client.below(url)
    pattern = _pattern(settings.body)
    own = origin_of(url) == origin_of(client.endpoint.base_url)
    headers = {"accept": "*/*", **(client.identity if own else {})}
    async with client.request("GET", url, headers=headers) as answer:
        if answer.status not in settings.status:
            text = await answer.beginning()
            if not good(answer.status):
                return refusal(client, answer, text, optional=True)
            wanted = ", ".join(str(status) for status in settings.status)
            said = client.explained(answer, text)
            raise Failure("malformed", f"expected status {wanted}; got {said}", status=answer.status)
        _compare_headers(client, answer)
        body = await answer.read()
        client.trace.say(f"< ({len(body)} bytes)")
        if pattern is not None and pattern.search(body[:MATCH_MAX].decode("utf-8", "replace")) is None:
            said = f"the first {MATCH_MAX} bytes of the body do not match probe.body"
            raise Failure("malformed", said, status=answer.status)
        return Outcome(kind="success", status=answer.status)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as problem:
        raise Failure("probe_invalid", f"probe.body is not a regular expression: {problem}") from None


def _compare_headers(client: Client, answer: Answer) -> None:
    for name, wanted in client.settings.headers.items():
        found = answer.headers.get(name.lower())
        if found is None or wanted not in found:
            said = "is absent" if found is None else f"is {client.trace.clean(found, 100)!r}"
            raise Failure("malformed", f"header {name} {said}; it must contain {wanted!r}", status=answer.status)


HTTP: Final = Check(run=run, shallow=True)
