"""How quick and how quiet the detectors of failures are at LLM rates: ours beside the stock rules of the field.

Run `python tests/benchmarks/detectors.py`; some minutes. Poisson requests to one endpoint that always fails a floor
of them by chance, over many days: how often is it ejected for nothing? Then outages at random moments: how many
requests, and seconds, until it is ejected, in the median, and how many outages are not found within two hours?
All rules see the same requests. The lines of limits are what ours must keep; the exit status is 1 if it does not.

Ours is `Health` as it runs in production, with its holds, trials and slow start. A stock rule is re-implemented
from its source with its defaults, and begins anew, and at once, after each ejection: its holds are its own affair.
A request takes no time here: a second is a second of waiting for the next one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from math import exp, floor, inf, log, sqrt
from random import Random
from statistics import median

from balancer.core.health import Health
from balancer.core.model import HealthPolicy
from balancer.core.outcome import Outcome

RATES = (0.05, 0.5, 5.0)  # requests a second
FLOORS = (0.02, 0.10)  # shares that always fail
OUTAGES = (1.0, 0.5, 0.3)  # shares that fail while it lasts
DAY = 86_400.0
LONGEST = 7200.0  # s of an outage
WARM = 3000  # outcomes before anything is counted: every rule knows the endpoint by then
LEAD = (50, 150)  # outcomes between that and an outage, at random

FALSE_MAX = {0.02: 0.1, 0.10: 1.0}  # ejections a day, by floor
REQUESTS_MAX = {1.0: 5.0, 0.5: 20.0}  # until an outage is found
# But for this rate and floor: five failures in a row come by chance four times a day there, so no rule keeps both.
CHANCE = (5.0, 0.10)

GOOD = Outcome(kind="success", latency=0.0)
BAD = Outcome(kind="server_error", latency=0.0, status=500)


class Rule:
    """One rule of ejection. It begins anew when it has ejected."""

    ready = True
    """Whether requests reach the endpoint."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""

    def take(self, at: float, good: bool) -> bool:
        """Take one outcome; true if it ejects the endpoint."""
        raise NotImplementedError

    def calm(self, times: Sequence[float]) -> int:
        """Take successes that ended then; tell how many of them ejected it."""
        return sum([self.take(at, True) for at in times])

    def verdict(self, ejected: bool) -> bool:
        """Begin anew where it ejected."""
        if ejected:
            self.clear()
        return ejected


