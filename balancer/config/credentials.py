"""The keys of each door, and what several keys make: copies of its endpoints, each with a quota domain.

Theory of operation: a door (a provider, or a variant with a credential of its own) lists its keys. The first
serves the endpoints as they are written; each further one serves a copy of every endpoint at that door, whose
tag ends in the key's number: `openai:2`. A provider counts its limits by key, so the quota domain belongs to
the key: it bears the name of the first door that lists it, with its number there, and every endpoint that is
called with the same key of the same provider is in the same domain. Where no key is needed the provider as a
whole is the domain.

A number is where the key stands in the list. Taking a key out from the middle gives the next one its id; the
endpoint's `identity` changes with it, so no evidence moves to another key.

What this module does not know: what a key is (`references`), and what its limits are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import UnsetType

from balancer.config.overlay import first
from balancer.config.problems import Path, path_text
from balancer.config.rules import Sheet
from balancer.config.shape import DoorShape, ProviderShape, VariantShape
from balancer.config.vocabulary import SecretShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One key of a door: which one of its list, where it is, in words that may be shown, and where it counts.

    `reference` and `place` are `None` where no key is needed.
    """

    number: int = 1
    reference: SecretShape | None = None
    place: str | None = None
    quota: str

    def numbered(self, name: str) -> str:
        """Give a tag or id as this key's copy bears it: the first key's are as they are written."""
        return _numbered(name, self.number)


class Credentials:
    """The keys of every door of one file."""

    def __init__(self, sheet: Sheet) -> None:
        self._quotas: dict[tuple[str, SecretShape], str] = {}
        for _, tag, door in sheet.doors():
            provider = tag.partition("/")[0]
            for number, reference in listed(door):
                self._quotas.setdefault((provider, reference), _numbered(tag, number))
        _judge_copies(sheet)

    def at(self, tag: str, provider: ProviderShape, variant: VariantShape) -> tuple[Credential, ...]:
        """Give the keys that the endpoints at a tag are called with: one or more."""
        name = tag.partition("/")[0]
        door = provider if isinstance(variant.credential, UnsetType) else variant
        keys = tuple(
            Credential(
                number=number, reference=reference, place=place(reference), quota=self._quotas[name, reference]
            )
            for number, reference in listed(door)
        )
        return (Credential(quota=name),) if len(keys) == 0 else keys


def listed(door: DoorShape) -> Iterator[tuple[int, SecretShape]]:
    """Number the keys that a door gives itself, from 1."""
    given = first(door.credential)
    if given is not None:
        yield from enumerate(given if isinstance(given, list) else [given], start=1)


def place(reference: SecretShape) -> str:
    """Say in words where a key is, without the key."""
    if not isinstance(reference.env, UnsetType):
        return f"env {reference.env}"
    if not isinstance(reference.file, UnsetType):
        return f"file {reference.file}"
    assert not isinstance(reference.credential, UnsetType)
    return f"systemd credential {reference.credential}"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}:{number}"


def _judge_copies(sheet: Sheet) -> None:
    """Tell where a provider, variant or endpoint is written with the name of a copy: both would be one.

    A name is taken even where no endpoint uses it yet: quota domains and drains go by it too.
    """
    doors = {tag: (path, door) for path, tag, door in sheet.doors()}
    written: dict[str, Path] = {tag: path for tag, (path, _) in doors.items()}
    for path, _, _, endpoint in sheet.endpoints():
        if endpoint.provider.partition("/")[0] in doors:
            written.setdefault(endpoint.provider, (*path, "provider"))
    for tag in tuple(written):
        owners = (one for one in (tag, tag.partition("/")[0]) if one in doors and any(listed(doors[one][1])))
        owner = next(owners, None)
        if owner is None:
            continue
        path, door = doors[owner]
        within: Path = (*path, "credential")
        if sheet.problems.touches(within):
            continue  # the numbers may be others once the list is mended
        for number, _ in listed(door):
            copy = _numbered(tag, number)
            if number > 1 and copy in written:
                found = f"{copy} is the tag of the copies for {path_text((*within, number - 1))}"
                sheet.tell(written[copy], found, "use another name")
