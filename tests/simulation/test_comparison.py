"""Policies side by side: the same answer however many processes there were, and differences within a model."""

import pytest

from balancer.simulation.comparison import Result, Setting, compare, paired
from balancer.simulation.measures import Delay, Demotions, Figures
from balancer.simulation.world import Sample, Track, Truth, World

SETTING = Setting(rate=0.1, probe_every=60.0)
HOUR = 3600.0


def track(model, tag, *truths):
    samples = [Sample(truth.at, truth.share) for truth in truths]
    return Track(id=f"m{model}@{tag}", model=model, provider=tag, tag=tag, truths=truths, samples=tuple(samples))


def world():
    tracks = []
    for model in range(2):
        good = Truth(0.0, 0.95, prompt=2.0, completion=2.0)
        tracks.append(track(model, "dear", good))
        tracks.append(track(model, "cheap", Truth(0.0, 0.99), Truth(HOUR / 2, 0.3)))
    return World(name="made", duration=HOUR, models=("m0", "m1"), tracks=tuple(tracks))


def figures(requests, *lost, detections=(), demotions=None):
    return Figures(
        requests=requests,
        lost=lost,
        refused=0,
        successes=requests - lost[-1],
        paid=float(requests),
        switches=0,
        endpoint_days=1.0,
        detections=detections,
        demotions=demotions,
    )


def result(policy, *runs):
    return Result(policy, False, tuple(runs))


def test_processes_do_not_change_the_answer_and_order_is_what_was_asked():
    policies, parts = ["classic", "cheapest", "two_memory:failure_price=5"], []
    alone = compare(world(), policies, [7, 3], SETTING)
    together = compare(world(), policies, [7, 3], SETTING, jobs=2, progress=parts.append)
    assert together == alone
    assert [each.policy for each in alone] == policies
    assert [len(each.runs) for each in alone] == [2, 2, 2]
    assert alone[0].runs[0] != alone[0].runs[1]
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1)


def test_a_run_is_the_same_in_whatever_company():
    assert (
        compare(world(), ["classic", "cheapest"], [1, 2], SETTING)[1].runs[1]
        == (compare(world(), ["cheapest"], [2], SETTING)[0].runs[0])
    )