class Consecutive(Rule):
    """So many failures in a row. Envoy's `consecutive_5xx` is 5."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__()

    def clear(self) -> None:
        self.row = 0

    def take(self, at: float, good: bool) -> bool:
        self.row = 0 if good else self.row + 1
        return self.verdict(self.row >= self.limit)

    def calm(self, times: Sequence[float]) -> int:
        if times:
            self.row = 0
        return 0


class Counted(Rule):
    """The share of failures among the last `size` calls, of at least `least`. resilience4j: 100, 100, 50 %."""

    def __init__(self, size: int, least: int, share: float) -> None:
        self.size, self.least, self.share = size, least, share
        super().__init__()

    def clear(self) -> None:
        self.last = deque[bool](maxlen=self.size)

    def take(self, at: float, good: bool) -> bool:
        self.last.append(good)
        enough = len(self.last) >= self.least
        return self.verdict(enough and self.last.count(False) >= self.share * len(self.last))

    def calm(self, times: Sequence[float]) -> int:
        if len(self.last) < self.least:
            return super().calm(times)
        self.last.extend([True] * min(len(times), self.size))  # with enough calls, successes only lower the share
        return 0


class Timed(Rule):
    """The share of failures in the last `span` seconds, in buckets of `width`, of at least `least` calls, or a row.

    Hystrix: 10 s in 10 buckets, 20 calls, 50 %, no row. Linkerd's unified breaker: 10 s in 10 buckets, 5 calls, a
    success rate below 80 %, or 7 failures in a row.
    """

    def __init__(self, span: float, width: float, least: int, share: float, *, above: bool, row: float) -> None:
        self.span, self.width, self.least, self.share, self.above, self.limit = (
            span,
            width,
            least,
            share,
            above,
            row,
        )
        super().__init__()

    def clear(self) -> None:
        self.live = deque[tuple[float, bool]]()
        self.failures = self.row = 0

    def take(self, at: float, good: bool) -> bool:
        live = self.live
        bucket = floor(at / self.width) * self.width if self.width else at
        oldest = bucket - self.span
        while live and live[0][0] <= oldest:
            self.failures -= not live.popleft()[1]
        live.append((bucket, good))
        if not good:
            self.failures += 1
            self.row += 1
        else:
            self.row = 0
            if not self.failures:
                return False
        least = self.share * len(live)
        high = self.failures > least if self.above else self.failures >= least
        return self.verdict((high and len(live) >= self.least) or self.row >= self.limit)


class Finagle(Rule):
    """An average success rate below 80 % over 30 s, weighted by time, of 5 calls at least, or 5 failures in a row.

    Asked at failures. Source: `FailureAccrualPolicy.successRateWithinDuration` orElse `consecutiveFailures`.
    """

    def clear(self) -> None:
        self.short = 0.0  # of a success rate of 1
        self.last: deque[float] = deque(maxlen=5)
        self.row = 0

    def take(self, at: float, good: bool) -> bool:
        kept = exp((self.last[-1] - at) / 30.0) if self.last else 0.0
        self.short = self.short * kept if good else 1.0 - (1.0 - self.short) * kept
        self.last.append(at)
        self.row = 0 if good else self.row + 1
        enough = len(self.last) == 5 and at - self.last[0] < 30.0
        return self.verdict(not good and (self.row >= 5 or (enough and self.short > 0.2)))

    def calm(self, times: Sequence[float]) -> int:
        if times:
            self.take(times[0], True)
            self.short *= exp((times[0] - times[-1]) / 30.0)
            self.last.extend(times[1:][-5:])
        return 0


class Wilson(Rule):
    """The lower bound of the failure share of the last 20 outcomes within 15 min, five at least, is above 20 %."""

    def clear(self) -> None:
        self.last = deque[tuple[float, bool]](maxlen=20)

    def take(self, at: float, good: bool) -> bool:
        self.last.append((at, good))
        if good:
            return False
        fresh = [each for ended, each in self.last if at - ended < 900.0]
        number, failures, z = len(fresh), fresh.count(False), 2.58
        share, spread = failures / number, z * z / number
        half = z * sqrt(share * (1 - share) / number + spread / (4 * number))
        return self.verdict(number >= 5 and (share + spread / 2 - half) / (1 + spread) > 0.2)

    def calm(self, times: Sequence[float]) -> int:
        self.last.extend([(at, True) for at in times[-20:]])
        return 0


class Cusum(Rule):
    """The sum of log-likelihood ratios of 50 % failures against 10 %, never below 0, reaches 6.9."""

    def clear(self) -> None:
        self.sum = 0.0

    def take(self, at: float, good: bool) -> bool:
        self.sum = max(0.0, self.sum + (log(0.5 / 0.9) if good else log(0.5 / 0.1)))
        return self.verdict(self.sum >= 6.9)

    def calm(self, times: Sequence[float]) -> int:
        self.sum = max(0.0, self.sum + len(times) * log(0.5 / 0.9))
        return 0


class Either(Rule):
    """Whichever of several rules ejects first."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules
        super().__init__()

    def clear(self) -> None:
        for rule in self.rules:
            rule.clear()

    def take(self, at: float, good: bool) -> bool:
        return self.verdict(sum([rule.take(at, good) for rule in self.rules]) > 0)

    def calm(self, times: Sequence[float]) -> int:
        return sum([rule.calm(times) for rule in self.rules])


