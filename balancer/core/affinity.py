"""Sticky sessions: where a conversation's prompt is still in a provider's cache.

Theory of operation: a session has a home, the endpoint whose cache holds its prompt, and at most one spare, where
it was served while the home was out. Each has a time to live of idleness (the provider's own cache lifetime where
it is known, `StickyPolicy.ttl` where not), renewed by the decisions that choose it and by the successes there.

| what happens | home | spare |
|---|---|---|
| a decision or a success for neither | stays | becomes this one |
| a success elsewhere, and the home never had one | becomes this one | none |
| its lifetime passes | becomes the spare | none |
| its second failure in a row (no success there between) | becomes the spare | none |
| a reload removes it | becomes the spare | none |

A spare is lost in the same three ways. A session without a home starts anew with the next decision or success.
So it goes back to the home that is well again within the lifetime, and not to one whose cache is cold by then.

Why a failure does not move it: OpenRouter does not touch the entry on an error and routes the next request anew, so
the next success, wherever it is, takes the session along (as we read it). With 1-3 % of failures being normal that
throws away a warm cache every few dozen turns, though the cache outlives a failed call. Here one failure only opens
the spare; two in a row are no accident any more. OpenRouter's entry is renewed by successes alone; ours by
decisions too, because many proxies never report.

Memory: one entry a session in least-recently-used order, 306 bytes with its key (measured with 100,000; 104 more
where it has a spare), so 100,000 sessions, the default, take 31 to 41 MB, and a flood of keys evicts the oldest.
A session that lapsed keeps its place until it is used again or is the oldest. The endpoint ids are the
configuration's own strings, not copies. Dumped it is 95 to 140 bytes of JSON.

A dump is told in parts, and decisions are made between them. The entries themselves cannot be walked while they
change, and to list 100,000 of them takes 8 ms; so their keys are kept a second time, in shards that are listed one
by one. Their order is not told: whoever restores sorts by the ages, each part by itself, and then takes the newest
of all parts again and again; decisions are made in between there too. Of more than `DUMPED_MAX` those are told that
were used last. Since when, is read off a sample: digests are random, so a shard is a fair one.

What this module does not know: whether an endpoint is well (a home is a wish: health comes first), whether the
provider caches at all, which failures say something of the provider (a 429 leaves the cache as it is: no failure
here), and whose session it is. A digest is no secret: who guesses a key can find it in a dump.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from heapq import merge
from itertools import islice
from math import inf
from operator import itemgetter
from typing import Any, Final, NoReturn, TypeVar

from balancer.core.model import StickyPolicy

KEY_SIZE: Final = 16  # bytes; two of 100,000 sessions share a digest with a chance of 1e-29
FAILURES_MAX: Final = 2  # in a row: by 3 % of accidents this comes once in a thousand turns
PART_SIZE: Final = 100  # sessions told at once: some tenths of a millisecond
DUMPED_MAX: Final = 250_000  # 35 MB, written every minute
SCAN_SIZE: Final = 200  # sessions of which only the moment is looked at, in as long as `PART_SIZE` are told
SAMPLE_SIZE: Final = 2000  # by which it is found who was used last, to within some percent; sorted in half a ms
SECONDS_MAX: Final = 1e9  # of an age in a dump: thirty years, beyond which it is no age


T = TypeVar("T")


def session_key(session: str, model: str) -> bytes:
    """The digest by which a session of a model is known: every entry costs the same, and tells nobody's key."""
    # The length keeps ("ab", "c") and ("a", "bc") apart; a lone surrogate, which JSON can spell, is a key too.
    text = f"{len(model)}:{model}{session}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_SIZE).digest()


@dataclass(slots=True)
class _Place:
    """Where a session is or was served. Only a home has a spare. `ttl` is `None` where the policy's holds."""

    endpoint: str
    used: float
    ttl: float | None
    confirmed: bool = False
    failures: int = 0
    spare: _Place | None = None


