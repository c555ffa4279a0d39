from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable
from math import log
from operator import itemgetter
from random import Random
from statistics import median
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.provider_health import (
    AGE,
    ALONE,
    ENDPOINTS_MIN,
    EVIDENCE,
    FAILING,
    LAST,
    SPARED_MAX,
    USUAL,
    USUAL_BOUNDS,
    USUAL_WEIGHT,
    ProviderHealth,
    Verdict,
)

Told = tuple[str, bool, float]
"""One outcome as it is recorded: endpoint, good, ended."""


GOOD_TIMES: list[Told] = [("quiet", True, place / 10) for place in range(600)]
"""So many successes that what usually fails is known, of an endpoint that is called no more."""


def heard(told: Iterable[Told]) -> ProviderHealth:
    health = ProviderHealth("azure")
    for endpoint, good, ended in told:
        health.record(endpoint, good, ended)
    return health


def story(text: str, start: float = 100.0) -> list[Told]:
    """One call a second after good times: `a+` is a success of endpoint a, `a-` a failure."""
    words = text.split()
    return GOOD_TIMES + [(word[:-1], word[-1] == "+", start + place) for place, word in enumerate(words)]


def verdicts(told: Iterable[Told]) -> list[Verdict]:
    """Every verdict of a caller that asks after each failure."""
    health, found = ProviderHealth("azure"), []
    for endpoint, good, ended in told:
        health.record(endpoint, good, ended)
        if not good:
            verdict = health.verdict(ended)
            if verdict is not None:
                found.append(verdict)
                health.forget(ended)
    return found


def traffic(shares: dict[str, float], *, rate: float, start: float, calls: int, random: Random) -> list[Told]:
    """Calls at random moments, to each endpoint as often, which fails that share of them."""
    names, told, now = list(shares), [], start
    for _ in range(calls):
        now += random.expovariate(rate)
        name = random.choice(names)
        told.append((name, random.random() >= shares[name], now))
    return told


def named(count: int) -> list[str]:
    return [f"model{place}@azure" for place in range(count)]


# ---- what is an outage and what is not -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "outage"),
    [
        ("a- b- c- d- e-", False),
        ("a- b- c- d- e- f-", True),
        ("a- b- c- d- e- a-", True),
        ("a- b- c- d- a- b- c-", False),
        ("a- b- c- d- a- b- c- d-", True),
        ("a- b- c- a- b- c- a- b- c- a- b- c-", False),
        (" ".join(["a-"] * 40), False),
        ("b- c- d- e- f- " + " ".join(["a-"] * 40), False),
        ("b- c- d- e- b- c- d- e- " + " ".join(["a-"] * 40), True),
        ("a+ b+ c+ d+ e+ f+ a- b- c- d- e- f-", True),
        ("a- b- c- d- a- b- c- d- a- b- c- d- e+ a- b- c- d-", False),
        ("a- b- c- d- e- a- b- c- d- e- f+ a- b- c- d- e-", True),
        ("a- b- c- d- e- f+ g+ a- b- c- d- e-", False),
        ("a- b- c- d- e- f+ f+ f+ f+ a- b- c- d- e-", False),
        ("a- b- c- d- e- f- g- h- i+ j+ a- b- c- d- e- f- g- h-", True),
        ("a- b+ c- d+ e- f+ g- h+ i- j+ k- l+ m- n+ o- p+ q- r+", False),
        ("a- a- a- b- b- b- c- c- c- d+ e+ f+ g+ d- e- f- g- h-", False),
    ],
)
def test_an_outage_is_many_endpoints_that_fail_and_hardly_one_that_does_not(text: str, outage: bool) -> None:
    told = story(text)
    assert (heard(told).verdict(told[-1][2]) is not None) == outage


def test_a_verdict_says_since_when_and_who_and_why() -> None:
    health = heard(story("a+ b+ f+ a- b- c- d- f+ e- a- b- c- d-"))
    verdict = health.verdict(112.0)
    assert verdict is not None
    assert verdict.onset == 103.0
    assert verdict.failed == ("a", "b", "c", "d", "e")
    assert verdict.reason == "9 of 10 calls to 6 endpoints of azure failed in 9 s"
    assert [name for name in "abcdefg" if verdict.condemns(name)] == ["a", "b", "c", "d", "e", "g"]


def test_asking_changes_nothing() -> None:
    health = heard(story("a- b- c- d- e- f-"))
    before = pickle.dumps(health)
    assert health.verdict(105.0) == health.verdict(105.0) is not None
    assert pickle.dumps(health) == before


def test_failures_count_for_a_quarter_of_an_hour() -> None:
    health = heard(story("a- b- c- d- e- f-"))
    assert health.verdict(100.0 + AGE - 0.001) is not None
    assert health.verdict(100.0 + AGE) is None


