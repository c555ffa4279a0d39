"""A recorded history against a reading of its rows by the rules as they are written."""

import gzip
from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from operator import attrgetter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.simulation.recorded import load

HOUR = 3600
DAY = 24 * HOUR
START = 1_786_060_864  # 2026-08-07T00:01:04Z
HEADER = "ts,model,provider,tag,status,up5m,up30m,up1d,p_in,p_out,ctx"


def row(at, share, *, model="a/m", tag="p", price=1.0, completion=2.0):
    ts = datetime.fromtimestamp(START + at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    up = "" if share is None else f"{share:g}"
    prices = ",".join("" if each is None else f"{each:g}" for each in (price, completion))
    return f"{ts},{model},P,{tag},0,{up},,,{prices},1000"


def write(path, rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def history(tmp_path):
    return lambda rows, **more: write(tmp_path / "h.csv", rows, **more)


def every(path, *, models=None, seed=1, days=None):
    return load(path, models=models, seed=seed, days=days)


def truth_at(track, at):
    return track.truths[bisect_right(track.truths, at, key=attrgetter("at")) - 1]


def success_at(track, at):
    return truth_at(track, at).success


def one(path, **more):
    (track,) = every(path, **more).tracks
    return track


def told(path, **more):
    with pytest.raises(ValueError) as caught:
        every(path, **more)
    return str(caught.value).replace(str(path), "FILE").splitlines()


# ---- any history -----------------------------------------------------------------------------------------


@st.composite
def histories(draw):
    """Polls minutes to more than a day apart; endpoints that are idle, missing, and change their prices."""
    gap = st.sampled_from((60, 900, 907, HOUR, 11 * HOUR, 13 * HOUR, DAY, DAY + 1, 30 * HOUR))
    moments = [0]
    for _ in range(draw(st.integers(1, 10))):
        moments.append(moments[-1] + draw(gap))
    said = st.sampled_from((None, "idle", "idle", 0, 50, 79.99, 80, 98.5, 100))
    rows = []
    names = [(model, tag) for model in ("a/m", "b/n") for tag in ("p", "p/fp8", "q")]
    for model, tag in draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)):
        for at in moments:
            share = draw(said)
            if share is not None:
                price = draw(st.sampled_from((0, 1, 2.5)))
                rows.append((at, model, tag, None if share == "idle" else share, price))
    return sorted(rows, key=lambda each: each[0])


class Reading:
    """What the rows say of one endpoint at any moment, by the rules, one after the other."""

    def __init__(self, rows, model, tag):
        self.grid = sorted({at for at, name, *_ in rows if name == model})
        own = [(at, share, price) for at, name, other, share, price in rows if (name, other) == (model, tag)]
        self.shares = {at: share / 100 for at, share, _ in own if share is not None}
        self.prices = [(at, price) for at, _, price in own]

    def at_poll(self, at):
        before = [moment for moment in self.shares if moment <= at]
        if before:
            return self.shares[max(before)] if at - max(before) < DAY else None
        after = min((moment for moment in self.shares if moment > at), default=None)
        seen = self.prices[0][0] <= at
        return self.shares[after] if seen and after is not None and after - at <= DAY else None

    def is_there(self, at):
        before = [moment for moment in self.shares if moment <= at]
        if before:
            return at < max(before) + DAY
        polls = [moment for moment in self.grid if moment <= at]
        return bool(polls) and self.at_poll(polls[-1]) is not None

    def price(self, at):
        return next((price for moment, price in reversed(self.prices) if moment <= at), self.prices[0][1])


def worlds(rows, path, seed=1):
    """The world of some rows, and each track beside its reading; `None` where no share was ever told."""
    write(path, [row(at, share, model=model, tag=tag, price=price) for at, model, tag, share, price in rows])
    first = min(at for at, *_ in rows)
    shifted = [(at - first, *rest) for at, *rest in rows]
    world = every(path, seed=seed)
    pairs = [(track, Reading(shifted, world.models[track.model], track.tag)) for track in world.tracks]
    return world, pairs


