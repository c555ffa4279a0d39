"""A secret is a value that never prints.

The text of a `Secret` leaves only through `reveal()`, which is easy to search for; a `Sealed` has none any more.
`str`, `repr`, `format`, pickling and dataclass reprs show `***`.

What this module does not know: where a text came from. What is in an environment stays in it.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from secrets import token_bytes
from typing import Final, NamedTuple, NoReturn

_KEY: Final = token_bytes(32)  # of this process: a digest that leaves it can be compared with nothing


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


class Sealed:
    """What is kept of a text that is only ever compared: a digest of it under a key of this process.

    Source: BLAKE2 with a key is a MAC (RFC 7693, 2.5). Texts are long, so that nothing slower is needed.
    """

    __slots__ = ("_digest",)

    def __init__(self, text: str) -> None:
        # Bytes that are no UTF-8 come as surrogates from a header, and are bytes like others here.
        self._digest = blake2b(text.encode(errors="surrogateescape"), digest_size=32, key=_KEY).digest()

    def matches(self, other: Sealed) -> bool:
        """Compare in constant time."""
        return compare_digest(self._digest, other._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and self.matches(other)

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return "Sealed(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