def test_who_failed_last_before_the_onset_is_no_news_but_for_a_quarter_of_an_hour() -> None:
    told = story("a- b- c- d- e- f-")
    assert heard(told).verdict(105.0) is not None
    assert heard([("f", False, 99.0), *told]).verdict(105.0) is not None  # it began earlier
    assert heard([("f", False, 99.0), ("a", True, 99.5), ("b", True, 99.5), *told]).verdict(105.0) is None
    long_ago = [("f", False, 104.0 - AGE), ("a", True, 99.5), ("b", True, 99.5)]
    assert heard([*long_ago, *told]).verdict(105.0) is not None


# ---- against a recount -----------------------------------------------------------------------------------


@st.composite
def outcomes(draw: st.DrawFn) -> list[Told]:
    """Calls of twenty minutes to endpoints that fail since some moment, or all the time. Shape: now is 1200."""
    onset = draw(st.integers(600, 1100))
    bad = draw(st.sets(st.sampled_from("abcdefgh"), min_size=5))
    dead = draw(st.sets(st.sampled_from("abcdefgh"), max_size=2))
    calls = st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30), st.integers(0, 1199))
    return [
        (name, (luck > 0) is not (name in dead or (name in bad and ended >= onset)), float(ended))
        for name, luck, ended in draw(st.lists(calls, min_size=20, max_size=60))
    ]


def evidence(told: list[Told], usual: float) -> float:
    """How much likelier an outage makes what was seen of one endpoint, as a logarithm."""
    outage, down, well = 1.0, ALONE, 1.0 - ALONE
    for _, good, _ in told:
        outage *= 1.0 - FAILING if good else FAILING
        down *= 1.0 - FAILING if good else FAILING
        well *= 1.0 - usual if good else usual
    return log(outage / (down + well))


class Recount(NamedTuple):
    weight: float
    failed: tuple[str, ...]
    spared: frozenset[str]


def recount(told: list[Told], now: float) -> dict[float, Recount]:
    """The same question answered by going through every onset and every endpoint: those that are an outage."""
    usual = (sum(not good for _, good, _ in told) + USUAL * USUAL_WEIGHT) / (len(told) + USUAL_WEIGHT)
    usual = min(max(usual, USUAL_BOUNDS[0]), USUAL_BOUNDS[1])
    kept: dict[str, list[Told]] = {}
    for each in sorted(told, key=itemgetter(2)):
        kept[each[0]] = [*kept.get(each[0], []), each][-LAST:]
    found: dict[float, Recount] = {}
    if sum(not of[-1][1] for of in kept.values()) < ENDPOINTS_MIN:
        return found
    failures = [ended for of in kept.values() for _, good, ended in of if not good and now - ended < AGE]
    for onset in failures:
        weight, failed, spared = 0.0, [], []
        for name, of in kept.items():
            since = [one for one in of if one[2] >= onset]
            before = [one for one in of if one[2] < onset and now - one[2] < AGE]
            down = not before[-1][1] if before else len(since) == LAST and not since[0][1]
            if since:
                own = evidence(since, usual)
                weight += min(own, 0.0) if down else own
            if any(good for _, good, _ in since):
                spared.append(name)
            elif since and not down:
                failed.append(name)
        enough = len(failed) >= ENDPOINTS_MIN and len(spared) <= SPARED_MAX * len(failed)
        if enough and weight >= EVIDENCE:
            found[onset] = Recount(weight, tuple(sorted(failed)), frozenset(spared))
    return found


@settings(max_examples=250)
@given(outcomes())
def test_a_verdict_equals_a_recount_of_every_onset(told: list[Told]) -> None:
    apart = [(name, good, ended + place / 100) for place, (name, good, ended) in enumerate(told)]
    verdict, found = heard(apart).verdict(1201.0), recount(apart, 1201.0)
    assert (verdict is None) == (found == {})
    if verdict is not None:
        expected = found[verdict.onset]
        assert expected.weight == pytest.approx(max(each.weight for each in found.values()))
        assert verdict.failed == expected.failed
        assert verdict.succeeded == expected.spared


@settings(max_examples=50)
@given(outcomes(), st.randoms(use_true_random=False))
def test_late_reports_change_no_verdict(told: list[Told], random: Random) -> None:
    late = list(told)
    random.shuffle(late)
    assert heard(late).verdict(1200.0) == heard(told).verdict(1200.0)


