"""Lists the provider's models: free, and shows that the door is open and the credential is known.

It does not show that a model answers, so it is shallow: it can eject, and cannot readmit. Whether the endpoint's
own model is in the list is not asked: lists come in pages, and leave aliases and deployments out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from balancer.core.outcome import Outcome
from balancer.probing.client import Client
from balancer.probing.dialects.interface import parsed
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check, good, refusal

# `data` is OpenAI's and Anthropic's, `models` that of Google, Cohere and Ollama; Together sends a bare list.
_KEYS: Final = ("data", "models")


async def run(client: Client) -> Outcome:
    """Ask for the list and see that it is one."""
    url = client.below(client.dialect.models_path)
    headers = {"accept": "application/json", **client.identity}
    async with client.request("GET", url, headers=headers) as answer:
        if not good(answer.status):
            return refusal(client, answer, await answer.beginning(), optional=True)
        body = await answer.read()
        client.trace.say(f"< ({len(body)} bytes)")
        try:
            listing = parsed(body)
        except ValueError as problem:
            raise Failure("malformed", f"the list of models is {problem}", status=answer.status) from None
        if not _is_list(listing):
            said = client.explained(answer, body[:2000].decode("utf-8", "replace"))
            raise Failure("malformed", f"not a list of models: {said}", status=answer.status)
        return Outcome(kind="success", status=answer.status)


def _is_list(listing: object) -> bool:
    if isinstance(listing, Mapping):
        return any(isinstance(listing.get(key), list) for key in _KEYS)
    return isinstance(listing, list)


MODELS: Final = Check(run=run, shallow=True)
