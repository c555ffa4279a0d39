"""What happened in a run, written down as it happens and judged later.

Theory of operation: traffic, the watcher and the conductor of the timetable write here; the screen and the summary
read. Counts are kept per way of routing and provider; the events from which detection and return are computed are
kept as they are: choices made while some provider was ill, and changes of an endpoint's eligibility.

What this module does not know: clocks (every moment is an argument, in seconds since the run began), and what the
numbers mean: that is `summary`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Final, Literal

from balancer.demo.timetable import Fault, FaultKind

Way = Literal["balanced", "round_robin"]
WAYS: Final[tuple[Way, ...]] = ("balanced", "round_robin")

INELIGIBLE: Final = frozenset({"drained", "misconfigured", "ejected", "half_open", "throttled"})
RECENT: Final = 5.0  # s of traffic that the live shares look back on
RECENT_MAX: Final = 1_000  # first tries kept for it; 5 s at 20 a second are 100
CHOICES_MAX: Final = 20_000  # choices during faults; a run makes about 700
SIGHTS_MAX: Final = 5_000  # changes of eligibility; a fault makes fewer than ten


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision's first choice, received at `at`."""

    at: float
    provider: str
    trial: bool


@dataclass(frozen=True, slots=True)
class Sight:
    """From `at` on an endpoint was seen to be eligible, or not."""

    at: float
    provider: str
    eligible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A fault as it really was; `end` is `None` while it lasts."""

    provider: str
    kind: FaultKind
    start: float
    end: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the daemon thinks of an endpoint. Units: seconds; `estimate` is the chance of success, 0..1."""

    state: str
    reason: str
    next: str | None = None
    next_in: float | None = None
    estimate: float | None = None


@dataclass(slots=True)
class Score:
    """How one way of routing has fared. `first_tries` and `failed_tries` (of any try) are by provider."""

    requests: int
    lost: int
    first_errors: int
    first_tries: Counter[str]
    failed_tries: Counter[str]


class Ledger:
    """The record of one run."""

    def __init__(self, providers: tuple[str, ...]) -> None:
        self.providers = providers
        self.scores: dict[Way, Score] = {way: Score(0, 0, 0, Counter(), Counter()) for way in WAYS}
        self.choices: deque[Choice] = deque(maxlen=CHOICES_MAX)
        self.sights: deque[Sight] = deque(maxlen=SIGHTS_MAX)
        self.spells: list[Spell] = []
        self.opinions: dict[str, Opinion] = {}
        self.refusals = 0
        self.reports_lost = 0
        self._recent: deque[Choice] = deque(maxlen=RECENT_MAX)

    # ---- the truth -----------------------------------------------------------------------------------

    def began(self, fault: Fault, *, at: float) -> None:
        self.spells.append(Spell(provider=fault.provider, kind=fault.kind, start=at))

    def ended(self, fault: Fault, *, at: float) -> None:
        for index, spell in enumerate(self.spells):
            if spell.provider == fault.provider and spell.kind == fault.kind and spell.end is None:
                self.spells[index] = replace(spell, end=at)

    # ---- the daemon ----------------------------------------------------------------------------------

    def decided(self, *, provider: str, trial: bool, at: float) -> None:
        choice = Choice(at, provider, trial)
        self._recent.append(choice)
        if any(spell.end is None for spell in self.spells):
            self.choices.append(choice)

    def saw(self, provider: str, opinion: Opinion, *, at: float) -> None:
        """Note the daemon's opinion; only a change of eligibility is kept with its moment."""
        eligible = opinion.state not in INELIGIBLE
        before = self.opinions.get(provider)
        if before is None or (before.state not in INELIGIBLE) != eligible:
            self.sights.append(Sight(at, provider, eligible))
        self.opinions[provider] = opinion

    # ---- the clients ---------------------------------------------------------------------------------

    def tried(self, way: Way, *, provider: str, attempt: int, ok: bool) -> None:
        score = self.scores[way]
        if attempt == 1:
            score.first_tries[provider] += 1
        if not ok:
            score.failed_tries[provider] += 1

    def finished(self, way: Way, *, first_ok: bool, ok: bool) -> None:
        score = self.scores[way]
        score.requests += 1
        score.first_errors += not first_ok
        score.lost += not ok

    def shares(self, *, now: float) -> dict[str, float]:
        """Each provider's part of the daemon's first choices in the last seconds; all 0 where there were none."""
        fresh = Counter(choice.provider for choice in self._recent if now - choice.at <= RECENT)
        total = fresh.total()
        return {key: fresh[key] / total if total > 0 else 0.0 for key in self.providers}