# ---- who must never be condemned -------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.booleans(), st.integers(0, 60)), max_size=150),
    st.sets(st.sampled_from("abcdefghij"), max_size=ENDPOINTS_MIN - 1),
)
def test_a_few_endpoints_condemn_nobody_whatever_they_do(told: list[Told], bad: set[str]) -> None:
    now, world = 0.0, []
    for name, good, pause in told:
        now += pause
        world.append((name, good or name not in bad, now))
    assert verdicts(world) == []


def test_an_endpoint_that_is_down_and_takes_most_of_the_traffic_condemns_nobody() -> None:
    random = Random(1)
    shares = dict.fromkeys(named(10), 0.02)
    for rate in (0.05, 0.5, 5.0):
        world = traffic(shares, rate=rate, start=0.0, calls=3000, random=random)
        world += [("dead", False, ended + 0.001 * place) for _, _, ended in world for place in range(3)]
        assert verdicts(sorted(world, key=lambda each: each[2])) == []


def test_endpoints_that_died_one_by_one_are_no_outage_however_they_are_probed() -> None:
    names, world = named(60), []
    for minute in range(4 * 60):
        dead = minute // 24  # and they are neighbours in the order of probes
        world += [(name, place >= dead, 60.0 * minute + place) for place, name in enumerate(names)]
    assert verdicts(world) == []


def test_half_of_the_endpoints_failing_a_third_of_the_time_condemn_nobody() -> None:
    shares = {name: 0.3 if place % 2 else 0.01 for place, name in enumerate(named(10))}
    for seed in range(3):
        random = Random(seed)
        assert verdicts(traffic(shares, rate=5.0, start=0.0, calls=20_000, random=random)) == []


@pytest.mark.parametrize("endpoints", [4, 10, 40])
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_chance_condemns_nobody(endpoints: int, share: float) -> None:
    shares = dict.fromkeys(named(endpoints), share)
    assert verdicts(traffic(shares, rate=5.0, start=0.0, calls=60_000, random=Random(endpoints))) == []


# ---- what must be seen -----------------------------------------------------------------------------------


def seen_after(endpoints: int, *, rate: float, floor: float, fails: float, seed: int) -> int | None:
    """How many calls after the beginning of an outage it is told; `None` for none of a hundred."""
    random, names = Random(seed), named(endpoints)
    before = traffic(dict.fromkeys(names, floor), rate=rate, start=0.0, calls=300, random=random)
    health = heard(before)
    outage = traffic(dict.fromkeys(names, fails), rate=rate, start=before[-1][2], calls=100, random=random)
    for number, (endpoint, good, ended) in enumerate(outage, 1):
        health.record(endpoint, good, ended)
        if not good and health.verdict(ended) is not None:
            return number
    return None


@pytest.mark.parametrize(
    ("endpoints", "floor", "fails", "half", "most"),
    [
        (10, 0.02, 1.0, 7, 8),
        (40, 0.02, 1.0, 6, 8),
        (10, 0.1, 1.0, 9, 13),
        (10, 0.02, 0.9, 8, 20),
    ],
)
def test_an_outage_is_seen_within_a_few_calls(
    endpoints: int, floor: float, fails: float, half: int, most: int
) -> None:
    found = [
        seen_after(endpoints, rate=0.05 * endpoints, floor=floor, fails=fails, seed=seed) for seed in range(100)
    ]
    told = sorted([100 if each is None else each for each in found])
    assert median(told) <= half
    assert told[89] <= most


def test_an_outage_is_seen_when_one_endpoint_has_nearly_all_the_traffic() -> None:
    names = named(6)
    world = [(names[0], second < 120, second) for second in range(240)]
    world += [
        (name, second < 120, second + place) for second in range(0, 240, 60) for place, name in enumerate(names)
    ]
    found = verdicts(sorted(world, key=lambda each: each[2]))
    assert len(found) == 1
    assert found[0].onset == 120.0
    assert all(found[0].condemns(name) for name in names)


# ---- once ------------------------------------------------------------------------------------------------


def test_an_outage_is_told_once_and_the_next_one_again() -> None:
    health = heard(story("a+ b+ c+ d+ e+ f+ a- b- c- d- e- f-"))
    assert health.verdict(111.0) is not None
    health.forget(111.0)
    assert health.verdict(111.0) is None
    for place, endpoint in enumerate("abcdefabcdef"):
        health.record(endpoint, False, 120.0 + place)
        assert health.verdict(120.0 + place) is None
    for place, endpoint in enumerate("abcdefabcdef"):
        health.record(endpoint, place < 6, 200.0 + place)
    again = health.verdict(211.0)
    assert again is not None
    assert again.onset == 206.0


