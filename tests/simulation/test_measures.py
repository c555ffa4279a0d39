"""Measures of runs that were made by hand, so that every number is known beforehand."""

from array import array

import pytest

from balancer.simulation.measures import MEASURES, Delay, detection, is_false, measured, median, missed, pooled
from balancer.simulation.policies.interface import Move
from balancer.simulation.replay import Run, Tally
from balancer.simulation.world import Sample, Track, Truth, World

DAY = 86_400.0
HOUR = 3600.0


def track(*truths, samples=(), model=0, tag="a"):
    return Track(
        id=f"m{model}@{tag}", model=model, provider=tag, tag=tag, truths=tuple(truths), samples=tuple(samples)
    )


def world(*tracks, duration=DAY, models=("m0",)):
    return World(name="made", duration=duration, models=models, tracks=tracks)


def choices(firsts, *, every=10.0, **more):
    """A tally with a request every ten seconds, and who was chosen first."""
    return Tally(
        requests=len(firsts),
        times=array("d", [number * every for number in range(len(firsts))]),
        firsts=array("i", firsts),
        **more,
    )


def of(run, there, *, demotes=True):
    (figures,) = measured(run, there, demotes=demotes)
    return {name: measure(figures) for name, measure in MEASURES.items()}


def run_of(*moves, tally=None):
    return Run(policy="p", seed=1, tallies=[Tally() if tally is None else tally], moves=list(moves))


GOOD = track(Truth(0.0, 1.0))


# ---- losses and price ------------------------------------------------------------------------------------


def test_losses_refusals_and_switches_are_shares_of_the_requests():
    tally = choices([0] * 200, lost=[30, 4, 1], refused=12, successes=199, paid=240.0, switches=5)
    found = of(run_of(tally=tally), world(GOOD))
    assert (found["lost_at_1"], found["lost_at_2"], found["lost_at_3"]) == (1500, 200, 50)
    assert found["refused"] == 600
    assert found["switches"] == 2.5
    assert found["cost"] == pytest.approx(240 / 199)


def test_without_requests_nothing_is_known():
    found = of(run_of(), world(GOOD))
    assert {name for name, value in found.items() if value is not None} == {
        "episodes",
        "recoveries",
        "false_demotions",
        "flaps",
    }


def test_tries_that_were_not_allowed_are_unknown_and_not_lossless():
    found = of(run_of(tally=choices([0], lost=[1])), world(GOOD))
    assert found["lost_at_1"] == 10_000
    assert found["lost_at_2"] is None


def test_models_put_together_weigh_by_their_requests():
    run = Run(
        policy="p",
        seed=1,
        tallies=[
            choices([0] * 900, lost=[9, 0, 0], successes=900, paid=900.0),
            choices([1] * 100, lost=[11, 2, 0], successes=100, paid=300.0),
        ],
        moves=[],
    )
    there = world(GOOD, track(Truth(0.0, 1.0), model=1), models=("m0", "m1"))
    whole = pooled(measured(run, there, demotes=True))
    assert MEASURES["lost_at_1"](whole) == 200
    assert MEASURES["lost_at_2"](whole) == 20
    assert MEASURES["cost"](whole) == 1.2
    assert whole.endpoint_days == 2


# ---- detection -------------------------------------------------------------------------------------------

START = 60  # the episode begins with this request: at 600 s, one request every ten seconds


@pytest.mark.parametrize(
    ("after", "delay"),
    [
        ([1] * 200, Delay(0.0, 0)),  # left before anything failed
        ([0] * 5 + [1] * 200, Delay(50.0, 5)),
        ([0] * 5 + [1] * 3 + [0] + [1] * 200, Delay(50.0, 5)),  # one trial within the next ten is no way back
        ([0] * 5 + [1] * 3 + [0] + [1] * 3 + [0] + [1] * 200, Delay(90.0, 6)),  # two are
        ([0, 1] * 10 + [1] * 200, Delay(170.0, 9)),
        ([0] * 89 + [1] * 200, Delay(890.0, 89)),  # within the last ten seconds
        ([0] * 90 + [1] * 200, Delay(None, None)),  # over before it was left
        ([0] * 88 + [1] + [0] * 100, Delay(None, None)),  # a single choice elsewhere is no move
    ],
)
def test_detection_is_the_first_move_away_that_lasts(after, delay):
    tally = choices([0] * START + after)
    assert detection(tally, 0, 600.0, 1500.0) == delay


def test_an_endpoint_that_was_not_there_for_a_tenth_of_the_choices_is_not_judged():
    rare, used = [1] * 58 + [0] * 2, [1] * 57 + [0] * 3
    assert detection(choices(rare + [1] * 200), 0, 600.0, 1500.0) is None
    assert detection(choices(used + [1] * 200), 0, 600.0, 1500.0) == Delay(0.0, 0)