class Ours(Rule):
    """`Health`, given requests as production gives them: none during a hold, then one trial, then a ramp."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.policy = HealthPolicy()
        self.health = Health(random=self.random, now=0.0)

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self.health.phase == "closed"

    def take(self, at: float, good: bool) -> bool:
        health, trial = self.health, None
        if health.phase == "ejected":
            if not health.trial_due(at):
                return False
            trial = "trial"
            health.start_trial(decision=trial, now=at, expires=at + 60.0)
        elif health.phase == "recovering" and self.random.random() >= health.admission(self.policy):
            return False
        change = health.record(
            GOOD if good else BAD,
            source="report",
            began=at,
            ended=at,
            now=at,
            decision=trial,
            policy=self.policy,
        )
        # A failed trial makes an ejection longer; it is none of its own.
        return change is not None and change.event == "endpoint.ejected" and change.cause != "failed_trial"


def rules(seed: int) -> dict[str, Callable[[], Rule]]:
    """Every rule, by the name that `--only` knows."""
    return {
        "ours": lambda: Ours(seed),
        "consecutive 5 (Envoy)": lambda: Consecutive(5),
        "consecutive 3": lambda: Consecutive(3),
        "resilience4j": lambda: Counted(100, 100, 0.5),
        "resilience4j (20, 5, 50 %)": lambda: Counted(20, 5, 0.5),
        "Hystrix": lambda: Timed(10.0, 1.0, 20, 0.5, above=False, row=inf),
        "Linkerd unified": lambda: Timed(10.0, 1.0, 5, 0.2, above=True, row=7),
        "Finagle": lambda: Finagle(),
        "60 s rate >= 20 %": lambda: Timed(60.0, 0.0, 1, 0.2, above=False, row=inf),
        "Wilson z 2.58": lambda: Wilson(),
        "CUSUM 10 -> 50 %": lambda: Cusum(),
        "consecutive 5 or Wilson": lambda: Either(Consecutive(5), Wilson()),
    }


# ---- the worlds --------------------------------------------------------------------------------------


def stretches(random: Random, rate: float, share: float, begin: float) -> Iterator[tuple[list[float], float]]:
    """The endpoint's requests, for ever: the moments of successes in a row, then that of a failure."""
    now, quick = begin, random.expovariate
    while True:
        successes = floor(log(1.0 - random.random()) / log(1.0 - share)) if share < 1.0 else 0
        times = list(accumulate([quick(rate) for _ in range(successes + 1)], initial=now))
        now = times[-1]
        yield times[1:-1], now


def outcomes(random: Random, rate: float, share: float, begin: float) -> Iterator[tuple[float, bool]]:
    """The same requests one by one: when, and whether it was good."""
    for times, failed in stretches(random, rate, share, begin):
        for at in times:
            yield at, True
        yield failed, False


def warm(rule: Rule, random: Random, rate: float, share: float) -> float:
    """Let it see the endpoint as it has always been, until it is in use; tell when."""
    for number, (at, good) in enumerate(outcomes(random, rate, share, 0.0), 1):
        rule.take(at, good)
        if number >= WARM and rule.ready:
            return at
    raise AssertionError("requests never end")


def false_ejections(made: Mapping[str, Rule], rate: float, share: float, days: float, seed: str) -> dict[str, int]:
    """How often each rule ejects an endpoint that only ever fails its floor."""
    counts = dict.fromkeys(made, 0)
    begin = max([warm(rule, Random(seed), rate, share) for rule in made.values()])
    for times, failed in stretches(Random(f"{seed} then"), rate, share, begin):
        if failed >= begin + days * DAY:
            return counts
        for name, rule in made.items():
            counts[name] += rule.calm(times) + rule.take(failed, False)
    raise AssertionError("requests never end")


@dataclass(frozen=True, slots=True)
class Found:
    """How outages were found. The medians are of all onsets, `None` where half of them were missed."""

    requests: float | None
    seconds: float | None
    missed: float


def summary(delays: Sequence[tuple[int, float] | None]) -> Found:
    """Summarise one delay an onset, in requests and seconds; `None` is a missed one."""
    if not delays:  # it was out at every onset
        return Found(None, None, 0.0)
    requests = median([inf if each is None else each[0] for each in delays])
    seconds = median([inf if each is None else each[1] for each in delays])
    missed = delays.count(None) / len(delays)
    return Found(None if requests == inf else requests, None if seconds == inf else seconds, missed)


def delay(rule: Rule, outage: Iterable[tuple[float, bool]], onset: float) -> tuple[int, float] | None:
    """Requests and seconds until it ejects."""
    for number, (at, good) in enumerate(outage, 1):
        if at - onset > LONGEST:
            break
        if rule.take(at, good):
            return number, at - onset
    return None


def found(
    made: Mapping[str, Rule], rate: float, share: float, outage: float, onsets: int, seed: str
) -> dict[str, Found]:
    """How soon each rule finds outages of an endpoint that always failed `share`."""
    begin = max([warm(rule, Random(seed), rate, share) for rule in made.values()])
    delays: dict[str, list[tuple[int, float] | None]] = {name: [] for name in made}
    for number in range(onsets):
        named = f"{seed} onset {number}"
        random = Random(named)
        before = list(islice(outcomes(random, rate, share, begin), random.randint(*LEAD)))
        onset = before[-1][0] + random.expovariate(rate)
        for name, rule in made.items():
            fresh = deepcopy(rule)
            for at, good in before:
                fresh.take(at, good)
            if fresh.ready:  # else it happened to be out just then
                delays[name].append(delay(fresh, outcomes(Random(f"{named} then"), rate, outage, onset), onset))
    return {name: summary(each) for name, each in delays.items()}