class Sessions:
    """The homes of the sessions that were used last."""

    __slots__ = ("_policy", "_sessions", "_shards")

    def __init__(self, policy: StickyPolicy) -> None:
        self._policy = policy
        self._sessions: OrderedDict[bytes, _Place] = OrderedDict()
        self._shards: defaultdict[int, dict[bytes, None]] = defaultdict(dict)  # the same keys, by their first byte

    def __len__(self) -> int:
        """How many entries take memory; some may have lapsed."""
        return len(self._sessions)

    @property
    def policy(self) -> StickyPolicy:
        """The limits in force. A new one holds at once: fewer sessions drop the oldest."""
        return self._policy

    @policy.setter
    def policy(self, policy: StickyPolicy) -> None:
        self._policy = policy
        self._trim()

    # ---- reading -------------------------------------------------------------------------------------

    def homes(self, key: bytes, *, now: float) -> tuple[str, ...]:
        """The endpoints whose cache still lives, best first, changing nothing."""
        home = self._sessions.get(key)
        if home is None:
            return ()
        spare = home.spare
        lives = self._lives(home, now)
        if spare is None or not self._lives(spare, now):
            return (home.endpoint,) if lives else ()
        return (home.endpoint, spare.endpoint) if lives else (spare.endpoint,)

    def parts(self, now: float, *, most: int = DUMPED_MAX) -> Iterator[list[list[Any]]]:
        """What lives at `now`, few at a time, for `restore` of all of them; others may be written in between.

        `most` are told, or some more: those that were used last.

        Shape: `[digest in hex, home, spare or None]`, a place being `[endpoint, age, ttl or None, confirmed,
        failures]`. Units: seconds, ages and not moments; what happened after `now` has the age 0.
        """
        since, step = -inf, PART_SIZE
        if len(self._sessions) > most:
            since, step = (yield from self._since(most, now)), SCAN_SIZE
        told = 0
        for byte in sorted(self._shards):
            keys = iter(tuple(self._shards.get(byte, ())))
            while some := tuple(islice(keys, step)):
                lately = some if since == -inf else [key for key in some if self._used(key, now) >= since]
                for at in range(0, max(1, len(lately)), PART_SIZE):  # once at least: to look took time as well
                    rows = self._told(lately[at : at + PART_SIZE], now)
                    yield rows
                    told += len(rows)
                    if told >= most:
                        return

    def _since(self, most: int, now: float) -> Generator[list[list[Any]], None, float]:
        """The moment since which about so many sessions were used; -inf where fewer live. Yields empty parts."""
        seen, used = 0, list[float]()
        for byte in sorted(self._shards):
            keys = tuple(self._shards.get(byte, ()))
            keys = keys[:: max(1, len(keys) // SAMPLE_SIZE)]
            for at in range(0, len(keys), SCAN_SIZE):
                used += [self._used(key, now) for key in keys[at : at + SCAN_SIZE]]
                yield []
            seen += len(keys)
            if seen >= SAMPLE_SIZE:
                break
        used.sort(reverse=True)
        left = min(seen, most * seen // max(1, len(self._sessions)))
        return used[left] if left < seen else -inf

    def _used(self, key: bytes, now: float) -> float:
        """When a session was used last; -inf where it lives no more."""
        home = self._sessions.get(key)
        if home is None:
            return -inf
        used = home.used if self._lives(home, now) else -inf
        if home.spare is not None and home.spare.used > used and self._lives(home.spare, now):
            return home.spare.used
        return used

    def _told(self, keys: Iterable[bytes], now: float) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for key in keys:
            home = self._sessions.get(key)
            if home is None:  # evicted since its shard was listed
                continue
            places = [
                _plain(each, now) for each in (home, home.spare) if each is not None and self._lives(each, now)
            ]
            if places:
                rows.append([key.hex(), places[0], places[1] if len(places) > 1 else None])
        return rows

    # ---- writing -------------------------------------------------------------------------------------

    def stick(self, key: bytes, endpoint: str, *, now: float, ttl: float | None) -> None:
        """Take a decision that sends the session there. `ttl` is the endpoint's cache lifetime if known."""
        self._use(key, endpoint, now, ttl)

    def succeeded(self, key: bytes, endpoint: str, *, now: float, ttl: float | None) -> None:
        """Take a report that it answered. `now` is when: a late report undoes nothing that is newer."""
        home, place = self._use(key, endpoint, now, ttl)
        place.confirmed = True
        place.failures = 0
        if place is not home and not home.confirmed:
            self._sessions[key] = place

    def failed(self, key: bytes, endpoint: str, *, now: float) -> None:
        """Take a report that it failed. It renews nothing."""
        home = self._settle(key, now)
        if home is None:
            return
        place = home if home.endpoint == endpoint else home.spare
        if place is None or place.endpoint != endpoint:
            return
        place.failures += 1
        if place.failures < FAILURES_MAX:
            return
        if place is home:
            self._move(key, home.spare)
        else:
            home.spare = None

    def forget(self, gone: Collection[str]) -> None:
        """Drop endpoints that a reload removed, or whose cache is another one now."""
        if not gone:
            return
        gone = frozenset(gone)
        for key, home in list(self._sessions.items()):
            if home.spare is not None and home.spare.endpoint in gone:
                home.spare = None
            if home.endpoint in gone:
                self._move(key, home.spare)

    def restore(self, state: object, *, now: float, away: float, known: Collection[str] | None = None) -> None:
        """Take back what `parts` told, aged by the seconds that we were `away`; what lapsed meanwhile is dropped.

        `known` are the endpoints that still are; `None` believes all. A session that is already here is newer and
        stays. Raises: ValueError for anything that `parts` does not make, and for an impossible `away`; nothing is
        changed then.
        """
        if not _is_seconds(away):
            raise ValueError(f"away: {away!r} is no time that has passed; use 0 to {SECONDS_MAX:.0f} seconds")
        kept = SessionsKept(now - away)
        kept.add(state)
        for _ in self.restoring(kept, now=now, known=lambda endpoint: known is None or endpoint in known):
            pass

    def restoring(self, kept: SessionsKept, *, now: float, known: Callable[[str], bool]) -> Iterator[None]:
        """Do the same bit by bit, some tenths of a millisecond each; `kept` is empty then."""
        runs: list[list[tuple[float, bytes, _Place]]] = []
        while kept.parts:
            run: list[tuple[float, bytes, _Place]] = []
            for key, places in kept.parts.pop():
                lived = [place for place in places if self._lives(place, now) and known(place.endpoint)]
                if lived:
                    lived[0].spare = lived[1] if len(lived) > 1 else None
                    run.append((max(place.used for place in lived), key, lived[0]))
            run.sort(key=itemgetter(0))
            runs.append(run)
            yield
        for number, (_, key, home) in enumerate(merge(*map(_popped, runs), key=itemgetter(0), reverse=True)):
            if len(self._sessions) >= self._policy.max_sessions:
                return  # all that follow are older
            left = [place for place in (home, home.spare) if place is not None and known(place.endpoint)]
            if left and key not in self._sessions:  # a reload may have come since
                left[0].spare = left[1] if len(left) > 1 else None
                self._sessions[key] = left[0]
                self._sessions.move_to_end(key, last=False)
                self._shards[key[0]][key] = None
            if number % PART_SIZE == 0:
                yield

    # ---- the table above -----------------------------------------------------------------------------

    def _lives(self, place: _Place, now: float) -> bool:
        return now - place.used < (self._policy.ttl if place.ttl is None else place.ttl)

    def _settle(self, key: bytes, now: float) -> _Place | None:
        """Write down what the time did to a session; answers its home."""
        home = self._sessions.get(key)
        if home is None:
            return None
        if home.spare is not None and not self._lives(home.spare, now):
            home.spare = None
        if self._lives(home, now):
            return home
        self._move(key, home.spare)
        return home.spare

    def _use(self, key: bytes, endpoint: str, now: float, ttl: float | None) -> tuple[_Place, _Place]:
        """Renew the session's place at an endpoint, which may be new; answers its home and that place."""
        home = self._settle(key, now)
        if home is None:
            home = self._sessions[key] = _Place(endpoint, now, ttl)
            self._shards[key[0]][key] = None
            self._trim()
            return home, home
        self._sessions.move_to_end(key)
        place = home if home.endpoint == endpoint else home.spare
        if place is None or place.endpoint != endpoint:
            place = home.spare = _Place(endpoint, now, ttl)
        else:
            place.used = max(place.used, now)
            place.ttl = ttl
        return home, place

    def _move(self, key: bytes, home: _Place | None) -> None:
        if home is None:
            del self._sessions[key]
            del self._shards[key[0]][key]
        else:
            self._sessions[key] = home

    def _trim(self) -> None:
        while len(self._sessions) > self._policy.max_sessions:
            key, _ = self._sessions.popitem(last=False)
            del self._shards[key[0]][key]


# ---- plain values ------------------------------------------------------------------------------------


class SessionsKept:
    """What `Sessions.parts` told, read and not yet taken back; all ages were told at `then`."""

    def __init__(self, then: float) -> None:
        self.parts: list[list[tuple[bytes, list[_Place]]]] = []
        self._then = then
        self._names: dict[str, str] = {}  # one string for each endpoint, however often the dump spells it

    def add(self, state: object) -> None:
        """Read one part. Raises: ValueError for anything that `Sessions.parts` does not make."""
        if not isinstance(state, list):
            raise ValueError(f"sessions: {_shown(state)} is not a list")
        rows = [_read_row(row, f"sessions[{index}]", self._then) for index, row in enumerate(state)]
        for _, places in rows:
            for place in places:
                place.endpoint = self._names.setdefault(place.endpoint, place.endpoint)
        self.parts.extend(rows[at : at + PART_SIZE] for at in range(0, len(rows), PART_SIZE))


def _plain(place: _Place, now: float) -> list[Any]:
    # A report may be of a moment after `now`, by a rim whose clock was read twice.
    return [place.endpoint, max(0.0, now - place.used), place.ttl, place.confirmed, place.failures]


def _read_row(row: object, where: str, then: float) -> tuple[bytes, list[_Place]]:
    """A session's digest and places, home first; `then` is when the ages were told."""
    if not isinstance(row, list) or len(row) != 3:
        _refuse(where, row, "use [digest, home, spare]")
    digest, home, spare = row
    try:
        key = bytes.fromhex(digest)
    except (TypeError, ValueError):
        key = b""
    if len(key) != KEY_SIZE:
        _refuse(f"{where}[0]", digest, f"use {2 * KEY_SIZE} hexadecimal digits")
    places = [_read_place(home, f"{where}[1]", then)]
    if spare is not None:
        places.append(_read_place(spare, f"{where}[2]", then))
        if places[0].endpoint == places[1].endpoint:
            _refuse(f"{where}[2][0]", places[1].endpoint, "a spare is another endpoint than the home")
    return key, places


def _read_place(plain: object, where: str, then: float) -> _Place:
    if not isinstance(plain, list) or len(plain) != 5:
        _refuse(where, plain, "use [endpoint, age, ttl, confirmed, failures]")
    endpoint, age, ttl, confirmed, failures = plain
    if not isinstance(endpoint, str) or not endpoint:
        _refuse(f"{where}[0]", endpoint, "use an endpoint's id")
    if not _is_seconds(age):
        _refuse(f"{where}[1]", age, f"use 0 to {SECONDS_MAX:.0f} seconds")
    if ttl is not None and not _is_seconds(ttl):
        _refuse(f"{where}[2]", ttl, f"use 0 to {SECONDS_MAX:.0f} seconds, or null")
    if not isinstance(confirmed, bool):
        _refuse(f"{where}[3]", confirmed, "use true or false")
    if not isinstance(failures, int) or isinstance(failures, bool) or not 0 <= failures < FAILURES_MAX:
        _refuse(f"{where}[4]", failures, f"use 0 to {FAILURES_MAX - 1}")
    return _Place(endpoint, then - age, ttl, confirmed, failures)


def _popped(values: list[T]) -> Iterator[T]:
    """Give them from the end, and let each go at once: to free 100,000 in one step takes 10 ms."""
    while values:
        yield values.pop()


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= SECONDS_MAX


def _refuse(where: str, found: object, allowed: str) -> NoReturn:
    raise ValueError(f"{where}: {_shown(found)} is not what was dumped; {allowed}")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (int, float, bool, type(None))) else type(value).__name__