def test_only_the_last_thirty_choices_say_who_was_in_use():
    tally = choices([0] * 30 + [1] * 30 + [1] * 200)
    assert detection(tally, 0, 600.0, 1500.0) is None


def test_an_onset_before_thirty_requests_is_not_judged():
    assert detection(choices([0] * 29 + [1] * 200), 0, 290.0, 1500.0) is None
    assert detection(choices([0] * 30 + [1] * 200), 0, 300.0, 1500.0) == Delay(0.0, 0)


def test_a_lottery_that_goes_on_has_not_moved_away():
    # A tenth of all: nine of ten spans of ten choices have it once at most, yet nothing has changed.
    lottery = [0 if number % 10 == 5 else 1 for number in range(400)]
    assert detection(choices(lottery), 0, 600.0, 1500.0) == Delay(None, None)


def test_a_lottery_that_stops_has_moved_away():
    lottery = [0 if number % 10 == 5 else 1 for number in range(400)]
    stopped = lottery[:100] + [1] * 300
    # The choice after the last but one of it: what follows has it once in a hundred.
    assert detection(choices(stopped), 0, 600.0, 1500.0) == Delay(260.0, 3)


@pytest.mark.parametrize("end", [800.0, 1500.0])
def test_a_move_that_the_worlds_end_cuts_short_is_unknown_and_not_missed(end):
    assert detection(choices([0] * 70 + [1] * 10), 0, 600.0, end) is None
    assert detection(choices([0] * 70 + [1] * 3 + [0] + [1] * 4), 0, 600.0, end) is None
    assert detection(choices([0] * 70 + [1] * 11), 0, 600.0, end) == Delay(100.0, 10)
    assert detection(choices([0] * 80), 0, 600.0, end) == Delay(None, None)  # it never left


def test_who_comes_back_with_the_episodes_end_was_away():
    # A request every 100 s: nine in a quarter of an hour, of which the first fails.
    tally = choices([0] * 61 + [1] * 8 + [0] * 40, every=100.0)
    assert detection(tally, 0, 6000.0, 6900.0) == Delay(100.0, 1)
    # A tenth of all before, none in the 91 of the episode: less than the hundred that a lottery is judged by.
    lottery = [0 if number % 10 == 5 else 1 for number in range(100)]
    assert detection(choices(lottery + [1] * 91 + lottery * 2), 0, 1000.0, 1910.0) == Delay(0.0, 0)


def test_a_few_choices_elsewhere_at_the_end_of_an_episode_are_no_move():
    assert detection(choices([0] * 62 + [1] * 8 + [0] * 40), 0, 600.0, 700.0) == Delay(20.0, 2)
    assert detection(choices([0] * 63 + [1] * 7 + [0] * 40), 0, 600.0, 700.0) == Delay(None, None)


def test_episodes_of_all_endpoints_are_collected_and_short_ones_are_none():
    there = world(
        track(Truth(0.0, 1.0), Truth(600.0, 0.5), Truth(1500.0, 1.0)),
        track(Truth(0.0, 1.0), Truth(2000.0, 0.5), Truth(2890.0, 1.0), tag="b"),
    )
    found = of(run_of(tally=choices([0] * 65 + [1] * 500)), there, demotes=False)
    assert (found["episodes"], found["detection_seconds"], found["detection_requests"]) == (1, 50.0, 5)
    assert found["detection_missed"] == 0


def test_a_missed_episode_is_later_than_any_other():
    assert median([1.0, None, 3.0]) == 3.0
    assert median([1.0, 2.0, None, 4.0]) == 3.0
    assert median([1.0, None]) is None
    assert median([]) is None
    assert missed([1.0, None]) == 0.5
    assert missed([]) is None


# ---- demotions -------------------------------------------------------------------------------------------

SAMPLES = [Sample(at * HOUR, share) for at, share in enumerate([0.99, 0.97, 0.99, 0.99, 0.98, 0.99])]


@pytest.mark.parametrize(
    ("hour", "false"),
    [
        (0.5, False),  # the next sample is at 0.97
        (1.5, False),  # the one before is
        (2.0, True),  # between its own sample and the next
        (2.5, True),
        (4.5, True),  # 0.98 is well
        (7.0, True),  # after the last sample there is only the one before
    ],
)
def test_a_demotion_is_false_when_the_samples_on_both_sides_are_well(hour, false):
    assert is_false(track(Truth(0.0, 0.99), samples=SAMPLES), hour * HOUR) is false


@pytest.mark.parametrize(("success", "limited", "false"), [(0.98, 0, True), (0.97, 0, False), (0.99, 0.3, False)])
def test_a_demotion_is_false_only_when_the_truth_is_well_then(success, limited, false):
    truths = Truth(0.0, 0.99), Truth(HOUR, success, limited=limited), Truth(2 * HOUR, 0.99)
    assert is_false(track(*truths), 1.5 * HOUR) is false


