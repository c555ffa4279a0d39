"""Whether one endpoint's answers take far longer than they usually do.

Theory of operation: every success shows a time to its first token, or, where the proxy does not stream, only its
latency. Each such time is held against the endpoint's own *normal*: the median of its kind (the two are never
mixed), of prompts of that size, and for latencies of answers of that size too, for a long answer is no slow one.
A time above `FACTOR` times its normal, and above a second, is *slow*.

The normal is the median of the first `KNOWN` times; from then on each time moves it a step up or down, whatever
its size, so that no outlier counts for more than its side. The steps shrink as the inverse of their number until
`SETTLED` were seen; after that the normal moves by half of itself an hour at most. So twenty minutes of slowness
move it by a seventh, and it is soon back; an endpoint that became ten times slower for good is slow for three
hours, and then normal. The same holds where it is seldom asked: the steps are as long as the pauses.

Some answers are always slow: of log-normal times with a spread of 0.8 every twelfth. So the endpoint's usual share
of slow ones is learned beside, slower still, and a verdict compares with it: among the last answers, taken back as
far as shows it best, so many were slow that chance would do that once in `PATIENCE` at this rate of requests (a
likelihood ratio of as many; the more requests, the more it asks for). At least half of them must be slow: the rest
is for the estimates. A few in a row are enough.

What this module does not know: failures (a timeout is one), peers, and what is under way.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import log
from operator import itemgetter
from statistics import median
from typing import Final

from balancer.core.kept import NormalKept, SlownessKept, span
from balancer.core.latency import CLASS_BOUNDS, VALUE_MAX, VALUE_MIN, size_class

FACTOR: Final = 3.0  # times the normal; log-normal times of spread 0.8 are beyond it one time in twelve
LEAST: Final = 1.0  # s; nobody waits for less, however quick the endpoint usually is
KNOWN: Final = 20  # times; the median of fewer is off by a third
SETTLED: Final = 200  # times; their median is within a tenth
DRIFT: Final = log(1.5) / 3600.0  # of the normal, a second: a factor of one and a half in an hour
DRIFT_MAX: Final = 0.05  # by one time, however long nothing came; as much as in seven minutes

USUAL: Final = 0.1  # slow share of an endpoint of which nothing is known
USUAL_WEIGHT: Final = 20  # answers that it is worth
USUAL_SETTLED: Final = 500  # answers; of fewer the share is off by a fifth
USUAL_MEMORY: Final = 12 * 3600.0  # s; a whole hour of slowness lifts the share by a twelfth
USUAL_STEP_MAX: Final = 1 / 500  # by one answer, however long nothing came
USUAL_BOUNDS: Final = (0.05, 0.5)  # no endpoint is so even; and half are below the median by its definition

RECENT_MAX: Final = 40  # answers in the test; with 20 half of them being slow is often missed
RECENT_AGE: Final = 900.0  # s; as for failures
SLOW_LEAST: Final = 5  # slow answers; slowness comes in clusters, and fewer are one
PATIENCE: Final = 10 * 86400.0  # s; between two verdicts by chance

_ANSWERS: Final = (4, 6, 8, 10, 12)  # bits of the longest answer of each class but the last: powers of 4
_UNTOLD: Final = len(_ANSWERS) + 1  # the class of answers whose size nobody told
_PROMPTS: Final = len(CLASS_BOUNDS) + 2
_SELF: Final = [0.0, *[number * log(number) for number in range(1, RECENT_MAX + 1)]]


class _Normal:
    """What is normal of one kind and size. `value` is the median in seconds, `None` while too few were seen."""

    __slots__ = ("at", "first", "samples", "value")

    def __init__(self) -> None:
        self.first: list[float] = []
        self.value: float | None = None
        self.samples = 0
        self.at = float("-inf")

    def begin(self, ended: float, value: float) -> None:
        """Take one of the first times."""
        self.at = max(self.at, ended)
        self.samples += 1
        self.first.append(value)
        if self.samples >= KNOWN:
            self.value = median(self.first)
            self.first.clear()

    def learn(self, ended: float, value: float, known: float) -> None:
        """Take one more time, from the median `known`."""
        step = 0.0
        passed = ended - self.at
        if passed > 0:
            self.at = ended
            step = passed * DRIFT
            if step > DRIFT_MAX:
                step = DRIFT_MAX
        if self.samples < SETTLED:
            self.samples += 1
            if step * self.samples < 1.0:
                step = 1.0 / self.samples
        # Never past the time itself: one that is always the same would be stepped around.
        if value > known:
            moved = known * (1.0 + step)
            self.value = min(moved, value)
        else:
            moved = known / (1.0 + step)
            self.value = max(moved, value)


class Slowness:
    """One endpoint's normal times, and how many of its last answers were slow."""

    __slots__ = ("_at", "_judged", "_normals", "_recent", "_usual")

    def __init__(self) -> None:
        self._normals: dict[int, _Normal] = {}
        self._recent: list[tuple[float, bool]] = []  # ended, slow; ascending
        self._usual = USUAL
        self._judged = 0
        self._at = float("-inf")

    # ---- changing ------------------------------------------------------------------------------------

    def record(
        self,
        ended: float,
        *,
        ttft: float | None,
        latency: float | None,
        prompt_tokens: int | None,
        completion_tokens: int | None,
    ) -> bool:
        """Take the times of one success of real work; true if it was slow, and only then a verdict may be new.

        Shape: `prompt_tokens` are those that had to be read, without what was cached. False too where no time was
        told, or where it is not known yet what is normal. Units: seconds.
        """
        value = latency if ttft is None else ttft
        if value is None:
            return False
        place = size_class(prompt_tokens) if ttft is not None else _place(prompt_tokens, completion_tokens)
        if value < VALUE_MIN:
            value = VALUE_MIN
        elif value > VALUE_MAX:
            value = VALUE_MAX
        normal = self._normals.get(place)
        if normal is None:
            normal = self._normals[place] = _Normal()
        known = normal.value
        if known is None:
            normal.begin(ended, value)
            return False
        normal.learn(ended, value, known)
        slow = value > FACTOR * known and value > LEAST
        self._judge(ended, slow)
        return slow

    def _judge(self, ended: float, slow: bool) -> None:
        step = 0.0
        if ended > self._at:
            step = (ended - self._at) / USUAL_MEMORY
            self._at = ended
            if step > USUAL_STEP_MAX:
                step = USUAL_STEP_MAX
        if self._judged < USUAL_SETTLED:
            self._judged += 1
            step = 1.0 / (USUAL_WEIGHT + self._judged)
        self._usual += step * (slow - self._usual)
        recent = self._recent
        # Reports may come late: what counts is when the answers ended.
        if recent and ended < recent[-1][0]:
            insort(recent, (ended, slow), key=itemgetter(0))
        else:
            recent.append((ended, slow))
        if len(recent) > RECENT_MAX:
            del recent[0]

    def forget(self) -> None:
        """Begin to judge anew, as after an ejection; what is normal stays."""
        self._recent.clear()

    # ---- reading -------------------------------------------------------------------------------------

    def normal(self, prompt_tokens: int | None) -> float | None:
        """The usual time to the first token of prompts of that size; `None` below `KNOWN` such times."""
        normal = self._normals.get(size_class(prompt_tokens))
        return None if normal is None else normal.value

    def typical(self) -> float | None:
        """The usual time to the first token of the prompts that are seen most; `None` where none is known."""
        known = [
            each
            for place in range(_PROMPTS)
            if (each := self._normals.get(place)) is not None and each.value is not None
        ]
        return max(known, key=lambda each: each.samples).value if known else None

    @property
    def usual(self) -> float:
        """The share of answers that is usually slow, within its bounds."""
        return min(max(self._usual, USUAL_BOUNDS[0]), USUAL_BOUNDS[1])

    def verdict(self, now: float) -> tuple[int, int] | None:
        """So many slow answers of so many of the last, if that is no chance; `None` while it may be."""
        fresh = self._recent[bisect_left(self._recent, now - RECENT_AGE, key=itemgetter(0)) :]
        if sum([slow for _, slow in fresh]) < SLOW_LEAST:
            return None
        passed = fresh[-1][0] - fresh[0][0]
        rate = (len(fresh) - 1) / max(passed, VALUE_MIN)
        best, found = log(rate * PATIENCE), None
        usual = self.usual
        gain, loss = log(usual), log(1.0 - usual)
        count = 0
        for number, (_, slow) in enumerate(reversed(fresh), 1):
            if not slow:
                continue
            count += 1
            quick = number - count
            if count < SLOW_LEAST or quick > count:
                continue
            ratio = _SELF[count] + _SELF[quick] - _SELF[number] - count * gain - quick * loss
            if ratio >= best:
                best, found = ratio, (count, number)
        return found

    # ---- keeping -------------------------------------------------------------------------------------

    def dump(self, now: float) -> SlownessKept:
        """What is to be kept: what is normal and usual. The last answers soon say nothing, and are not kept."""
        normals = [
            NormalKept(place, each.value, each.samples, span(now - each.at))
            for place, each in sorted(self._normals.items())
            if each.value is not None
        ]
        return SlownessKept(usual=self._usual, judged=self._judged, normals=normals)

    def restore(self, kept: SlownessKept, *, then: float) -> None:
        """Take back what was told at `then`, but for what was learned anew since."""
        if self._judged == 0:
            self._usual, self._judged = kept.usual, min(kept.judged, USUAL_SETTLED)
        for each in kept.normals:
            before = self._normals.get(each.place)
            if before is not None and before.value is not None:
                continue
            normal = self._normals[each.place] = _Normal()
            normal.value = each.normal
            normal.samples = min(each.samples, SETTLED)
            normal.at = then - each.age


def _place(prompt_tokens: int | None, completion_tokens: int | None) -> int:
    """Where the normal latency of such an answer is kept, behind the normal times to a first token.

    Shape: below `kept.NORMALS_MAX`.
    """
    answer = _UNTOLD if completion_tokens is None else bisect_left(_ANSWERS, completion_tokens.bit_length())
    return _PROMPTS * (1 + answer) + size_class(prompt_tokens)
