"""A comparison as one JSON object, as the cells of a table, and in words.

Theory of operation: `document` is everything, numbers rounded to what they can carry; `header`, `rows`,
`differences` and `about_front` are what a reader wants first: what was run, a line a policy with the fewest lost
first tries at the top, how much better or worse each is than the reference, and whether anybody beats our front.

What this module does not know: terminals, columns' widths, and how long anything took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from balancer.config.units import duration_text
from balancer.simulation.comparison import Paired, Result, Setting, paired
from balancer.simulation.front import COST_MIN, Point, Verdict, average, front, verdicts
from balancer.simulation.intervals import Interval
from balancer.simulation.measures import DAY, MEASURES, pooled
from balancer.simulation.world import World

DIGITS: Final = 6  # after the point; what comes later is noise of the last bits
PAIRED_TRIES: Final = (1, 2)  # losses after three tries are too few for a difference

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

COLUMNS: Final[Mapping[str, tuple[str, int]]] = {
    "LOST@1": ("lost_at_1", 1),
    "LOST@2": ("lost_at_2", 1),
    "LOST@3": ("lost_at_3", 2),
    "COST": ("cost", 3),
    "429": ("refused", 1),
    "SWITCHES": ("switches", 1),
    "SEEN s": ("detection_seconds", 0),
    "SEEN req": ("detection_requests", 0),
    "UNSEEN %": ("detection_missed", 0),
    "FALSE/day": ("false_demotions", 2),
    "BACK s": ("readmission_seconds", 0),
    "FLAPS/day": ("flaps", 2),
}
"""The columns of the table after the policy's name: which measure, and with how many digits after the point."""