def test_who_is_gone_is_not_put_behind_falsely():
    assert not is_false(track(Truth(0.0, None)), 1.0)


def test_false_demotions_count_by_the_days_that_an_endpoint_is_there():
    half = track(Truth(0.0, None), Truth(DAY / 2, 1.0), tag="b")
    moves = [Move(DAY * 0.6, 1, True), Move(DAY * 0.7, 1, False), Move(DAY * 0.8, 1, True), Move(10.0, 1, True)]
    found = of(run_of(*moves), world(GOOD, half))
    # While it was gone nothing was false, and it stayed out: the next way out is the third move.
    assert found["false_demotions"] == pytest.approx(1 / 1.5)


def test_who_is_put_behind_twice_was_put_behind_once():
    moves = [Move(100.0, 0, True), Move(200.0, 0, True), Move(300.0, 0, False), Move(400.0, 0, False)]
    assert of(run_of(*moves), world(GOOD))["false_demotions"] == 1


def test_a_policy_that_demotes_and_did_not_has_none_and_one_that_never_does_is_unknown():
    still = of(run_of(), world(GOOD))
    assert (still["false_demotions"], still["flaps"], still["recoveries"]) == (0, 0, 0)
    never = of(run_of(), world(GOOD), demotes=False)
    names = ("false_demotions", "flaps", "readmission_seconds", "recoveries", "readmission_missed")
    assert [never[name] for name in names] == [None] * 5
    assert pooled(measured(run_of(), world(GOOD), demotes=False)).demotions is None


@pytest.mark.parametrize(("again", "flaps"), [(799.0, 1), (800.0, 1), (801.0, 0)])
def test_a_flap_is_out_again_within_ten_minutes(again, flaps):
    moves = [Move(100.0, 0, True), Move(200.0, 0, False), Move(again, 0, True)]
    assert of(run_of(*moves), world(GOOD))["flaps"] == flaps


def test_flaps_are_of_one_endpoint_and_by_its_days():
    moves = [Move(100.0, 0, True), Move(200.0, 0, False), Move(300.0, 1, True)]
    assert of(run_of(*moves), world(GOOD, track(Truth(0.0, 1.0), tag="b")))["flaps"] == 0
    moves.append(Move(400.0, 0, True))
    assert of(run_of(*moves), world(GOOD, track(Truth(0.0, 1.0), tag="b"), duration=DAY * 2))["flaps"] == 0.25


# ---- readmission -----------------------------------------------------------------------------------------

DOWN = track(Truth(0.0, 1.0), Truth(1000.0, 0.2), Truth(3000.0, 1.0), Truth(9000.0, 0.1), Truth(9100.0, 1.0))


@pytest.mark.parametrize(
    ("moves", "seconds", "share"),
    [
        ([(1100.0, True), (3250.0, False)], 250.0, 0.0),
        ([(1100.0, True), (2900.0, False), (2950.0, True), (3020.0, False)], 20.0, 0.0),
        ([(1100.0, True), (2900.0, False)], None, None),  # it was in at the recovery
        ([(3100.0, True), (3200.0, False)], None, None),  # it was put behind only later
        ([(1100.0, True), (9050.0, False)], None, 1.0),  # taken back when it was down again
        ([(1100.0, True)], None, 1.0),
        ([], None, None),
    ],
)
def test_readmission_is_from_recovery_to_being_taken_back(moves, seconds, share):
    found = of(run_of(*(Move(at, 0, out) for at, out in moves)), world(DOWN))
    assert (found["readmission_seconds"], found["readmission_missed"]) == (seconds, share)


@pytest.mark.parametrize(
    "after",
    [
        [Truth(3000.0, None)],  # gone
        [Truth(3000.0, 1.0), Truth(3800.0, 0.5), Truth(3900.0, 1.0)],  # down again within a quarter of an hour
        [Truth(3000.0, 1.0), Truth(3800.0, None)],
        [],  # down to the end
    ],
)
def test_what_is_no_lasting_recovery_is_not_judged(after):
    there = world(track(Truth(0.0, 1.0), Truth(1000.0, 0.2), *after))
    found = of(run_of(Move(1100.0, 0, True), Move(3100.0, 0, False)), there)
    assert found["recoveries"] == 0


def test_the_median_readmission_is_over_all_recoveries():
    both = track(Truth(0.0, 1.0), Truth(1000.0, 0.2), Truth(3000.0, 1.0), Truth(9000.0, 0.1), Truth(10_000.0, 1.0))
    moves = [Move(1100.0, 0, True), Move(3100.0, 0, False), Move(9500.0, 0, True), Move(10_300.0, 0, False)]
    found = of(run_of(*moves), world(both))
    assert (found["recoveries"], found["readmission_seconds"]) == (2, 200.0)