def is_told(rows):
    """Whether any share is told before the last poll: else there is no world of it."""
    return any(share is not None and at < rows[-1][0] for at, *_, share, _ in rows)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("histories") / "h.csv"


@settings(max_examples=40, deadline=None)
@given(rows=histories().filter(bool).filter(is_told))
def test_at_every_poll_the_steps_are_what_the_rows_say(rows, scratch):
    world, pairs = worlds(rows, scratch)
    for track, reading in pairs:
        polls = [at for at in reading.grid if at < world.duration]
        assert [success_at(track, at) for at in polls] == [reading.at_poll(at) for at in polls]
        assert [truth_at(track, at).prompt for at in polls] == [reading.price(at) for at in polls]
        assert {truth_at(track, at).completion for at in polls} == {2.0}
        carried = [(at, reading.at_poll(at)) for at in reading.grid]
        assert track.samples == tuple((at, share) for at, share in carried if share is not None)


@settings(max_examples=40, deadline=None)
@given(rows=histories().filter(bool).filter(is_told), part=st.floats(0.001, 0.999))
def test_between_the_polls_an_endpoint_is_there_until_it_was_idle_for_a_day(rows, part, scratch):
    world, pairs = worlds(rows, scratch)
    for track, reading in pairs:
        moments = [0, *(at for at in reading.grid if at < world.duration), world.duration]
        for earlier, later in pairwise(moments):
            at = earlier + part * (later - earlier)
            if at < later:
                assert (success_at(track, at) is not None) is reading.is_there(at)
                assert truth_at(track, at).prompt == reading.price(at)


@settings(max_examples=40, deadline=None)
@given(rows=histories().filter(bool).filter(is_told), seed=st.integers(0, 9))
def test_every_turn_lies_where_the_rows_allow_it(rows, seed, scratch):
    world, pairs = worlds(rows, scratch, seed)
    for track, reading in pairs:
        assert track.truths[0].at == 0
        for before, after in pairwise(track.truths):
            assert before.at < after.at < world.duration
            assert before[1:] != after[1:]
            if after.success is None and before.success is not None:
                assert after.at - DAY in reading.shares
            elif before.success is None or before.prompt != after.prompt:
                assert after.at in reading.grid
            else:
                place = bisect_left(reading.grid, after.at)
                assert reading.at_poll(reading.grid[place - 1]) == before.success
                assert reading.at_poll(reading.grid[place]) == after.success


@settings(max_examples=40, deadline=None)
@given(rows=histories().filter(bool).filter(is_told), seed=st.integers(0, 99))
def test_the_same_seed_makes_the_same_world_and_another_moves_only_the_turns(rows, seed, scratch):
    world, _ = worlds(rows, scratch, seed)
    again, _ = worlds(rows, scratch, seed)
    other, _ = worlds(rows, scratch, seed + 1)
    assert again == world
    assert [track.samples for track in other.tracks] == [track.samples for track in world.tracks]
    for one, two in zip(world.tracks, other.tracks, strict=True):
        assert {truth.success for truth in one.truths} == {truth.success for truth in two.truths}


# ---- single rules ----------------------------------------------------------------------------------------


def test_a_change_of_share_is_drawn_anywhere_in_its_gap(history):
    path = history([row(0, 100), row(900, 50), row(1800, 50)])
    onsets = [one(path, seed=seed).truths[1].at for seed in range(200)]
    assert 0 < min(onsets) < 60
    assert 840 < max(onsets) <= 900
    assert 400 < sum(onsets) / 200 < 500


def test_an_idle_poll_carries_the_last_share_forward_and_the_change_is_after_it(history):
    path = history([row(0, 100), row(900, None), row(1800, 50), row(2700, 50)])
    for seed in range(50):
        track = one(path, seed=seed)
        assert [truth.success for truth in track.truths] == [1.0, 0.5]
        assert 900 < track.truths[1].at <= 1800
        assert track.samples == ((0, 1.0), (900, 1.0), (1800, 0.5), (2700, 0.5))


