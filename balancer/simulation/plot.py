"""A picture of a comparison: what is lost against what it costs.

Theory of operation: our policy at several prices of a failure is a line, everybody else a point with a name; bars
are 95 % over seeds. Losses span from an oracle's to those of a rule without health, so their axis is logarithmic.
This is the one module that needs matplotlib, which comes with `balancer[plot]`.

What this module does not know: screens; it writes a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, SymmetricalLogLocator
from matplotlib.transforms import Bbox, BboxBase

from balancer.simulation.comparison import Result
from balancer.simulation.intervals import Interval
from balancer.simulation.report import Comparison, header

SIZE: Final = (10.0, 7.0)  # inches, at 120 dots each: readable in a browser and on a page
DOTS: Final = 120
LINE: Final = 10.0  # points from one name to the next below it
MARK: Final = 6.0  # dots around a point's middle that its mark covers
TICKS: Final = (1.0, 2.0, 5.0)  # of each power of ten: the numbers that people read on such an axis
LEFTWARDS: Final = 0.8  # of the width; a name that begins further right would leave the picture
OURS: Final = "tab:red"
KNOWS: Final = "tab:green"
OTHER: Final = "tab:blue"


class _Spot(NamedTuple):
    name: str
    knows: bool
    cost: Interval
    lost: Interval


def draw(comparison: Comparison, path: str | Path) -> None:
    """Write the picture as PNG. Raises: OSError."""
    spots = [spot for result in comparison.results if (spot := _spot(result)) is not None]
    picture = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    axes = picture.add_subplot()
    ours = sorted((spot for spot in spots if spot.name in comparison.ours), key=lambda spot: spot.cost.mean)
    others = [spot for spot in spots if spot.name not in comparison.ours]
    _points(axes, [spot for spot in others if not spot.knows], OTHER, "o", "other policies")
    _points(axes, [spot for spot in others if spot.knows], KNOWS, "^", "told the truth")
    _points(axes, ours, OURS, "o", "ours, at several prices of a failure", line="-")
    _scales(axes, spots)
    axes.set_xlabel("cost: price of a success over the cheapest at that moment")
    axes.set_ylabel("lost@1: first tries that fail, per 10,000 requests")
    axes.set_title(header(comparison), fontsize="medium", wrap=True)
    axes.grid(visible=True, which="both", alpha=0.25)
    if spots:
        axes.legend(loc="best")
    picture.draw_without_rendering()  # the names are placed by where the points come to lie
    _write_names(axes, spots, ours)
    picture.savefig(path, format="png")


def _spot(result: Result) -> _Spot | None:
    cost, lost = result.over_seeds("cost"), result.over_seeds("lost_at_1")
    return None if cost is None or lost is None else _Spot(result.policy, result.knows, cost, lost)


def _points(axes: Axes, spots: Sequence[_Spot], colour: str, marker: str, label: str, *, line: str = "") -> None:
    if spots:
        axes.errorbar(
            [spot.cost.mean for spot in spots],
            [spot.lost.mean for spot in spots],
            xerr=[_bar(spot.cost) for spot in spots],
            yerr=[_bar(spot.lost) for spot in spots],
            color=colour,
            marker=marker,
            linestyle=line,
            capsize=2,
            label=label,
        )


def _bar(found: Interval) -> float:
    return 0.0 if found.high is None else found.high - found.mean


def _scales(axes: Axes, spots: Sequence[_Spot]) -> None:
    if all(spot.lost.mean > 0 for spot in spots):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=TICKS))
    else:
        axes.set_yscale("symlog", linthresh=1.0)  # a logarithm has no place for who lost nothing
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1.0, subs=TICKS))
        axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _write_names(axes: Axes, spots: Sequence[_Spot], ours: Sequence[_Spot]) -> None:
    """Write each name beside its point, higher or lower where it would lie on another one or on a point."""
    left, right = axes.get_xlim()
    taken: list[BboxBase] = []
    for spot in spots:
        x, y = axes.transData.transform((spot.cost.mean, spot.lost.mean))
        taken.append(Bbox.from_extents(x - MARK, y - MARK, x + MARK, y + MARK))
    for spot in spots:
        beyond = spot.cost.mean > left + (right - left) * LEFTWARDS
        text = axes.annotate(
            # The points of the front differ only in the price, and the legend says of what.
            spot.name.rpartition("=")[2] if spot in ours else spot.name,
            (spot.cost.mean, spot.lost.mean),
            xytext=(-6 if beyond else 6, 4),
            textcoords="offset points",
            horizontalalignment="right" if beyond else "left",
            fontsize="small",
            color=OURS if spot in ours else KNOWS if spot.knows else OTHER,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0},
        )
        box = text.get_window_extent()
        for number in range(1, 2 * len(spots)):
            if not box.count_overlaps(taken):
                break
            # 10 points down, 10 up, 20 down, 20 up …
            away = (number + 1) // 2 * (-LINE if number % 2 else LINE)
            text.xyann = (text.xyann[0], 4 + away)
            box = text.get_window_extent()
        taken.append(box)