def test_what_ended_before_a_verdict_is_no_evidence_however_late_it_is_told() -> None:
    health = heard(story("a- b- c- d- e- f-"))
    health.forget(105.0)
    for place, endpoint in enumerate("ghijklm"):
        health.record(endpoint, False, 105.0 - place)
    assert health.verdict(106.0) is None


def test_endpoints_that_were_not_seen_before_a_verdict_may_bring_another() -> None:
    health = heard(story("a- b- c- d- e- f-"))
    health.forget(105.0)
    for place, endpoint in enumerate("ghijkl"):
        health.record(endpoint, False, 106.0 + place)
    verdict = health.verdict(111.0)
    assert verdict is not None
    assert verdict.failed == ("g", "h", "i", "j", "k", "l")


# ---- what is usual ---------------------------------------------------------------------------------------


def test_the_usual_share_is_learned_from_many_calls_and_stays_within_its_bounds() -> None:
    def after(share: float, calls: int) -> float:
        names = dict.fromkeys(named(10), share)
        return heard(traffic(names, rate=5.0, start=0.0, calls=calls, random=Random(1))).usual

    assert ProviderHealth("azure").usual == USUAL
    assert after(0.0, 5000) == USUAL_BOUNDS[0]
    assert after(0.5, 5000) == USUAL_BOUNDS[1]
    assert after(0.12, 5000) == pytest.approx(0.12, abs=0.02)
    assert after(1.0, 20) < 0.15

    better = traffic(dict.fromkeys(named(10), 0.06), rate=5.0, start=2000.0, calls=6000, random=Random(1))
    worse = traffic(dict.fromkeys(named(10), 0.3), rate=5.0, start=0.0, calls=6000, random=Random(1))
    assert heard([*worse, *better]).usual < 0.1


def test_where_more_calls_fail_usually_it_takes_more_of_them() -> None:
    needed = []
    for share in (0.02, 0.1, 0.18):
        random, names = Random(1), dict.fromkeys(named(10), share)
        before = traffic(names, rate=5.0, start=0.0, calls=4000, random=random)
        health = heard([*before, *[(name, True, before[-1][2] + 0.01) for name in names]])
        for number in range(1, 100):
            health.record(named(10)[number % 10], False, before[-1][2] + number)
            if health.verdict(before[-1][2] + number) is not None:
                needed.append(number)
                break
    assert needed[0] < needed[1] < needed[2] <= 10


# ---- what is forgotten -----------------------------------------------------------------------------------


@settings(max_examples=50)
@given(outcomes(), st.sets(st.integers(0, 59)))
def test_failures_that_are_taken_back_leave_no_trace(told: list[Told], doubted: set[int]) -> None:
    seen: Counter[str] = Counter()
    few: list[Told] = []  # not so many that older ones are pushed out
    for each in told:
        seen[each[0]] += 1
        if seen[each[0]] <= LAST:
            few.append(each)
    health = heard(few)
    kept: list[Told] = []
    for place, (endpoint, good, ended) in enumerate(few):
        if place in doubted and not good:
            health.take_back(endpoint, ended=ended)
        else:
            kept.append((endpoint, good, ended))
    assert health.verdict(1200.0) == heard(kept).verdict(1200.0)
    assert health.usual == pytest.approx(heard(kept).usual)


def test_an_endpoint_of_which_everything_is_taken_back_is_as_if_never_seen() -> None:
    health = heard(story("a- b- c- d- e- f- g-"))
    health.take_back("g", ended=106.0)
    verdict = health.verdict(106.0)
    assert verdict is not None
    assert verdict.failed == ("a", "b", "c", "d", "e", "f")


def test_a_failure_that_was_never_told_cannot_be_taken_back() -> None:
    health = heard(story("a+ b- c- d- e- f- g-"))
    before = pickle.dumps(health)
    health.take_back("a", ended=100.0)
    health.take_back("b", ended=100.0)
    health.take_back("unknown", ended=100.0)
    assert pickle.dumps(health) == before


def test_endpoints_that_are_gone_are_forgotten() -> None:
    health = heard(story("a- b- c- d- e- a- b- c- d- e-"))
    assert health.verdict(109.0) is not None
    health.retain(["a", "b", "c", "new"])
    assert health.verdict(109.0) is None
    health.record("new", False, 110.0)
    assert health.verdict(110.0) is None
    health.record("new", False, 111.0)
    verdict = health.verdict(111.0)
    assert verdict is not None
    assert verdict.failed == ("a", "b", "c", "new")


def test_what_is_kept_has_a_limit() -> None:
    shares = dict.fromkeys(named(10), 0.3)
    told = traffic(shares, rate=5.0, start=0.0, calls=20_000, random=Random(1))
    assert len(pickle.dumps(heard(told))) < 1.1 * len(pickle.dumps(heard(told[:1000])))
