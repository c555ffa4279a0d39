"""Policies side by side in one world: every policy with every seed, and what each came to.

Theory of operation: one policy with one seed is a job. Jobs run in processes of their own, each with a copy of the
world, and only figures come back; they are put in the order of policies and seeds, whoever was first, so that the
answer does not tell how many processes there were. The seed of a run is the same for all policies: their dice are
common, and differences are taken within a seed and a model before they are averaged.

What this module does not know: files, terminals, and how numbers are shown.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple

from balancer.simulation.intervals import Interval, interval
from balancer.simulation.measures import MEASURES, MEDIANS, PER, Figures, measured, pooled
from balancer.simulation.policies import make
from balancer.simulation.replay import TRIES, Replay
from balancer.simulation.world import World

SHOWN_EVERY: Final = 0.2  # s between two looks at how far the processes are

Progress = Callable[[float], None]
"""Told from time to time which part of the whole is done, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is the same for every run. Units: `rate` in requests a second and model, `probe_every` in seconds."""

    rate: float
    probe_every: float | None
    tries: int = TRIES


class Result(NamedTuple):
    """What one policy came to. `runs` are the seeds', each with the figures of every model."""

    policy: str
    knows: bool
    runs: tuple[tuple[Figures, ...], ...]

    def over_seeds(self, measure: str) -> Interval | None:
        """One number of all models together, and how far it moves with the seed; `None` where it is unknown.

        Shape: a median is of all seeds' delays; a seed without a middle of its own leaves it without bounds.
        """
        seeds = [pooled(figures) for figures in self.runs]
        values = self._each(measure, seeds)
        spread = interval(values)
        if measure not in MEDIANS:
            return spread
        middle = MEASURES[measure](pooled(seeds))
        if middle is None:
            return None
        if spread is None or spread.high is None or len(values) < len(seeds):
            return Interval(middle, None, None)
        half = spread.high - spread.mean
        return Interval(middle, middle - half, middle + half)

    def of_model(self, measure: str, model: int) -> float | None:
        """The same of one model: its mean over seeds, or the median of all seeds' delays."""
        seeds = [figures[model] for figures in self.runs]
        if measure in MEDIANS:
            return MEASURES[measure](pooled(seeds))
        values = self._each(measure, seeds)
        return fmean(values) if values else None

    def lost(self, tries: int, model: int) -> float | None:
        """One model's requests per 10,000 without success in the first `tries` tries, seeds put together."""
        figures = pooled([figures[model] for figures in self.runs])
        if tries > len(figures.lost) or not figures.requests:
            return None
        return figures.lost[tries - 1] * PER / figures.requests

    @staticmethod
    def _each(measure: str, figures: Sequence[Figures]) -> list[float]:
        made = MEASURES[measure]
        return [value for each in figures if (value := made(each)) is not None]


class Paired(NamedTuple):
    """A policy's losses less the reference's, in the same models with the same dice.

    Units: `difference` per 10,000 requests, its interval over models; `ratio` of all losses put together, `None`
    where the reference lost nothing.
    """

    policy: str
    tries: int
    difference: Interval
    ratio: float | None


def compare(
    world: World,
    policies: Sequence[str],
    seeds: Sequence[int],
    setting: Setting,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Result]:
    """Run every policy with every seed, in `jobs` processes. Raises: ValueError for a policy that is none."""
    made = [make(text) for text in policies]  # also a first look: nothing runs while one is wrong
    work = [(policy, seed) for policy in policies for seed in seeds]
    if jobs <= 1 or len(work) <= 1:
        figures = _one_after_the_other(world, work, setting, progress)
    else:
        figures = _at_once(world, work, setting, min(jobs, len(work)), progress)
    return [
        Result(policy.name, policy.knows, tuple(figures[place * len(seeds) : (place + 1) * len(seeds)]))
        for place, policy in enumerate(made)
    ]


