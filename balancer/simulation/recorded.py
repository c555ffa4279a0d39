"""A recorded history of endpoints' uptimes and prices → a world.

Theory of operation: the history is polls, each with a row for every endpoint of a model: the share of requests that
succeeded in the last five minutes, and the prices. An endpoint is model and tag; its share and its prices are step
functions. The share turns somewhere between two polls, and a seed says where; a price turns at the poll where it is
first seen. An idle poll (no share) carries the last share forward, or the first one back where there was none yet;
both for a day. Whoever is idle for longer, or is gone from the polls for as long, is out until its next share.

Each endpoint has dice of its own: its history depends neither on which other models are taken nor on how many days.

Where one poll has an endpoint twice, at two prices, the cheaper row is the endpoint: it is where whoever looks at
prices would be sent.

What this module does not know: 429s, which the recorded shares leave out (`limits` adds them), and requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from math import inf
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from balancer.config.problems import CLOSE, shown
from balancer.simulation.columns import Column, Fault, Table, number
from balancer.simulation.world import EPISODE_SHARE, Sample, Track, Truth, World

IDLE_MAX: Final = 86_400.0  # s; the protocol's rule: whoever was idle for longer is out
DAY: Final = 86_400.0
NEAR_MAX: Final = 3  # names that were perhaps meant; more is a list to read
PRICE_MAX: Final = 1e6  # USD per million tokens; the configuration's own bound


class _Prices(NamedTuple):
    prompt: float
    completion: float


class _Reading(NamedTuple):
    """The share at one poll, `None` while the endpoint is out, and how long it holds if nobody asks again."""

    at: float
    share: float | None
    lapse: float


@dataclass(slots=True)
class _Record:
    """What the polls say of one endpoint. `shares` has `None` where it was idle."""

    tag: str
    polls: list[float] = field(default_factory=list)
    shares: list[float | None] = field(default_factory=list)
    prices: list[_Prices] = field(default_factory=list)

    def readings(self) -> Iterator[tuple[float, float | None]]:
        """Each poll's moment and share."""
        return zip(self.polls, self.shares, strict=True)

    def priced(self, prompt: float | None, completion: float | None) -> _Prices | None:
        """The prices of one row, those not told as in the row above; `None` while one was never told."""
        last = self.prices[-1] if self.prices else None
        prompt = last.prompt if prompt is None and last is not None else prompt
        completion = last.completion if completion is None and last is not None else completion
        return None if prompt is None or completion is None else _Prices(prompt, completion)

    def add(self, at: float, share: float | None, prices: _Prices) -> None:
        """Take one row. Raises: ValueError, for a row before the last one."""
        if not self.polls or at > self.polls[-1]:
            self.polls.append(at)
            self.shares.append(share)
            self.prices.append(prices)
        elif at < self.polls[-1]:
            raise ValueError("is before the row above of the same endpoint")
        elif prices < self.prices[-1]:
            self.shares[-1] = share
            self.prices[-1] = prices


_History = Mapping[str, Sequence[_Record]]
"""Models, each with its endpoints."""


def load(path: str | Path, *, models: int | Sequence[str] | None, seed: int, days: float | None) -> World:
    """Read a history, or some of its models, or its beginning.

    Units: `models` is how many: half of them (rounded up) those with most episodes below 80 % in the whole file,
    the others drawn by `seed`; or names; or `None` for all. A model without a share in the days that are taken is
    not among them. Shape: models by name, or as they were asked for; endpoints by tag. Raises: ValueError.
    """
    if days is not None and not 0 < days < inf:
        raise ValueError(f"days: {days:g} is out of range; use a number above 0, or none for the whole history")
    history, polled = _read(path)
    duration = polled if days is None else min(polled, days * DAY)
    live = {name: records for name, records in history.items() if any(_lives(each, duration) for each in records)}
    names = _chosen(Path(path).name, history, live, models, seed)
    tracks: list[Track] = []
    for place, name in enumerate(names):
        grid = sorted({at for record in history[name] for at in record.polls})
        for record in sorted(history[name], key=lambda record: record.tag):
            track = _track(place, name, record, grid, duration=duration, seed=seed)
            if track is not None:
                tracks.append(track)
    return World(name=Path(path).name, duration=duration, models=tuple(names), tracks=tuple(tracks))