def test_before_its_first_share_an_endpoint_has_it_already_within_a_day(history):
    near = history([row(0, None), row(DAY, 70), row(DAY + 900, 70)])
    assert [(truth.at, truth.success) for truth in one(near).truths] == [(0, 0.7)]
    far = history([row(0, None), row(900, None), row(DAY + 900, 70), row(DAY + 1800, 70)])
    assert [(truth.at, truth.success) for truth in one(far).truths] == [(0, None), (900, 0.7)]


def test_who_is_idle_or_missing_for_a_day_is_out_until_its_next_share(history):
    other = [row(at, 100, tag="q") for at in range(0, 3 * DAY, HOUR)]
    idle = [row(0, 90), *(row(at, None) for at in range(HOUR, 2 * DAY, HOUR)), row(2 * DAY, 80)]
    missing = [row(0, 90), row(2 * DAY, 80)]
    for rows in (idle, missing):
        world = every(history(sorted(rows + other)))
        assert [(truth.at, truth.success) for truth in world.tracks[0].truths] == [
            (0, 0.9),
            (DAY, None),
            (2 * DAY, 0.8),
        ]
        carried = {sample.at for sample in world.tracks[0].samples if sample.at < 2 * DAY}
        assert carried == set(range(0, DAY, HOUR))


def test_a_model_that_leaves_the_polls_is_out_a_day_later(history):
    rows = [row(0, 100, model="a/gone"), row(900, 90, model="a/gone"), row(0, 100), row(3 * DAY, 100)]
    gone, _ = every(history(rows)).tracks
    assert [truth.success for truth in gone.truths] == [1.0, 0.9, None]
    assert gone.truths[-1].at == 900 + DAY


def test_who_comes_later_is_out_until_then_at_its_first_price(history):
    path = history([row(0, 100, tag="q"), row(900, 100, tag="q"), row(900, 95, price=3), row(1800, 95, price=3)])
    track = every(path).tracks[0]
    assert [(each.at, each.success, each.prompt) for each in track.truths] == [(0, None, 3), (900, 0.95, 3)]


def test_a_price_turns_where_it_is_first_seen_and_one_that_is_not_told_stays(history):
    path = history([
        row(0, 100, price=None), row(900, 100, price=1), row(1800, 100, price=None, completion=None),
        row(2700, 100, price=2, completion=None), row(3600, 100, price=2, completion=5), row(4500, 100),
    ])  # fmt: skip
    prices = [(each.at, each.prompt, each.completion) for each in one(path).truths]
    # The first row has no price, so the endpoint begins with the second: moments are counted from there.
    assert prices == [(0, 1, 2), (1800, 2, 2), (2700, 2, 5)]


def test_of_two_rows_of_an_endpoint_in_one_poll_the_cheaper_counts(history):
    cheap, dear = [row(at, 90, price=1) for at in (0, 900)], [row(at, 60, price=2) for at in (0, 900)]
    for rows in ([cheap[0], dear[0], dear[1], cheap[1]], [dear[0], cheap[0], cheap[1], dear[1]]):
        (truth,) = one(history(rows)).truths
        assert (truth.success, truth.prompt) == (0.9, 1)


def test_the_days_cut_the_end_and_change_nothing_before_it(history):
    dice = Random(1)
    path = history([row(at, dice.choice((50, 100)), price=dice.choice((1, 2))) for at in range(0, 4 * DAY, HOUR)])
    whole, cut = every(path), every(path, days=1.5)
    assert (cut.duration, whole.duration) == (1.5 * DAY, 4 * DAY - HOUR)
    (long,), (short,) = whole.tracks, cut.tracks
    assert short.truths == tuple(truth for truth in long.truths if truth.at < 1.5 * DAY)
    # One sample after the end stays, so that the last ones have a neighbour.
    assert short.samples == long.samples[: 36 + 2]
    assert every(path, days=99) == whole