def paired(results: Sequence[Result], reference: str, tries: int) -> list[Paired]:
    """Compare everybody's losses with one policy's, in the order of the results."""
    base = next(each for each in results if each.policy == reference)
    models = range(len(base.runs[0]))
    found: list[Paired] = []
    for result in results:
        if result is base:
            continue
        pairs = [(result.lost(tries, model), base.lost(tries, model)) for model in models]
        differences = interval([own - other for own, other in pairs if own is not None and other is not None])
        if differences is not None:
            found.append(Paired(result.policy, tries, differences, _ratio(result, base, tries)))
    return found


def _ratio(result: Result, base: Result, tries: int) -> float | None:
    own, other = (sum(figures.lost[tries - 1] for run in each.runs for figures in run) for each in (result, base))
    return own / other if other else None


# ---- running ---------------------------------------------------------------------------------------------

Job = tuple[str, int]
"""A policy as it was asked for, and a seed."""


def simulate(world: World, job: Job, setting: Setting, progress: Progress | None = None) -> tuple[Figures, ...]:
    """Run one policy with one seed, and measure each model."""
    text, seed = job
    policy = make(text)
    replay = Replay(
        world,
        policy,
        seed=seed,
        rate=setting.rate,
        probe_every=setting.probe_every,
        tries=setting.tries,
        progress=progress,
    )
    with _rare_collections():
        run = replay.to_end()
    return measured(run, world, demotes=policy.demotes)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage in cycles a hundred times less often: a replay makes none, and looking takes a twentieth."""
    before = gc.get_threshold()
    gc.set_threshold(before[0] * 100, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _one_after_the_other(
    world: World, work: Sequence[Job], setting: Setting, progress: Progress | None
) -> list[tuple[Figures, ...]]:
    figures = []
    for number, job in enumerate(work):

        def part(done: float, number: int = number) -> None:
            if progress is not None:
                progress((number + done) / len(work))

        figures.append(simulate(world, job, setting, part))
        part(1.0)
    return figures


def _at_once(
    world: World, work: Sequence[Job], setting: Setting, jobs: int, progress: Progress | None
) -> list[tuple[Figures, ...]]:
    # Spawned, not forked: a fork of a process with threads is a bet, and a spawned one is the same everywhere.
    context = multiprocessing.get_context("spawn")
    done = context.RawArray("d", len(work))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, context, _begin, (world, setting, done))
    try:
        with _uninterrupted():  # each submission starts a process, as long as there are too few
            futures = [pool.submit(_work, number, job) for number, job in enumerate(work)]
        _follow(futures, done, progress)
        return [future.result() for future in futures]
    except BaseException:
        # Whatever ended us, an interrupt or a worker's error, must not leave an hour of work going on behind it.
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let processes begin that no interrupt reaches: a terminal sends it to all, and the first ends the others."""
    if threading.current_thread() is not threading.main_thread():
        yield  # elsewhere nothing can be said about signals, and no interrupt is raised either
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is ignored stays so in a new process
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def _follow(
    futures: Sequence[Future[tuple[Figures, ...]]], done: Sequence[float], progress: Progress | None
) -> None:
    """Wait for all, and tell how far they are. Raises: what the first of them that failed raised."""
    waiting = set(futures)
    if progress is not None:
        progress(0.0)  # at once: processes take their time to begin
    while waiting:
        ended, waiting = wait(waiting, timeout=SHOWN_EVERY)
        for future in ended:
            future.result()
        if progress is not None:
            progress(sum(done) / len(futures))


# ---- inside a worker -------------------------------------------------------------------------------------


class _Desk(NamedTuple):
    """What a worker has before it: the same world for all its jobs."""

    world: World
    setting: Setting
    done: MutableSequence[float]


_desk: list[_Desk] = []


def _begin(world: World, setting: Setting, done: MutableSequence[float]) -> None:
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _desk[:] = [_Desk(world, setting, done)]


def _end_with_parent() -> None:
    """End with the process that wanted the work, however it ended: a killed one can tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(number: int, job: Job) -> tuple[Figures, ...]:
    (desk,) = _desk

    def part(done: float) -> None:
        desk.done[number] = done

    figures = simulate(desk.world, job, desk.setting, part)
    part(1.0)
    return figures
