"""Whom to believe: the watcher doubts itself first, and then a reporter that everybody contradicts.

Theory of operation: every outcome has a witness (see `witness`), and before a failure becomes evidence it is asked
whether the witness is to blame. Four things make a suspect:
- *severed*: what it calls gets no answer at unrelated providers at once. Its own uplink or resolver explains that
  better than so many providers do.
- *contradicted*: most of its calls fail, in whatever way, while the calls that others began at the same endpoints
  since then succeed. Of an endpoint of which nobody else speaks, nobody contradicts it, and it is believed.
- *unreached*: for the daemon itself, nothing that the operator named for it answers (`reach`).
- *stalled*: for the daemon itself, its event loop stood still; probes that were under way measured that.

While a witness is suspect its failures are counted and change nothing, and what they brought about since the onset
is to be taken back: a `Suspicion` says which failures, and at which endpoints. Its successes are believed: no
broken uplink makes up an answer. The first answer ends a doubt in the network; who was contradicted must again
succeed more often than not. Silence ends both: nothing is known then, either way.

A doubt in ourselves reaches further: of what fell into a doubt in our own network, nobody's failure without an
answer is believed who reached no provider since the onset, because we may share that network.

Only a failure asks these questions; a success is noted and no more. Nothing here draws or reads a clock, so the
same outcomes raise the same doubts.

What this module does not know: rows, health and windows; who it was that broke the uplink.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

from balancer.core.model import Source
from balancer.core.outcome import COUNTS, Kind, Outcome
from balancer.core.reach import Reach
from balancer.core.voices import MEMORY_AGE, Voices
from balancer.core.witness import (
    ANSWERS,
    Cleared,
    Heard,
    Plain,
    ReporterView,
    Rule,
    Suspicion,
    Witness,
)

Verdict = Literal["evidence", "doubted", "stalled"]

WITNESSES_MAX: Final = 256  # reporters beside the configured ones; an embedder may name users
STALLS_MAX: Final = 8  # spans kept; a probe lasts seconds, and so many stalls in that time leave nothing to measure
SILENCE: Final = 300.0  # s without an outcome; ten rounds of probes at the default interval
STALL_SILENCE: Final = 60.0  # s; two rounds of probes: one of them had time to work

MACHINE: Final = frozenset[Kind]({"local", "dns"})
UNREACHED_FATES: Final = 2  # unrelated providers whose answers show that the targets of self_check are the fault
UNREACHED_MAX: Final = 900.0  # s in which only one does, after which the others are out, whatever the cause

RECOVERED: Final = 10  # outcomes, more than half of them good: far enough from BAD not to flap


class Doubt:
    """Every witness, and which of them are suspect. `news` is what has changed and nobody has acted on yet."""

    def __init__(self) -> None:
        self._own = Witness(None)
        self._witnesses: dict[str | None, Witness] = {None: self._own}
        self._voices = Voices(self._witnesses)
        self._retained: frozenset[str] = frozenset()
        self._several = False  # alone there is nobody to be held against
        self._fates: Mapping[str, int] = {}
        self._reach = Reach()
        self._stalls: deque[tuple[float, float]] = deque(maxlen=STALLS_MAX)
        self.news: list[Suspicion | Cleared] = []

    # ---- changing ------------------------------------------------------------------------------------

    def apply(self, fates: Mapping[str, int], gone: Collection[str] = ()) -> None:
        """Follow a configuration: `gone` are the endpoints that are no longer what they were.

        Shape: endpoint id → number of its fate, for every endpoint.
        """
        if gone or fates != self._fates:
            for witness in self._witnesses.values():
                witness.renumber(fates, self._fates, gone)
            self._fates = fates

    def retain(self, names: Iterable[str]) -> None:
        """Forget all reporters but these, and none of these from now on, however long they are silent."""
        self._retained = frozenset(names)
        for name in [name for name in self._witnesses if name is not None and name not in self._retained]:
            self._forget(name)

    def take(
        self,
        endpoint: str,
        outcome: Outcome,
        *,
        source: Source,
        reporter: str | None,
        began: float,
        ended: float,
        now: float,
        out: bool,
    ) -> Verdict:
        """Hear one outcome, and judge whether it is evidence.

        `reporter` is `None` for the daemon's own eyes, as all probes are; `out` is whether the endpoint was ejected
        before, so that its failure is no news. What follows for the witness is added to `news`.
        """
        witness = self._witnesses.get(None if source == "probe" else reporter)
        if witness is None:
            witness = self._meet(reporter)
        if witness.unsettled:
            self._lapse(witness, now)
        witness.heard = now
        if source == "report":
            witness.reports += 1
        kind = outcome.kind
        good = kind == "success"
        if not good and kind not in ANSWERS:
            if kind == "cancelled":
                return "evidence"
            heard = Heard(began, ended, endpoint, kind, source, outcome.shallow)
            return self._unanswered(witness, heard, now, out)
        if ended > witness.reached:
            witness.reached = ended
        witness.talks[endpoint] = ended
        if good and self._several and not outcome.shallow:
            witness.memory.append((began, ended, endpoint, kind, source, False))
        if witness.unsettled:
            self._answered(witness, endpoint, ended)
        if good or COUNTS[kind] != "failure":
            return "evidence"
        return self._failed(witness, Heard(began, ended, endpoint, kind, source, outcome.shallow), now)

    def retain_targets(self, targets: Iterable[str], now: float) -> None:
        """Know of these targets of our own reach, and of no others."""
        if self._reach.retain(targets) and self._rule == "unreached":
            self._clear(self._own, now, "other targets are checked now")

    def checked(self, target: str, fault: str | None, *, began: float, now: float) -> None:
        """Take one check of our own reach: `fault` is what it met, `None` for an answer."""
        own, reach = self._own, self._reach
        self._lapse(own, now)
        if fault is None:
            reach.good(now)
            if own.suspicion is not None and own.suspicion.of_network:
                self._clear(own, now, f"{target} answers")
            return
        if any(began <= until and now >= since for since, until in self._stalls):
            return  # nothing of ours ran: it measured that
        found = reach.failed(target, fault, began=began)
        if found is None:
            return
        if self._rule in (None, "stalled") and own.reached < found.began:
            since = max(found.since, own.reached)
            failures = [each for each in own.failures if each.ended >= since]
            self._suspect(own, self._suspicion(own, "unreached", found.reason, failures, since))
        if own.suspicion is not None:
            own.heard = now

    def stalled(self, *, since: float, now: float) -> None:
        """Take note that nothing of ours ran between the two."""
        self._stalls.append((since, now))
        own = self._own
        self._lapse(own, now)
        if own.suspicion is None:
            own.heard = now
            failures = tuple(each for each in own.failures if each.source == "probe" and each.ended >= since)
            self._suspect(
                own,
                Suspicion(
                    witness=None,
                    rule="stalled",
                    reason=f"the event loop stood still for {now - since:.1f} s",
                    since=since,
                    failures=failures,
                    endpoints=frozenset(each.endpoint for each in failures),
                ),
            )

    def settle(self, now: float) -> None:
        """End the doubts that silence has ended."""
        for witness in self._witnesses.values():
            self._lapse(witness, now)

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def _rule(self) -> Rule | None:
        return None if self._own.suspicion is None else self._own.suspicion.rule

    @property
    def answered(self) -> float:
        """When anybody last answered us."""
        return self._own.reached

    def own(self, now: float) -> Suspicion | None:
        """Why the daemon itself is suspect at `now`; `None` while it is not."""
        return None if _lapsed(self._own, now) else self._own.suspicion

    def blind(self, now: float) -> bool:
        """Whether we are suspect, or some reporter whose calls get no answer and so do not end."""
        return self.own(now) is not None or any(
            each.suspicion is not None and each.suspicion.rule == "severed" and not _lapsed(each, now)
            for each in self._witnesses.values()
        )

    def reporters(self, now: float) -> tuple[ReporterView, ...]:
        """Every reporter that was heard of, in the order of their first reports."""
        return tuple(
            ReporterView(
                name=name,
                reports=witness.reports,
                silence=max(0.0, now - witness.heard),
                suspicion=None if _lapsed(witness, now) else witness.suspicion,
            )
            for name, witness in self._witnesses.items()
            if name is not None
        )

    # ---- outcomes ------------------------------------------------------------------------------------

    def _answered(self, witness: Witness, endpoint: str, ended: float) -> None:
        fate, suspicion = self._fates[endpoint], witness.suspicion
        if suspicion is not None and suspicion.rule == "contradicted":
            if witness.recovered(RECOVERED):
                self._clear(witness, ended, "most of its calls succeed again")
        elif suspicion is not None and suspicion.rule == "unreached":
            # One may stand in our own house, which its answers say nothing about the way out of.
            few = len(self._answering(suspicion.since)) < min(UNREACHED_FATES, len(set(self._fates.values())))
            if not few or ended - suspicion.since >= UNREACHED_MAX:
                self._reach.refuted = True
                self._clear(witness, ended, "providers answer, if no target of self_check does")
        elif suspicion is not None and ended >= suspicion.since:
            if suspicion.rule == "severed" and fate not in witness.failed:
                witness.refute()
            self._clear(witness, ended, "providers answer again")
        witness.answered(fate, ended, self._fates)

    def _unanswered(self, witness: Witness, heard: Heard, now: float, out: bool) -> Verdict:
        self._lapse(self._own, now)  # whose doubt is others' as well
        if heard.source == "probe" and any(
            heard.began <= until and heard.ended >= since for since, until in self._stalls
        ):
            return "stalled"
        recorded = COUNTS[heard.kind] == "failure" and not self._doubted(witness, heard, now)
        news = not out or heard.kind == "local"  # which is about this machine, whatever the endpoint is
        witness.unanswered(heard, self._fates[heard.endpoint], news=news, recorded=recorded)
        if news and (witness.suspicion is None or witness.suspicion.rule == "stalled"):
            reason = witness.severed(heard, self._fates, now)
            of_machine = heard.kind in MACHINE
            if reason is not None and (of_machine or witness is not self._own or not self._reach.online(now)):
                # One provider that was down before our own network went accounts for itself.
                run = witness.failures if len(witness.failing) > 1 else []
                failures = [each for each in run if each is not heard]
                found = self._suspicion(witness, "severed", reason, failures, _onset(failures, heard))
                self._suspect(witness, replace(found, of_machine=of_machine))
        return self._failed(witness, heard, now)

    def _failed(self, witness: Witness, heard: Heard, now: float) -> Verdict:
        doubted = self._doubted(witness, heard, now)
        suspicion = witness.suspicion
        if heard.shallow or COUNTS[heard.kind] != "failure":
            return "doubted" if doubted else "evidence"
        if suspicion is not None and suspicion.rule == "contradicted":
            witness.memory.append(heard)
            if not any(each.kind == "success" for each in self._voices.of(witness, now - MEMORY_AGE)):
                self._clear(witness, heard.ended, "nobody contradicts it any more")
        elif self._several and not doubted:
            witness.memory.append(heard)
            found = self._contradicted(witness, heard, now)
            if found is not None:
                self._suspect(witness, found)
                doubted = self._doubted(witness, heard, now)
        return "doubted" if doubted else "evidence"

    def _doubted(self, witness: Witness, heard: Heard, now: float) -> bool:
        """Whether a failure falls into a doubt that is there, or into the last that was."""
        if any(
            suspicion.covers(heard, until)
            and (suspicion.rule != "contradicted" or heard.endpoint in self._voices.places(witness, now))
            and (
                suspicion.rule != "unreached" or self._fates[heard.endpoint] not in self._answering(suspicion.since)
            )
            for suspicion, until in witness.doubts
        ):
            return True
        return any(
            suspicion.rule in ("severed", "unreached")
            and suspicion.covers(heard, until)
            and witness.reached < suspicion.since
            for suspicion, until in self._own.doubts
        )

    def _answering(self, since: float) -> set[int]:
        """Who answered us since then."""
        return {self._fates[key] for key, ended in self._own.talks.items() if ended > since}

    # ---- suspicions ----------------------------------------------------------------------------------

    def _contradicted(self, witness: Witness, heard: Heard, now: float) -> Suspicion | None:
        found = self._voices.contradiction(witness, heard, now)
        if found is None:
            return None
        # The last is the one at hand, which nobody has counted yet. Where only this one spoke, it is believed.
        shared = self._voices.places(witness, now)
        failures = [each for each in found.failures[:-1] if each.endpoint in shared]
        suspicion = self._suspicion(witness, "contradicted", found.reason, failures, _onset(failures, heard))
        return replace(suspicion, endpoints=suspicion.endpoints - (found.places - shared))

    def _suspicion(
        self,
        witness: Witness,
        rule: Rule,
        reason: str,
        failures: Sequence[Heard],
        since: float,
    ) -> Suspicion:
        own = Counter(self._fates[each.endpoint] for each in failures)
        others = self._blames(witness, since)
        # Nothing is ejected while our own network is in doubt, but on the word of those whose network works.
        least = int(witness.name is None)
        fates = {fate for fate in self._fates.values() if failures and max(own[fate], least) > others[fate]}
        return Suspicion(
            witness=witness.name,
            rule=rule,
            reason=reason,
            since=since,
            failures=tuple(failures),
            endpoints=frozenset(key for key, fate in self._fates.items() if fate in fates),
        )

    def _blames(self, witness: Witness, since: float) -> Counter[int]:
        """How often each fate failed since then for the others whose own network works."""
        blames: Counter[int] = Counter()
        for other in self._voices.others(witness, since):
            if other.reached >= since:
                # Real work that got no answer is in both.
                failures: Counter[Plain] = Counter(each for each in other.memory if each[3] != "success")
                failures |= Counter(other.failures)
                blames.update(self._fates[each[2]] for each in failures.elements() if each[1] >= since)
        return blames

    def _suspect(self, witness: Witness, suspicion: Suspicion) -> None:
        witness.accused(suspicion)
        self.news.append(suspicion)

    def _clear(self, witness: Witness, until: float, reason: str) -> None:
        witness.acquitted(until)
        self.news.append(Cleared(witness.name, reason))

    def _lapse(self, witness: Witness, now: float) -> None:
        if witness.suspicion is not None and _lapsed(witness, now):
            self._clear(witness, witness.heard, f"nothing was heard for {now - witness.heard:.0f} s")

    def _meet(self, name: str | None) -> Witness:
        others = [each for key, each in self._witnesses.items() if key is not None and key not in self._retained]
        if len(others) >= WITNESSES_MAX and name not in self._retained:
            self._forget(min(others, key=lambda each: each.heard).name)
        witness = self._witnesses[name] = Witness(name)
        self._several = True
        return witness

    def _forget(self, name: str | None) -> None:
        if self._witnesses.pop(name).suspicion is not None:
            self.news.append(Cleared(name, "it is no reporter any more"))
        self._several = len(self._witnesses) > 1


def _onset(failures: Sequence[Heard], last: Heard) -> float:
    return min([each.ended for each in (*failures, last)])


def _lapsed(witness: Witness, now: float) -> bool:
    """Whether silence has ended its doubt."""
    suspicion = witness.suspicion
    if suspicion is None:
        return True
    return now - witness.heard >= (STALL_SILENCE if suspicion.rule == "stalled" else SILENCE)