WITH_BOUNDS: Final = ("lost_at_1", "cost")  # the two axes of the front; more would make the line too long to read
PERCENT: Final = ("detection_missed",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that was run and what came of it.

    `reference` is the policy that all others are paired with; `ours` are those that make the front, none without
    one. `limits` and `arrivals` say what was added to the world.
    """

    world: World
    setting: Setting
    seeds: Sequence[int]
    results: Sequence[Result]
    reference: str
    ours: Sequence[str] = ()
    limits: bool = False
    arrivals: str | None = None

    @property
    def requests(self) -> int:
        """How many requests each policy was asked, with all seeds."""
        return sum(figures.requests for run in self.results[0].runs for figures in run)


def judged(comparison: Comparison) -> tuple[list[Point], list[Verdict]]:
    """Our front, and all others beside it that do not know the truth."""
    ours: list[list[Point]] = []
    others: list[list[Point]] = []
    for result in comparison.results:
        points = _points(result)
        if points is not None and not result.knows:
            (ours if result.policy in comparison.ours else others).append(points)
    return front([average(points) for points in ours]), verdicts(ours, others)


def _points(result: Result) -> list[Point] | None:
    """Where a policy lies between cost and loss with each seed; `None` where that is unknown."""
    points: list[Point] = []
    for run in result.runs:
        figures = pooled(run)
        cost, lost = MEASURES["cost"](figures), MEASURES["lost_at_1"](figures)
        if cost is None or lost is None:
            return None
        points.append(Point(result.policy, cost, lost))
    return points


# ---- as JSON ---------------------------------------------------------------------------------------------


def document(comparison: Comparison) -> dict[str, Json]:
    """Everything, in the order in which it was asked for; the same for any number of processes."""
    world, setting = comparison.world, comparison.setting
    return {
        "world": {
            "name": world.name,
            "models": list(world.models),
            "endpoints": len(world.tracks),
            "days": _rounded(world.duration / DAY),
            "requests": comparison.requests,
        },
        "options": {
            "rate": _rounded(setting.rate),
            "probe_every": setting.probe_every,
            "tries": setting.tries,
            "seeds": list(comparison.seeds),
            "limits": comparison.limits,
            "arrivals": comparison.arrivals,
            "reference": comparison.reference,
        },
        "policies": [_policy(result, world) for result in comparison.results],
        "paired": _paired(comparison),
        "front": _front(comparison) if comparison.ours else None,
    }


def _policy(result: Result, world: World) -> dict[str, Json]:
    return {
        "name": result.policy,
        "knows": result.knows,
        **{measure: _bounds(result.over_seeds(measure)) for measure in MEASURES},
        "models": {
            name: {measure: _rounded(result.of_model(measure, model)) for measure in MEASURES}
            for model, name in enumerate(world.models)
        },
    }


def _paired(comparison: Comparison) -> list[Json]:
    found: dict[str, dict[str, Json]] = {}
    for tries in PAIRED_TRIES:
        for each in paired(comparison.results, comparison.reference, tries):
            pair = found.setdefault(each.policy, {"policy": each.policy, "reference": comparison.reference})
            pair[f"lost_at_{tries}"] = {
                "difference": _bounds(each.difference),
                "ratio": _rounded(each.ratio),
            }
    return list(found.values())


def _front(comparison: Comparison) -> dict[str, Json]:
    ours, others = judged(comparison)
    return {
        "points": [_point(point) for point in ours],
        "others": [
            {**_point(each.point), "difference": _bounds(each.difference), "below": each.below} for each in others
        ],
        "below": [each.point.policy for each in others if each.below],
    }


def _point(point: Point) -> dict[str, Json]:
    return {"policy": point.policy, "cost": _rounded(point.cost), "lost_at_1": _rounded(point.lost)}


def _bounds(found: Interval | None) -> dict[str, Json] | None:
    if found is None:
        return None
    return {"mean": _rounded(found.mean), "low": _rounded(found.low), "high": _rounded(found.high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


# ---- for people ------------------------------------------------------------------------------------------


def header(comparison: Comparison) -> str:
    """What was run, in one line."""
    world, setting, seeds = comparison.world, comparison.setting, comparison.seeds
    probes = "no probes" if setting.probe_every is None else f"probes every {duration_text(setting.probe_every)}"
    rate = f"{setting.rate * 60:g} a minute and model"
    if any(weight != 1 for weight in world.weights):
        rate += " × its weight"
    if world.arrivals is not None:
        recording = "a recording" if comparison.arrivals is None else comparison.arrivals
        rate += f" at the moments of {recording}"
    parts = [
        f"{world.name}: {_counted(len(world.models), 'model')}",
        _counted(len(world.tracks), "endpoint"),
        _counted(round(world.duration / DAY, 2), "day"),
        f"{comparison.requests:,} requests a policy, {rate}",
        probes,
        _counted(setting.tries, "try", "tries"),
        f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]}–{seeds[-1]}",
    ]
    return ", ".join([*parts, "429s added"] if comparison.limits else parts)


def rows(comparison: Comparison) -> list[list[str | None]]:
    """A line a policy: its name, and a cell for each of `COLUMNS`, `None` where it is unknown. The best first."""
    return [
        [result.policy, *(_cell(result, measure, digits) for measure, digits in COLUMNS.values())]
        for result in sorted(comparison.results, key=_lost)
    ]


def about_differences(comparison: Comparison) -> str | None:
    """What the rows of `differences` are, in a sentence; `None` where nobody is there to be paired."""
    if len(comparison.results) < 2:
        return None
    models = len(comparison.world.models)
    bounds = f", 95 % between {models} models in brackets" if models > 1 else ""
    return (
        f"Lost more (+) or fewer (−) per 10,000 requests than {comparison.reference} with the same dice{bounds}; "
        "and × how many in all:"
    )


def differences(comparison: Comparison) -> list[list[str | None]]:
    """A line a policy beside the reference: its name, and a cell for one try and for two. The best first."""
    by_tries = [
        {each.policy: each for each in paired(comparison.results, comparison.reference, tries)}
        for tries in PAIRED_TRIES
    ]
    return [
        [result.policy, *(_difference(found.get(result.policy)) for found in by_tries)]
        for result in sorted(comparison.results, key=_lost)
        if result.policy != comparison.reference
    ]


def about_front(comparison: Comparison) -> list[str]:
    """Whether anybody lies below the front, a sentence a line; nothing where no front was asked for."""
    if not comparison.ours:
        return []
    ours, others = judged(comparison)
    if not ours:
        return ["Nothing is known of the front: no request succeeded."]
    names = f"the front of {', '.join(point.policy for point in ours)}"
    below = [each for each in others if each.below]
    if not below:
        return [f"No policy that does not know the truth and costs more than {COST_MIN} lies below {names}."]
    return [f"Below {names}:", *(f"  {_depth(each)}" for each in below)]


def _depth(verdict: Verdict) -> str:
    (name, cost, lost), (mean, low, high) = verdict
    bounds = "" if low is None or high is None else f" ({_signed(low)} to {_signed(high)} over seeds)"
    return f"{name} loses {lost:.1f} at a cost of {cost:.3f}, {-mean:.1f} fewer than ours there{bounds}"


def _difference(pair: Paired | None) -> str | None:
    if pair is None:
        return None
    mean, low, high = pair.difference
    bounds = "" if low is None or high is None else f" ({_signed(low)} to {_signed(high)})"
    times = "" if pair.ratio is None else f"  ×{pair.ratio:.2f}"
    return f"{_signed(mean)}{bounds}{times}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _cell(result: Result, measure: str, digits: int) -> str | None:
    found = result.over_seeds(measure)
    if found is None:
        return None
    scale = 100 if measure in PERCENT else 1
    text = f"{found.mean * scale:.{digits}f}"
    if measure in WITH_BOUNDS and found.high is not None:
        return f"{text} ±{found.high - found.mean:.{digits}f}"
    return text


def _lost(result: Result) -> float:
    found = result.over_seeds("lost_at_1")
    return inf if found is None else found.mean


def _counted(count: float, one: str, many: str | None = None) -> str:
    return f"{count:g} {one if count == 1 else f'{one}s' if many is None else many}"