def test_a_gzipped_history_is_the_same(history, tmp_path):
    path = history([row(at, at % 7 * 10) for at in range(0, DAY, 900)])
    packed = tmp_path / "packed" / "h.csv"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert every(packed) == every(path)


def test_an_endpoint_is_model_and_tag_and_its_provider_is_the_first_part_of_the_tag(history):
    tags = ("google-vertex/global/flex", "google-vertex", "azure/eu")
    path = history([row(at, 100, tag=tag) for at in (0, 900) for tag in tags])
    world = every(path)
    assert [(track.id, track.tag, track.provider) for track in world.tracks] == [
        ("a/m@azure/eu", "azure/eu", "azure"),
        ("a/m@google-vertex", "google-vertex", "google-vertex"),
        ("a/m@google-vertex/global/flex", "google-vertex/global/flex", "google-vertex"),
    ]
    assert (world.name, world.models, world.by_model) == ("h.csv", ("a/m",), ((0, 1, 2),))


def test_moments_may_carry_any_offset_and_without_one_are_utc(history):
    header = "ts,model,tag,up5m,p_in,p_out"
    path = history(["2026-08-07T00:00:00,a/m,p,50,1,1", "2026-08-07T02:30:00+02:00,a/m,p,50,1,1"], header=header)
    assert every(path).duration == 1800


# ---- which models ----------------------------------------------------------------------------------------


def lively(counts):
    """Models with so many episodes, each a single poll between good ones, on two endpoints in turn."""
    rows = []
    for name, count in counts.items():
        for number in range(20):
            down = number % 2 == 1 and number // 2 < count
            first, second = ("p", "q") if number // 2 % 2 else ("q", "p")
            rows.append(row(number * 900, 10 if down else 100, model=name, tag=first))
            rows.append(row(number * 900, 100, model=name, tag=second))
    return sorted(rows)


def test_half_of_the_models_are_the_liveliest_and_the_others_are_drawn(history):
    path = history(lively({"a/1": 1, "a/2": 2, "a/3": 3, "a/4": 4, "a/5": 5, "a/6": 6}))
    drawn = defaultdict(int)
    for seed in range(60):
        names = every(path, models=3, seed=seed).models
        assert list(names) == sorted(names)
        assert len(set(names)) == 3
        assert {"a/5", "a/6"} <= set(names)
        drawn[next(name for name in names if name not in ("a/5", "a/6"))] += 1
    assert set(drawn) == {"a/1", "a/2", "a/3", "a/4"}
    assert min(drawn.values()) > 5


