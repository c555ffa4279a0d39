"""The benchmark of detectors counts what it says: a small run of it, and each stock rule by its definition."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from math import exp, inf
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

import balancer

SCRIPT = Path(__file__).with_name("detectors.py")
PACKAGE = Path(balancer.__file__).parents[1]  # a script does not see what pytest put on the path


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detectors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detectors"] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        timeout=110,
    )


def ejected(rule: Any, story: str, *, every: float = 1.0) -> list[int]:
    """Which of the outcomes, told as dots and crosses, eject; counted from 1."""
    return [number for number, each in enumerate(story, 1) if rule.take(number * every, each == ".")]


STORIES = [
    ("consecutive 5 (Envoy)", 1.0, "....x.xxxx.xxxxxxxxxx", [16, 21]),
    ("consecutive 3", 1.0, "xx.xxx.xx", [6]),
    ("resilience4j", 1.0, "x" * 99, []),
    ("resilience4j", 1.0, "x" * 150, [100]),
    ("resilience4j", 1.0, "." * 100 + "x" * 50, [150]),
    ("resilience4j (20, 5, 50 %)", 1.0, "xxxx.....", [5]),
    ("resilience4j (20, 5, 50 %)", 1.0, "xxx.......", [5]),
    ("resilience4j (20, 5, 50 %)", 1.0, "xx........", []),
    ("resilience4j (20, 5, 50 %)", 1.0, "." * 20 + "x" * 10, [30]),
    ("Hystrix", 1.0, "x" * 100, []),
    ("Hystrix", 0.25, "x" * 19 + ".", [20]),
    ("Hystrix", 0.25, "." * 40 + "x" * 20, [60]),
    ("Linkerd unified", 20.0, "xxxxxx.xxxxxxx", [14]),
    ("Linkerd unified", 1.0, "...xx", [5]),
    ("Linkerd unified", 1.0, "....x.....x", []),
    ("Finagle", 1000.0, "xxxxx", [5]),
    ("Finagle", 6.0, "....x", []),
    ("Finagle", 6.0, "....xx", [6]),
    ("Finagle", 7.0, "....xx", [5]),
    ("60 s rate >= 20 %", 100.0, "..x", [3]),
    ("60 s rate >= 20 %", 1.0, "....x", [5]),
    ("60 s rate >= 20 %", 1.0, "." * 59 + "x" * 12, [71]),
    ("Wilson z 2.58", 1.0, "xxxxx", [5]),
    ("Wilson z 2.58", 1.0, "." * 20 + "x" * 9, [29]),
    ("Wilson z 2.58", 200.0, "." * 20 + "x" * 4, [24]),
    ("CUSUM 10 -> 50 %", 1.0, "xxxxx", [5]),
    ("CUSUM 10 -> 50 %", 1.0, "." * 9 + "xxx.xxx", [15]),
    ("consecutive 5 or Wilson", 1.0, "." * 20 + "xxxxx", [25]),
    ("consecutive 5 or Wilson", 1.0, "." * 20 + "xxxx.xxxx.x", [31]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "every", "story", "when"), STORIES, ids=[f"{each[0]}-{each[2][:24]}" for each in STORIES]
)
def test_a_stock_rule_ejects_when_its_definition_says_so(
    benchmark: ModuleType, name: str, every: float, story: str, when: list[int]
) -> None:
    assert ejected(benchmark.rules(1)[name](), story, every=every) == when
    assert {each for each, *_ in STORIES} == benchmark.rules(1).keys() - {"ours"}


def test_the_average_of_finagle_is_the_one_by_hand(benchmark: ModuleType) -> None:
    rule, average, before = benchmark.Finagle(), 1.0, None
    random, now = Random(3), 0.0
    for _ in range(200):
        now += random.expovariate(0.5)
        good = random.random() < 0.9
        kept = 0.0 if before is None else exp(-(now - before) / 30.0)
        average, before = average * kept + good * (1.0 - kept), now
        if rule.take(now, good):
            average, before = 1.0, None
        assert 1.0 - rule.short == pytest.approx(average)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_successes_at_once_are_the_same_as_one_by_one(benchmark: ModuleType, share: float) -> None:
    for name, make in benchmark.rules(1).items():
        counts = []
        for at_once in (True, False):
            rule, count = make(), 0
            for times, failed in islice(benchmark.stretches(Random(4), 0.5, share, 0.0), 400):
                count += rule.calm(times) if at_once else sum([rule.take(at, True) for at in times])
                count += rule.take(failed, False)
            counts.append(count)
        assert counts[0] == counts[1], name
        assert counts[0] > 0 or name in ("Hystrix", "resilience4j") or share < 0.1, name


@pytest.mark.parametrize(("rate", "share"), [(0.05, 0.02), (5.0, 0.1), (0.5, 0.5), (5.0, 1.0)])
def test_requests_come_at_their_rate_and_fail_their_share(benchmark: ModuleType, rate: float, share: float) -> None:
    seen: Sequence[tuple[float, bool]] = list(islice(benchmark.outcomes(Random(5), rate, share, 100.0), 20_000))
    moments = [at for at, _ in seen]
    assert moments == sorted(moments)
    assert moments[0] > 100.0
    assert (moments[-1] - 100.0) * rate == pytest.approx(20_000, rel=0.03)
    assert sum([not good for _, good in seen]) / 20_000 == pytest.approx(share, abs=0.01)


def test_ours_is_held_tried_and_ramped_as_in_production(benchmark: ModuleType) -> None:
    ours = benchmark.Ours(1)
    for second in range(1000):
        assert not ours.take(float(second), True)
    assert [ours.take(1000.0 + number, False) for number in range(5)] == [False] * 4 + [True]
    assert not ours.ready
    until = ours.health.until
    assert 5.0 <= until - 1004.0 <= 10.0
    assert not ours.take(until - 0.1, False), "nobody asks it during a hold"
    assert ours.health.until == until
    assert not ours.take(until + 1.0, False), "a failed trial is no ejection of its own"
    assert ours.health.phase == "ejected"
    assert ours.health.until > until + 1.0
    now = ours.health.until
    assert not ours.take(now, True)
    assert ours.health.phase == "recovering"
    requests = 0
    while not ours.ready:
        requests += 1
        now += 1.0
        ours.take(now, True)
    assert ours.policy.ramp_requests <= requests <= 10 * ours.policy.ramp_requests


def test_medians_count_missed_outages(benchmark: ModuleType) -> None:
    found = benchmark.summary([(5, 10.0), (7, 30.0), (6, 20.0), None])
    assert found == benchmark.Found(6.5, 25.0, 0.25)
    assert benchmark.summary([(5, 10.0), None, None]) == benchmark.Found(None, None, 2 / 3)
    assert benchmark.summary([]) == benchmark.Found(None, None, 0.0)


def test_limits_are_told_when_broken(benchmark: ModuleType) -> None:
    quick, late, never = (benchmark.Found(each, 1.0, 0.0) for each in (5.0, 21.0, None))
    keeps = benchmark.Line("ours", 0.5, 0.02, 0.1, {"1": quick, "0.5": quick, "0.3": never})
    assert keeps.broken() == []
    breaks = benchmark.Line("ours", 0.5, 0.02, 0.2, {"1": never, "0.5": late, "0.3": never})
    assert breaks.broken() == [
        "0.20 false ejections a day; 0.1 are allowed",
        "100% outage after None requests; 5 are allowed",
        "50% outage after 21.0 requests; 20 are allowed",
    ]
    assert benchmark.Line("ours", 5.0, 0.1, 1.0, {"1": never, "0.5": late, "0.3": never}).broken() == []


def test_a_block_is_what_brute_force_counts(benchmark: ModuleType) -> None:
    names = ("consecutive 3", "CUSUM 10 -> 50 %")
    made = {name: make for name, make in benchmark.rules(1).items() if name in names}
    lines = benchmark.block(made, 0.05, 0.1, days=4.0, onsets=40, seed=1)
    assert [line.rule for line in lines] == list(names)
    for line in lines:
        rule = made[line.rule]()
        begin = benchmark.warm(rule, Random("1 0.05 0.1"), 0.05, 0.1)
        count = 0
        for at, good in benchmark.outcomes(Random("1 0.05 0.1 then"), 0.05, 0.1, begin):
            if at >= begin + 4 * 86_400.0:
                break
            count += rule.take(at, good)
        assert line.false_a_day == pytest.approx(count / 4, abs=0.25), (
            "a failure ends a stretch beyond the last day"
        )
        assert line.found["1"].requests == (3 if line.rule == "consecutive 3" else pytest.approx(5, abs=1))
        assert line.found["1"].seconds == pytest.approx(20 * line.found["1"].requests, rel=0.3)
        assert line.found["1"].missed == 0.0
        assert line.found["0.5"].requests < (line.found["0.3"].requests or inf)


def test_a_small_run_prints_every_rule_at_every_rate_and_the_same_for_the_same_seed() -> None:
    arguments = ("--days", "0.01", "--onsets", "3", "--json", "--only", "consecutive", "--only", "CUSUM")
    first, second = run(*arguments), run(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    lines = [json.loads(line) for line in first.stdout.splitlines()]
    assert len(lines) == 3 * 2 * 4
    assert {(line["rate"], line["floor"]) for line in lines} == {
        (rate, floor) for rate in (0.05, 0.5, 5.0) for floor in (0.02, 0.1)
    }
    for line in lines:
        if line["rule"] == "consecutive 5 (Envoy)":
            assert line["found"]["1"] == {"requests": 5, "seconds": line["found"]["1"]["seconds"], "missed": 0.0}


def test_the_table_has_ours_with_its_limits() -> None:
    done = run("--days", "0.001", "--onsets", "1", "--only", "ours")
    assert done.returncode in (0, 1), done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line] == ["0.05", "limits", "ours"] * 2 + [
        "0.5", "limits", "ours",
    ] * 2 + ["5", "limits", "ours"] * 2  # fmt: skip


@pytest.mark.parametrize("arguments", [("--days", "0"), ("--onsets", "0"), ("--only", "nothing")])
def test_wrong_use_is_refused(arguments: tuple[str, str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