def test_progress_goes_from_nothing_to_all():
    parts = []
    compare(world(), ["cheapest", "uniform"], [1], SETTING, progress=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == 1
    assert 0 < parts[0] < 0.5


def test_nothing_runs_while_one_policy_is_wrong():
    parts = []
    with pytest.raises(ValueError, match="'cheap' is no policy"):
        compare(world(), ["cheapest", "cheap"], [1], SETTING, progress=parts.append)
    assert parts == []


def test_who_is_told_the_truth_says_so():
    results = compare(world(), ["cheapest", "oracle", "oracle_price"], [1], SETTING)
    assert [each.knows for each in results] == [False, True, True]


def test_fewer_tries_leave_later_losses_unknown():
    (alone,) = compare(world(), ["cheapest"], [1], Setting(rate=0.1, probe_every=None, tries=1))
    assert alone.over_seeds("lost_at_1") is not None
    assert alone.over_seeds("lost_at_2") is None


def test_a_failing_worker_is_told_and_not_waited_for():
    # More endpoints than a replay takes: its assertion comes back from the worker.
    crowd = tuple(track(0, f"p{number}", Truth(0.0, 1.0)) for number in range(5000))
    crowded = World(name="crowd", duration=HOUR, models=("m0",), tracks=crowd)
    with pytest.raises(AssertionError, match="5000 endpoints"):
        compare(crowded, ["cheapest", "uniform"], [1, 2], SETTING, jobs=2)


# ---- differences -----------------------------------------------------------------------------------------


def test_numbers_are_means_over_seeds_with_their_bounds():
    found = result("p", (figures(1000, 10, 0, 0),), (figures(1000, 20, 0, 0),)).over_seeds("lost_at_1")
    assert found is not None
    assert found.mean == 150
    assert (found.low, found.high) == pytest.approx((150 - 12.706 * 50, 150 + 12.706 * 50), rel=1e-4)


def test_an_unknown_seed_is_left_out_and_all_unknown_is_unknown():
    some = result("p", (figures(0, 0, 0, 0),), (figures(1000, 20, 0, 0),))
    assert some.over_seeds("lost_at_1") == (200, None, None)
    assert some.of_model("lost_at_1", 0) == 200
    assert result("p", (figures(0, 0, 0, 0),)).of_model("lost_at_1", 0) is None


MISSED = Delay(None, None)


def seen(*seeds):
    """A policy with one seed for each list of delays, `None` for a missed one."""
    runs = []
    for delays in seeds:
        detections = tuple(MISSED if each is None else Delay(each, int(each) // 10) for each in delays)
        runs.append((figures(100, 1, detections=detections, demotions=Demotions(0, 0, tuple(delays))),))
    return result("p", *runs)


@pytest.mark.parametrize("measure", ["detection_seconds", "readmission_seconds"])
def test_a_median_is_of_all_seeds_delays_and_no_bad_seed_is_dropped(measure):
    bad = [None, None, None]
    worst = seen(bad, bad, bad, bad, [10.0] * 3)
    assert worst.over_seeds(measure) is None
    assert worst.of_model(measure, 0) is None
    half = seen([10.0, 10.0], [None, None])
    assert half.over_seeds(measure) is None
    some = seen([10.0, 30.0, 20.0], [40.0, None, None])  # the second has no middle of its own
    assert some.over_seeds(measure) == (35.0, None, None)
    assert some.of_model(measure, 0) == 35.0


def test_a_median_has_the_bounds_of_the_seeds_medians_where_each_seed_has_one():
    found = seen([10.0, 20.0, 30.0], [40.0, 40.0, None, 40.0]).over_seeds("detection_seconds")
    assert found is not None
    assert found.mean == 40.0  # of 10, 20, 30, 40, 40, 40 and one that was missed
    assert (found.low, found.high) == pytest.approx((40 - 12.706 * 10, 40 + 12.706 * 10), rel=1e-4)
    requests = seen([10.0, 20.0, 30.0], [40.0, 40.0, None, 40.0]).over_seeds("detection_requests")
    assert requests is not None
    assert requests.mean == 4
    assert seen([10.0]).over_seeds("detection_seconds") == (10.0, None, None)
    assert seen([]).over_seeds("detection_seconds") is None


def test_differences_are_taken_in_each_model_and_then_averaged():
    base = result("base", (figures(1000, 10, 1, 0), figures(100, 5, 0, 0)))
    other = result("other", (figures(1000, 20, 1, 0), figures(100, 1, 1, 0)))
    (one,) = paired([other, base], "base", 1)
    # +100 in one model and −400 in the other: −150 ± 12.706 × 250; of all losses 21 against 15.
    assert (one.policy, one.difference.mean, one.ratio) == ("other", -150, 21 / 15)
    assert one.difference.high == pytest.approx(-150 + 12.706 * 250, rel=1e-4)
    (two,) = paired([other, base], "base", 2)
    assert (two.difference.mean, two.ratio) == (50, 2)


def test_seeds_of_a_model_are_put_together_before_the_difference():
    base = result("base", (figures(100, 0, 0, 0),), (figures(300, 0, 0, 0),))
    other = result("other", (figures(100, 4, 0, 0),), (figures(300, 0, 0, 0),))
    (pair,) = paired([base, other], "base", 1)
    assert pair.difference == (100, None, None)
    assert pair.ratio is None  # the reference lost nothing


def test_tries_that_were_not_allowed_have_no_difference():
    assert paired([result("a", (figures(10, 1),)), result("b", (figures(10, 2),))], "a", 2) == []
