"""What the others say of the endpoints at which a witness fails.

Theory of operation: a witness is contradicted where most of its last calls failed, in whatever way, and those that
believed others began at the same endpoints since then succeeded. Of an endpoint of which nobody else speaks, nobody
contradicts it.

What this module does not know: what follows for the witness (`doubt`), and networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from balancer.core.witness import Heard, Witness

MEMORY_AGE: Final = 120.0  # s; what others saw before that was not in the same minutes
LAST: Final = 20  # outcomes; a busy reporter's good times must not hide for long what is bad now
LAST_MIN: Final = 10  # eight failures of ten are no accident: a share of 20 % does that once in ten thousand times
BAD: Final = 0.8  # of its outcomes failed
GOOD: Final = 0.2  # of the others' outcomes failed, at most
VOICES_MIN: Final = 5  # outcomes of others, at all endpoints together
VOICES_EACH: Final = 2  # at one endpoint; one lucky answer of a broken endpoint vouches for nothing


class Contradiction(NamedTuple):
    """The failures that others do not share, in order of arrival, and all `places` where it failed."""

    reason: str
    failures: list[Heard]
    places: frozenset[str]


class Voices:
    """All witnesses, each to be held against the others."""

    def __init__(self, witnesses: Mapping[str | None, Witness]) -> None:
        self._witnesses = witnesses

    def contradiction(self, witness: Witness, heard: Heard, now: float) -> Contradiction | None:
        """Judge a witness whose newest failure is `heard`; `None` where nobody contradicts it."""
        if len(witness.memory) < LAST_MIN or now - heard.ended >= MEMORY_AGE:
            return None
        last = [each for each in list(witness.memory)[-LAST:] if now - each[1] < MEMORY_AGE]
        failures = [Heard._make(each) for each in last if each[3] != "success"]
        if len(last) < LAST_MIN or len(failures) < BAD * len(last) or self._alone(witness, failures[0].ended):
            return None
        # Only what others began when half of these failures had ended is about the same time: a provider that goes
        # down is noticed by somebody first, and the calls that were under way elsewhere may still succeed.
        settled = sorted(each.ended for each in failures)[len(failures) // 2]
        told: dict[str, list[bool]] = {}
        for voice in self.of(witness, settled):
            told.setdefault(voice.endpoint, []).append(voice.kind != "success")
        places = Counter(each.endpoint for each in failures)
        spoken = {key: told[key] for key in places if len(told.get(key, ())) >= VOICES_EACH}
        voices = sum(map(len, spoken.values()))
        common = sum(places[key] for key in spoken)
        # Weighed by where it failed: successes at one endpoint do not speak for another.
        expected = sum(places[key] * sum(each) / len(each) for key, each in spoken.items())
        if voices < VOICES_MIN or 2 * common <= len(failures) or expected >= GOOD * common:
            return None
        reason = (
            f"{len(failures)} of its last {len(last)} calls failed; of {voices} others at the same endpoints "
            f"{sum(map(sum, spoken.values()))} did"
        )
        return Contradiction(reason, failures, frozenset(places))

    def places(self, witness: Witness, now: float) -> set[str]:
        """The endpoints of which believed others spoke lately."""
        since = now - MEMORY_AGE
        return {each[2] for other in self.others(witness, since) for each in other.memory if each[0] >= since}

    def others(self, witness: Witness, since: float) -> Iterator[Witness]:
        """The believed others that were heard since then."""
        for other in self._witnesses.values():
            if other is not witness and other.suspicion is None and other.heard >= since:
                yield other

    def of(self, witness: Witness, since: float) -> Iterator[Heard]:
        """What believed others saw of the endpoints at which this one fails, in calls that began since then."""
        places = {each[2] for each in witness.memory if each[3] != "success"}
        for other in self.others(witness, since):
            for each in other.memory:
                if each[0] >= since and each[2] in places:
                    yield Heard._make(each)

    def _alone(self, witness: Witness, since: float) -> bool:
        """Whether nobody else was answered since then: so it is in an outage of everything, and this is cheap."""
        return not any(each.reached >= since for each in self._witnesses.values() if each is not witness)