# ---- the table ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """What one rule does at one rate and floor."""

    rule: str
    rate: float
    floor: float
    false_a_day: float
    found: dict[str, Found]

    def broken(self) -> list[str]:
        """The limits that it does not keep."""
        told = []
        if self.false_a_day > FALSE_MAX[self.floor]:
            told.append(f"{self.false_a_day:.2f} false ejections a day; {FALSE_MAX[self.floor]:g} are allowed")
        for outage, most in limits(self.rate, self.floor).items():
            requests = self.found[f"{outage:g}"].requests
            if requests is None or requests > most:
                told.append(f"{outage:.0%} outage after {requests} requests; {most:g} are allowed")
        return told


def block(
    made: Mapping[str, Callable[[], Rule]], rate: float, share: float, *, days: float, onsets: int, seed: int
) -> list[Line]:
    """All rules at one rate and floor."""
    named = f"{seed} {rate} {share}"
    counts = false_ejections({name: make() for name, make in made.items()}, rate, share, days, named)
    outages = {
        f"{outage:g}": found({name: make() for name, make in made.items()}, rate, share, outage, onsets, named)
        for outage in OUTAGES
    }
    return [
        Line(name, rate, share, counts[name] / days, {key: each[name] for key, each in outages.items()})
        for name in made
    ]


def row(line: Line) -> str:
    """One line of the table."""
    cells = [f"{line.rule:<28} {line.false_a_day:>9.2f}"]
    for each in line.found.values():
        requests = "-" if each.requests is None else f"{each.requests:.0f}"
        seconds = "-" if each.seconds is None else f"{each.seconds:.0f} s"
        cells.append(f"{requests:>8} {seconds:>8} {each.missed:>5.0%}")
    return " |".join(cells)


def limits(rate: float, share: float) -> dict[float, float]:
    """How many requests ours may need to find an outage, by the share that fails."""
    return {} if (rate, share) == CHANCE else REQUESTS_MAX


def heading(rate: float, share: float) -> list[str]:
    """The lines above a block."""
    first = [f"{f'{rate:g} a second, floor {share:.0%}':<28} {'false/day':>9}"]
    allowed = [f"{'limits of ours':<28} {f'<= {FALSE_MAX[share]:g}':>9}"]
    for outage in OUTAGES:
        first.append(f"{f'{outage:.0%}: req':>8} {'time':>8} {'miss':>5}")
        most = limits(rate, share).get(outage)
        allowed.append(f"{'' if most is None else f'<= {most:g}':>8} {'':>8} {'':>5}")
    return [" |".join(first), " |".join(allowed)]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="False ejections and delays of detectors of failures.")
    parser.add_argument("--days", type=float, default=40.0, help="of ordinary traffic, at each rate and floor")
    parser.add_argument("--onsets", type=int, default=200, help="of each outage, at each rate and floor")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", metavar="TEXT", help="rules whose name has it; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON, a line a rule, rate and floor")
    given = parser.parse_args()
    if given.days <= 0 or given.onsets < 1:
        parser.error("--days must be above 0 and --onsets 1 at least")
    every = rules(given.seed)
    made = {
        name: make for name, make in every.items() if not given.only or any(each in name for each in given.only)
    }
    if not made:
        parser.error(f"--only {given.only} names no rule; there are: {', '.join(every)}")
    broken = []
    for rate in RATES:
        for share in FLOORS:
            lines = block(made, rate, share, days=given.days, onsets=given.onsets, seed=given.seed)
            broken += [
                f"ours at {rate:g} a second, floor {share:.0%}: {told}"
                for line in lines
                if line.rule == "ours"
                for told in line.broken()
            ]
            texts = [json.dumps(asdict(line)) for line in lines] if given.json else [*map(row, lines), ""]
            print("\n".join(texts if given.json else [*heading(rate, share), *texts]), flush=True)
    for each in broken:
        print(f"LIMIT: {each}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