# ---- reading -----------------------------------------------------------------------------------------------


def _read(path: str | Path) -> tuple[_History, float]:
    """Read every model's records, their moments counted from the first poll, and the moment of the last."""
    table = Table(path)
    columns = _columns()
    moments, models, tags, shares, prompts, completions = columns
    known: dict[_Prices, _Prices] = {}
    history: dict[str, dict[str, _Record]] = {}
    for line, fields in table.rows([column.name for column in columns]):
        ts, model, tag, up5m, p_in, p_out = fields
        try:
            at, share = moments[ts], shares[up5m]
            prompt, completion = prompts[p_in], completions[p_out]
            records = history.setdefault(models[model], {})
            record = records.get(tags[tag])
        except Fault:
            table.tell_faults(line, columns, fields)
            continue
        if record is None:
            record = records[tags[tag]] = _Record(tags[tag])
        prices = record.priced(prompt, completion)
        if prices is None:
            continue
        try:
            record.add(at, share, known.setdefault(prices, prices))
        except ValueError as error:
            table.tell(line, "ts", f"{ts} {error}", "sort the file by ts")
    table.end()
    priced = {name: [each for each in records.values() if each.polls] for name, records in history.items()}
    polls = {at for found in priced.values() for each in found for at in each.polls}
    if not polls:
        table.tell(None, "", "no rows with a price", "use a history with a row for each endpoint and poll")
        table.end()
    first = min(polls)
    # One number for one moment, however many endpoints have a row then: a week of them is most of the memory.
    since = {at: at - first for at in polls}
    for found in priced.values():
        for each in found:
            each.polls = [since[at] for at in each.polls]
    return priced, max(polls) - first


def _columns() -> tuple[
    Column[float], Column[str], Column[str], Column[float | None], Column[float | None], Column[float | None]
]:
    price = f"use USD per million tokens, 0 to {PRICE_MAX:,.0f}, or nothing where it was not told"
    return (
        Column("ts", "use a moment in UTC, e.g. 2026-08-07T00:01:04Z", _moment),
        Column("model", "give its name", _name),
        Column("tag", "give it: a provider's key, or provider/variant", _name),
        Column("up5m", "use a percentage, 0 to 100, or nothing where it was idle", _share),
        Column("p_in", price, _price),
        Column("p_out", price, _price),
    )


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a moment" if text else "is empty") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _name(text: str) -> str:
    if text == "":
        raise ValueError("is empty")
    return text


def _share(text: str) -> float | None:
    return None if text == "" else number(text, 0, 100) / 100


def _price(text: str) -> float | None:
    return None if text == "" else number(text, 0, PRICE_MAX)


# ---- which models ------------------------------------------------------------------------------------------


def _lives(record: _Record, duration: float) -> bool:
    """Whether any share was told of the endpoint before the end."""
    return any(at < duration and share is not None for at, share in record.readings())


def _onsets(record: _Record) -> int:
    """How often the share fell below that of an episode."""
    count, down, last = 0, False, -inf
    for at, share in record.readings():
        if share is not None:
            count += share < EPISODE_SHARE and not (down and at - last <= IDLE_MAX)
            down, last = share < EPISODE_SHARE, at
    return count