def test_an_episode_is_counted_once_however_long_it_lasts_and_anew_after_a_day_of_silence(history):
    polls = range(0, 3 * DAY, HOUR)
    long = [row(at, 10 if at else 100, model="a/long") for at in polls]
    idle = [row(at, (100, 10, None, 10)[min(3, at // HOUR)], model="a/idle") for at in polls]
    anew = [row(0, 10, model="z/anew"), row(2 * DAY, 10, model="z/anew")]
    for others in (long, idle):
        assert every(history(sorted(others + anew)), models=1).models == ("z/anew",)


def test_an_endpoints_history_does_not_depend_on_which_models_are_taken(history):
    path = history(lively({"a/1": 3, "a/2": 5, "a/3": 7}))
    whole = {track.id: (track.truths, track.samples) for track in every(path).tracks}
    for models in (1, 2, ["a/3", "a/1"], ["a/2"]):
        world = every(path, models=models)
        assert {track.id for track in world.tracks} < set(whole)
        assert all((track.truths, track.samples) == whole[track.id] for track in world.tracks)


def test_named_models_come_in_the_order_in_which_they_were_named(history):
    path = history(lively({"a/1": 0, "a/2": 0, "a/3": 0}))
    world = every(path, models=["a/3", "a/1"])
    assert world.models == ("a/3", "a/1")
    assert [world.models[track.model] for track in world.tracks] == ["a/3", "a/3", "a/1", "a/1"]


def test_a_model_without_a_share_in_the_days_that_are_taken_is_not_in_them(history):
    rows = [row(at, 100) for at in range(0, 3 * DAY, HOUR)] + [row(2 * DAY + HOUR, 100, model="a/new")]
    path = history(rows)
    assert every(path).models == ("a/m", "a/new")
    assert every(path, days=1).models == ("a/m",)
    assert told(path, days=1, models=2) == ["h.csv: 2 models asked for; use 1 to 1, all that have a share there"]
    assert told(path, days=1, models=["a/new"]) == [
        "h.csv: a/new has no share in the days that are taken; take more days"
    ]


def test_wrong_models_are_told_all_at_once(history):
    path = history(lively({"openai/gpt-5": 0, "openai/gpt-4": 0, "z-ai/glm-5": 0}))
    assert told(path, models=["openai/gpt5", "z-ai/glm-5", "z-ai/glm-5", "42"]) == [
        "h.csv: there is no model openai/gpt5; did you mean openai/gpt-5 or openai/gpt-4?",
        "h.csv: z-ai/glm-5 is asked for twice; name each model once",
        "h.csv: there is no model 42; there are 3, e.g. openai/gpt-4",
    ]
    assert told(path, models=[]) == ["h.csv: no models asked for; name one or more"]
    for count in (0, -1, 4):
        assert told(path, models=count) == [
            f"h.csv: {count} models asked for; use 1 to 3, all that have a share there"
        ]


# ---- what is wrong ---------------------------------------------------------------------------------------


def test_every_wrong_field_is_told_with_its_line(history):
    good = row(0, 100)
    path = history([
        good, good.replace("2026-08-07", "yesterday"), row(900, 101), good.replace("a/m", ""),
        row(1800, 50, tag=""), row(2700, 50, price=-1, completion=float("nan")),
        row(3600, 50).replace(",50,", ",lots,"), good[len("2026-08-07T00:01:04Z") :],
        row(4500, 50), row(3600, 60), row(5400, 50) + ",7",
    ])  # fmt: skip
    moment = "use a moment in UTC, e.g. 2026-08-07T00:01:04Z"
    share = "use a percentage, 0 to 100, or nothing where it was idle"
    price = "use USD per million tokens, 0 to 1,000,000, or nothing where it was not told"
    assert told(path) == [
        f"FILE:3: ts: yesterdayT00:01:04Z is not a moment; {moment}",
        f"FILE:4: up5m: 101 is out of range; {share}",
        "FILE:5: model: is empty; give its name",
        "FILE:6: tag: is empty; give it: a provider's key, or provider/variant",
        f"FILE:7: p_in: -1 is out of range; {price}",
        f"FILE:7: p_out: nan is out of range; {price}",
        f"FILE:8: up5m: lots is not a number; {share}",
        f"FILE:9: ts: is empty; {moment}",
        "FILE:11: ts: 2026-08-07T01:01:04Z is before the row above of the same endpoint; sort the file by ts",
        "FILE:12: a row of 12 where the header has 11; use as many fields as the header has",
    ]


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf")])
def test_days_must_be_a_number_above_zero(history, days):
    path = history([row(0, 100), row(900, 100)])
    assert told(path, days=days) == [
        f"days: {days:g} is out of range; use a number above 0, or none for the whole history"
    ]


def test_a_history_without_rows_says_so(history):
    allowed = "use a history with a row for each endpoint and poll"
    assert told(history([])) == [f"FILE: no rows with a price; {allowed}"]
    assert told(history([row(0, 100, price=None)])) == [f"FILE: no rows with a price; {allowed}"]


def test_another_file_is_told_what_a_history_has(history):
    lines = told(history(["1,2"], header="t_s,model"))
    assert [line.split(";")[0] for line in lines] == [
        f"FILE:1: {name}: no such column" for name in ("ts", "tag", "up5m", "p_in", "p_out")
    ]
