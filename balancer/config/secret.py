"""A secret is a value that never prints.

Its text leaves only through `reveal()`, which is easy to search for. `str`, `repr`, `format`, pickling and
dataclass reprs show `***`.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple, NoReturn


class Absent(NamedTuple):
    """Stands for what is not where it should be, or cannot be used; `why` may be shown."""

    why: str


class Secret:
    """Text that must not appear in any output.

    `fingerprint` tells two secrets apart without telling what they are.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Hand out the text, for the one header or comparison that needs it."""
        return self._text

    def matches(self, text: str) -> bool:
        """Compare in constant time."""
        return compare_digest(self._text.encode(), text.encode())

    @property
    def fingerprint(self) -> str:
        """A short digest: equal secrets have equal fingerprints, and the text cannot be read from it."""
        return blake2b(self._text.encode(), digest_size=8, person=b"balancer").hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._text)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