def _chosen(
    file: str, history: _History, live: _History, models: int | Sequence[str] | None, seed: int
) -> list[str]:
    """The names of the models to take. Raises: ValueError."""
    if models is None:
        return sorted(live)
    if isinstance(models, int):
        if not 1 <= models <= len(live):
            raise ValueError(
                f"{file}: {models} models asked for; use 1 to {len(live)}, all that have a share there"
            )
        onsets = {name: sum(map(_onsets, records)) for name, records in live.items()}
        ranked = sorted(live, key=lambda name: (-onsets[name], name))
        liveliest = (models + 1) // 2
        drawn = Random(f"{seed} models").sample(sorted(ranked[liveliest:]), models - liveliest)
        return sorted([*ranked[:liveliest], *drawn])
    found = [_fault(name, models[:place], history, live) for place, name in enumerate(models)]
    faults = [fault for fault in found if fault is not None]
    if not models:
        faults = ["no models asked for; name one or more"]
    if faults:
        raise ValueError("\n".join(f"{file}: {fault}" for fault in faults))
    return list(models)


def _fault(name: str, before: Sequence[str], history: _History, live: _History) -> str | None:
    """What is wrong with one model's name."""
    if name in before:
        return f"{name} is asked for twice; name each model once"
    if name in live:
        return None
    if name in history:
        return f"{name} has no share in the days that are taken; take more days"
    close = get_close_matches(name, live, n=NEAR_MAX, cutoff=CLOSE)
    allowed = f"did you mean {' or '.join(close)}?" if close else f"there are {len(live)}, e.g. {min(live)}"
    return f"there is no model {shown(name)}; {allowed}"


# ---- one endpoint ------------------------------------------------------------------------------------------


def _track(
    place: int, model: str, record: _Record, grid: Sequence[float], *, duration: float, seed: int
) -> Track | None:
    """One endpoint's history on the polls of its model; `None` when it is never there."""
    readings = list(_carried(record, grid))
    name = f"{model}@{record.tag}"
    shares = {at: share for at, share in _turns(readings, Random(f"{seed} {name}")) if at < duration}
    if all(share is None for share in shares.values()):
        return None
    samples = [Sample(at, share) for at, share, _ in readings if share is not None]
    # One reading after the end stays: the last ones are judged by their neighbours.
    inside = sum(sample.at <= duration for sample in samples)
    return Track(
        id=name,
        model=place,
        provider=record.tag.partition("/")[0],
        tag=record.tag,
        truths=_truths(shares, record, duration),
        samples=tuple(samples[: inside + 1]),
    )


def _carried(record: _Record, grid: Sequence[float]) -> Iterator[_Reading]:
    """What is known of the endpoint at every poll of its model."""
    told = {at: share for at, share in record.readings() if share is not None}
    first, last = min(told, default=inf), -inf
    for at in grid:
        if at in told:
            last = at
        if at < last + IDLE_MAX:
            yield _Reading(at, told[last], last + IDLE_MAX)
        elif at >= record.polls[0] and at <= first <= at + IDLE_MAX:
            yield _Reading(at, told[first], first + IDLE_MAX)
        else:
            yield _Reading(at, None, at)


def _turns(readings: Iterable[_Reading], dice: Random) -> Iterator[tuple[float, float | None]]:
    """When the share turns and to what, ascending; `None` is out, and so the endpoint begins."""
    present: float | None = None
    before = lapse = 0.0
    for at, share, holds in readings:
        if present is not None and at >= lapse:
            yield lapse, None
            present = None
        if share is not None and present is None:
            yield at, share
        elif share != present:
            # Above the one poll, where the old share was read, and not above the other, where the new one was.
            yield before + (at - before) * (1 - dice.random()), share
        present, before, lapse = share, at, holds
    if present is not None:
        yield lapse, None


def _truths(shares: Mapping[float, float | None], record: _Record, duration: float) -> tuple[Truth, ...]:
    """Put shares and prices together; before its first poll an endpoint is out, at its first price."""
    told = dict(zip(record.polls, record.prices, strict=True))
    share, prices = None, record.prices[0]
    truths = [Truth(0.0, shares.get(0.0), *prices)]
    for at in sorted({*shares, *told}):
        share, prices = shares.get(at, share), told.get(at, prices)
        turned = Truth(at, share, *prices)
        if at < duration and turned[1:] != truths[-1][1:]:
            truths.append(turned)
    return tuple(truths)
