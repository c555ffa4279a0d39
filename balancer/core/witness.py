"""One witness of outcomes: what it saw lately, and what speaks against believing it.

Theory of operation: a witness is the daemon itself (its probes), or one reporter. Two memories are kept. The *run*
is what failed without an answer since the last answer: any status line that came back, a 500 too, crossed this
witness's network, and so it ends the run. `severed` reads the run: calls that get no answer at unrelated providers
at once, with no answer from anybody between, have one thing in common, and that is the witness. The *memory* holds
its last outcomes of real work, good and bad, for `doubt` to hold against those of the others.

Not everything that fails is news. An endpoint that is out already fails because it is out. And providers that
failed while another, which had not failed, went on answering do not accuse the witness again until they answer: two
hosts that are gone for good would else make a doubt of every round of probes.

Order is that of endings, not of arrivals: reports come late.

What this module does not know: other witnesses, and what follows from a suspicion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, NamedTuple

from balancer.core.model import Source
from balancer.core.outcome import KINDS, Kind

Rule = Literal["severed", "unreached", "contradicted", "stalled"]

TRANSPORT: Final = frozenset[Kind]({"connect", "dns", "tls", "timeout", "reset", "local"})
"""Kinds of a call that got no answer. A cut `stream` is not among them: its first part was one."""

ANSWERS: Final = frozenset[Kind](KINDS) - TRANSPORT - {"stream", "cancelled"}
"""Kinds of a call that was answered, well or badly: the witness's own network works."""

MEMORY_MAX: Final = 40  # outcomes; more would be older than the trouble at any rate that matters
RUN_MAX: Final = 200  # failures that can be taken back; evidence is counted apart and is not bounded by it
RUN_AGE: Final = 900.0  # s; as old as the failures that eject may be (`health.RECENT_AGE`)
TALKS_AGE: Final = 3600.0  # s; a provider that was not reached for so long is none that the witness talks to

SEVERED_FATES: Final = 3  # unrelated providers; two in one minute happens by chance to who watches hundreds
SEVERED_OUTCOMES: Final = 5  # as many as eject one endpoint: never slower than what they are to prevent
PAIR_EACH: Final = 2  # where there are but two providers, each of which may be down by itself: not one by chance
RESOLVER_FATES: Final = 2  # unrelated hosts; one name that does not resolve is that name


class Heard(NamedTuple):
    """One outcome as a witness told it."""

    began: float
    ended: float
    endpoint: str
    kind: Kind
    source: Source
    shallow: bool = False


Plain = tuple[float, float, str, Kind, Source, bool]
"""`Heard` without its names, for a fifth of the time: one is made for every success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Why a witness is not believed from now on.

    `witness` is `None` for the daemon itself. `since` is the onset: when the first of the failures in question
    ended. `failures` were counted against endpoints and are to be taken back; `endpoints` are those whose ejection
    since the onset stands on its word. `of_machine`: it is of this machine or its resolver, whoever else answers.
    """

    witness: str | None
    rule: Rule
    reason: str
    since: float
    failures: tuple[Heard, ...] = ()
    endpoints: frozenset[str] = frozenset()
    of_machine: bool = False

    @property
    def of_network(self) -> bool:
        """Whether it is of the way out, which works as soon as anybody out there answers."""
        return self.rule == "unreached" or (self.rule == "severed" and not self.of_machine)

    def covers(self, heard: Heard, until: float = inf) -> bool:
        """Whether a failure falls into this doubt, which ended at `until`.

        Shape: where it is of the network, an answer does not, however bad; and a call that was under way before
        the doubt was over does, because it hung in what was wrong.
        """
        if self.rule == "contradicted":
            return self.since <= heard.ended <= until
        return heard.kind not in ANSWERS and self.since <= heard.ended and heard.began <= until


@dataclass(frozen=True, slots=True)
class Cleared:
    """A witness that is believed again, and why; `witness` is `None` for the daemon itself."""

    witness: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterView:
    """One reporter: how many reports were taken, and seconds since the last. `suspicion` while it is suspect."""

    name: str
    reports: int
    silence: float
    suspicion: Suspicion | None


class Failing:
    """What failed without an answer at one provider since the last answer."""

    __slots__ = ("count", "last", "unresolved")

    def __init__(self) -> None:
        self.count = 0
        self.last = -inf
        self.unresolved = False


