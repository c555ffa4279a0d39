"""Lists the provider's models: free, and shows that the door is open and the credential is known.

It does not show that a model answers, so it is shallow: it can eject, and cannot readmit. The endpoint's own model
is looked for in the list. Lists leave aliases and deployments out, so that it is absent is said and is no failure,
unless `probe.listed` makes it one. A list that says that it goes on is followed until the model is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from itertools import islice
from typing import Final
from urllib.parse import quote

from balancer.core.outcome import Outcome
from balancer.probing.aside import aside
from balancer.probing.client import Client
from balancer.probing.dialects.interface import parsed
from balancer.probing.failure import Failure
from balancer.probing.kinds.interface import Check, good, refusal

PAGES_MAX: Final = 10  # of one list; Google's and Anthropic's whole lists are two or three
COMPARED_MAX: Final = 2000  # names that are looked at for the nearest: the longest lists have some hundreds
NEAREST_MAX: Final = 3  # names that are told instead of one that is absent

# `data` is OpenAI's and Anthropic's, `models` that of Google, Cohere and Ollama; Together sends a bare list.
_KEYS: Final = ("data", "models")
_NAMES: Final = ("id", "name", "model")  # OpenAI's and Anthropic's; Google's, Cohere's and Ollama's; Ollama's too
_PREFIX: Final = "models/"  # Google's, before every name in its list


async def run(client: Client) -> Outcome:
    """Ask for the list, see that it is one, and look for the model."""
    first = client.below(client.dialect.models_path)
    wanted = client.endpoint.upstream_model.removeprefix(_PREFIX)
    url: str | None = first
    names: dict[str, None] = {}
    status = None
    for _ in range(PAGES_MAX):
        assert url is not None
        page = await _page(client, url)
        if isinstance(page, Outcome):
            if status is not None and page.kind == "probe_invalid":
                break  # this list is not followed as others are: what was read of it stands
            return page
        status, listing, entries = page
        known = len(names)
        for name in _named(entries):
            if name == wanted:
                return Outcome(kind="success", status=status)
            names[name] = None
        url = _next(first, listing)
        if url is None or len(names) == known:  # a server that does not know pages sends the same again
            break
    whole = url is None
    among = list(islice(names, COMPARED_MAX))
    near = await aside(partial(get_close_matches, wanted, among, NEAREST_MAX), name="nearest models")
    said = f"{wanted} is not among the {'' if whole else 'first '}{len(names)} models listed"
    if near:
        said += f"; nearest: {', '.join(near)}"
    return Outcome(kind="refused" if whole and client.settings.listed else "success", status=status, detail=said)


async def _page(client: Client, url: str) -> Outcome | tuple[int, object, list[object]]:
    """Ask for a page: status, answer and the list in it where all is well, or else the outcome. Raises: Failure."""
    headers = {"accept": "application/json", **client.identity}
    async with client.request("GET", url, headers=headers) as answer:
        if not good(answer.status):
            return refusal(client, answer, await answer.beginning(), optional=True)
        body = await answer.read()
        client.trace.say_body(body)
        try:
            listing = parsed(body)
        except ValueError as problem:
            raise Failure("malformed", f"the list of models is {problem}", status=answer.status) from None
        entries = _entries(listing)
        if entries is None:
            said = client.explained(answer, body[:2000].decode("utf-8", "replace"))
            raise Failure("malformed", f"not a list of models: {said}", status=answer.status)
        return answer.status, listing, entries


def _entries(listing: object) -> list[object] | None:
    """Find the list in an answer; `None` where there is none."""
    if isinstance(listing, Mapping):
        return next((listing[key] for key in _KEYS if isinstance(listing.get(key), list)), None)
    return listing if isinstance(listing, list) else None


def _named(entries: list[object]) -> Iterator[str]:
    for entry in entries:
        # Asked for the very type: for `Mapping` it takes as long as the rest, and a list may have hundreds.
        names: Iterable[object] = map(entry.get, _NAMES) if isinstance(entry, dict) else (entry,)
        for name in names:
            if isinstance(name, str):
                yield name.removeprefix(_PREFIX)
                break  # one name of an entry: the others are its title, or the same again


def _next(first: str, listing: object) -> str | None:
    """Name the URL of the list's next page, as Anthropic and Google do; `None` where it does not go on."""
    if not isinstance(listing, Mapping):
        return None
    last, token = listing.get("last_id"), listing.get("nextPageToken")
    joint = "&" if "?" in first else "?"
    if listing.get("has_more") is True and isinstance(last, str):
        return f"{first}{joint}after_id={quote(last, safe='')}"
    if isinstance(token, str) and token:
        return f"{first}{joint}pageToken={quote(token, safe='')}"
    return None


MODELS: Final = Check(run=run, shallow=True)