class Witness:
    """What one witness told. `name` is `None` for the daemon itself.

    `run` holds what failed and was counted, each with whether it was news. `heard` is when its newest outcome came,
    `reports` how many reports it ever sent, `reached` when its newest answer ended, `talks` when each endpoint's
    did. `failing` is the evidence of the run by fate, `failed` every fate that failed in it, news or not; `refuted`
    the fates that are no evidence until they answer. `past` is the last doubt that ended, and when. `unsettled` is
    whether an answer has anything to change.
    """

    __slots__ = (
        "failed",
        "failing",
        "heard",
        "memory",
        "name",
        "newest",
        "past",
        "reached",
        "refuted",
        "reports",
        "run",
        "suspicion",
        "talks",
        "unsettled",
    )

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.heard = -inf
        self.reports = 0
        self.reached = -inf
        self.newest = -inf
        self.talks: dict[str, float] = {}
        self.memory: deque[Plain] = deque(maxlen=MEMORY_MAX)
        self.run: deque[tuple[Heard, bool]] = deque(maxlen=RUN_MAX)
        self.failing: dict[int, Failing] = {}
        self.failed: set[int] = set()
        self.refuted: set[int] = set()
        self.suspicion: Suspicion | None = None
        self.past: tuple[Suspicion, float] | None = None
        self.unsettled = False

    # ---- changing ------------------------------------------------------------------------------------

    def unanswered(self, heard: Heard, fate: int, *, news: bool, recorded: bool) -> None:
        """Take a failure without an answer into the run.

        `news` is whether it may accuse the witness, `recorded` whether it is counted against the endpoint.
        """
        if heard.ended < self.reached:
            return  # an answer came later: it is no part of a run
        self.unsettled = True
        self.newest = max(self.newest, heard.ended)
        self.failed.add(fate)
        if recorded:
            self.run.append((heard, news))
        if news and fate not in self.refuted and heard.kind in TRANSPORT:
            failing = self.failing.get(fate)
            if failing is None:
                failing = self.failing[fate] = Failing()
            failing.count += 1
            failing.last = max(failing.last, heard.ended)
            failing.unresolved = failing.unresolved or heard.kind == "dns"

    def answered(self, fate: int, ended: float, fates: Mapping[str, int]) -> None:
        """End the run at an answer; what ended after it stays, where the answer was told late."""
        self.refuted.discard(fate)
        if ended >= self.newest:
            self.forget_run()
        else:
            self._run_anew([each for each in self.run if each[0].ended > ended], fates)

    def accused(self, suspicion: Suspicion) -> None:
        """Be suspect."""
        self.suspicion = suspicion
        self.unsettled = True

    def acquitted(self, until: float) -> None:
        """Be believed again in what ended after that, and begin anew: what was in doubt proves nothing."""
        if self.suspicion is not None:
            self.past = self.suspicion, until
        self.suspicion = None
        self.memory.clear()
        self.forget_run()

    def refute(self) -> None:
        """Let those that failed in this run accuse nobody until they answer."""
        self.refuted.update(self.failing)

    def forget_run(self) -> None:
        """Begin a new run."""
        self.run.clear()
        self.failing.clear()
        self.failed.clear()
        self.newest = -inf
        self.unsettled = self.suspicion is not None or bool(self.refuted)

    def renumber(self, fates: Mapping[str, int], before: Mapping[str, int], gone: Collection[str]) -> None:
        """Follow a configuration: forget the endpoints that are gone, and number the fates as it does."""
        stay = fates.keys() - gone
        self.talks = {key: ended for key, ended in self.talks.items() if key in stay}
        self.memory = deque([each for each in self.memory if each[2] in stay], maxlen=MEMORY_MAX)
        self.refuted = {fate for key, fate in fates.items() if before.get(key) in self.refuted}
        self._run_anew([each for each in self.run if each[0].endpoint in stay], fates)

    def _run_anew(self, run: Iterable[tuple[Heard, bool]], fates: Mapping[str, int]) -> None:
        self.forget_run()
        for heard, news in run:
            self.unanswered(heard, fates[heard.endpoint], news=news, recorded=True)

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def doubts(self) -> list[tuple[Suspicion, float]]:
        """The doubt that is there and the last that was, each with its end."""
        there = [] if self.suspicion is None else [(self.suspicion, inf)]
        return there if self.past is None else [*there, self.past]

    @property
    def failures(self) -> list[Heard]:
        """What failed in the run and was counted against endpoints, in order of arrival."""
        return [heard for heard, _ in self.run]

    def severed(self, heard: Heard, fates: Mapping[str, int], now: float) -> str | None:
        """Why its last failure makes its own network the likelier cause; `None` where it does not.

        Shape: `heard` is the newest of the run.
        """
        if heard.kind == "local":
            return None if fates[heard.endpoint] in self.refuted else "its own network or resolver is down"
        live = {fate: each for fate, each in self.failing.items() if now - each.last < RUN_AGE}
        if len(live) < RESOLVER_FATES:
            return None
        unresolved = sum(each.unresolved for each in live.values())
        if unresolved >= RESOLVER_FATES:
            return f"the names of {unresolved} unrelated hosts were not resolved"
        outcomes = sum(each.count for each in live.values())
        enough = outcomes >= SEVERED_OUTCOMES
        if len(live) < SEVERED_FATES:
            each_enough = min(each.count for each in live.values()) >= PAIR_EACH
            enough = enough and each_enough and self._talks_to_no_other(live, fates, now)
        if not enough:
            return None
        kinds = ", ".join(sorted({each.kind for each in self.failures if each.kind in TRANSPORT} | {heard.kind}))
        return f"{outcomes} calls in a row got no answer, at {len(live)} unrelated providers ({kinds})"

    def _talks_to_no_other(self, live: Iterable[int], fates: Mapping[str, int], now: float) -> bool:
        meant = set(live)
        return all(fates[key] in meant for key, ended in self.talks.items() if now - ended < TALKS_AGE)

    def recovered(self, outcomes: int) -> bool:
        """Whether most of its last `outcomes` outcomes of real work were good."""
        last = list(self.memory)[-outcomes:]
        good = sum(each[3] == "success" for each in last)
        return 2 * good > outcomes
