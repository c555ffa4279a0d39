"""Invented worlds: what the YAML means, and what is told of one that means nothing."""

import json
from bisect import bisect_right
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import balancer.simulation.invented as module
from balancer.simulation.invented import load, parse
from balancer.simulation.measures import is_false
from balancer.simulation.world import Truth

DURATION = 7200


def world(text):
    return parse(text, source="w.yaml")


def endpoint(text, duration="2h"):
    """The track of one endpoint, written in braces after its tag."""
    (track,) = world(
        f"duration: {duration}\nmodels: {{a/m: {{endpoints: [{{tag: p{text and ', '}{text}}}]}}}}"
    ).tracks
    return track


def truth_at(track, at):
    return track.truths[bisect_right(track.truths, at, key=attrgetter("at")) - 1]


def told(text):
    with pytest.raises(ValueError) as caught:
        world(text)
    return str(caught.value).splitlines()


# ---- what it means ---------------------------------------------------------------------------------------


def test_little_needs_to_be_said():
    found = world("{duration: 2h, models: {a/m: {endpoints: [{tag: p/fp8}]}}}")
    (track,) = found.tracks
    assert (found.name, found.duration, found.models, found.weights) == ("w.yaml", 7200.0, ("a/m",), (1.0,))
    assert (track.id, track.provider, track.tag, track.latency) == ("a/m@p/fp8", "p", "p/fp8", 2.0)
    assert (track.capacity, track.retry_after) == (None, None)
    assert track.truths == (Truth(0.0, 0.98, 1.0, 1.0),)


def test_models_and_endpoints_keep_their_order():
    found = world("""
name: two of them
duration: 1d
models:
  z/z: {weight: 2.5, endpoints: [{tag: q}, {tag: p}]}
  a/a: {endpoints: [{tag: p}]}
""")
    assert (found.name, found.duration, found.weights) == ("two of them", 86_400.0, (2.5, 1.0))
    assert [track.id for track in found.tracks] == ["z/z@q", "z/z@p", "a/a@p"]
    assert found.by_model == ((0, 1), (2,))


def test_the_example_of_the_module_is_a_world():
    lines = str(module.__doc__).splitlines()
    example = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    alpha, beta = world(example).tracks
    assert len(alpha.truths) == 1
    assert [truth.at for truth in beta.truths] == [
        0, 600, 1800, 3600, 3660, 3900, 3960, 4200, 4260, 4500, 4560, 4800, 4860, 5100, 5160,
    ]  # fmt: skip
    assert (beta.capacity, beta.retry_after) == (60, 10.0)


def test_a_file_is_read_and_names_the_world(tmp_path):
    path = tmp_path / "night.yaml"
    path.write_text("\ufeff{duration: 1h, models: {a/m: {endpoints: [{tag: ä}]}}}".replace("ä", "p"), "utf-8")
    assert load(path).name == "night.yaml"
    assert load(path) == parse(path.read_text("utf-8-sig"), source=str(path))


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("success: 1", Truth(0.0, 1.0)),
        ("success: 0", Truth(0.0, 0.0)),
        ("price: 3", Truth(0.0, 0.98, 3.0, 3.0)),
        ("price: {prompt: 0, completion: 2.5}", Truth(0.0, 0.98, 0.0, 2.5)),
        ("slow: 10", Truth(0.0, 0.98, slow=10.0)),
        ("error: 500", Truth(0.0, 0.98)),
        ("error: 503", Truth(0.0, 0.98, error="overloaded")),
        ("error: connect, failure_latency: 1m", Truth(0.0, 0.98, error="connect", failing=60.0)),
        ("error: timeout", Truth(0.0, 0.98, error="timeout", failing=30.0)),
        ("error: timeout, failure_latency: 5s", Truth(0.0, 0.98, error="timeout", failing=5.0)),
        ("failure_latency: 0s", Truth(0.0, 0.98, failing=0.0)),
        ("error: 429, success: 0.25", Truth(0.0, 1.0, limited=0.75)),
        ('error: "429", success: 0, retry_after: 10s', Truth(0.0, 1.0, limited=1.0, retry_after=10.0)),
        ("gone: true, error: 429, success: 0", Truth(0.0, None)),
    ],
)
def test_what_an_endpoint_says_of_itself(text, truth):
    assert endpoint(text).truths == (truth,)


@pytest.mark.parametrize("success", [0, 0.25, 0.98, 1])
@pytest.mark.parametrize("error", ["429", "500", "503", "timeout", "connect"])
def test_the_share_is_the_success_whatever_the_error(success, error):
    (truth,) = endpoint(f"success: {success}, error: {error}").truths
    assert truth.share == pytest.approx(success)


@st.composite
def episodes(draw):
    """Episodes in whole seconds: once or again and again, with an end or without, one key or two each."""
    found = []
    for _ in range(draw(st.integers(0, 5))):
        each = {"at": draw(st.integers(0, DURATION - 1))}
        if draw(st.booleans()):
            each["for"] = draw(st.integers(99, 2000))
            if draw(st.booleans()):
                each["every"] = each["for"] + draw(st.integers(1, 2000))
                if draw(st.booleans()):
                    each["until"] = each["at"] + draw(st.integers(1, 4000))
        keys = draw(st.lists(st.sampled_from(("slow", "price", "gone")), min_size=1, max_size=2, unique=True))
        values = {"slow": st.integers(2, 9), "price": st.integers(2, 9), "gone": st.booleans()}
        found.append((each, {key: draw(values[key]) for key in keys}))
    return found


def written(each, changes):
    """An episode in YAML."""
    times = [f"{key}: {seconds}s" for key, seconds in each.items()]
    return "{" + ", ".join([*times, *(f"{key}: {json.dumps(value)}" for key, value in changes.items())]) + "}"


def is_on(each, at):
    """Whether an episode is on, by going through all its times."""
    begin = each["at"]
    while begin < min(each.get("until", DURATION), DURATION):
        if begin <= at < begin + each.get("for", DURATION):
            return True
        if "every" not in each:
            return False
        begin += each["every"]
    return False


@settings(max_examples=60, deadline=None)
@given(listed=episodes(), moments=st.lists(st.integers(0, DURATION - 1), min_size=1, max_size=20))
def test_at_any_moment_the_last_episode_that_is_on_has_the_word(listed, moments):
    track = endpoint(f"episodes: [{', '.join(written(*each) for each in listed)}]")
    assert track.truths[0].at == 0
    assert all(a.at < b.at < DURATION and a[1:] != b[1:] for a, b in pairwise(track.truths))
    for at in (*moments, *(int(truth.at) for truth in track.truths[:20])):
        expected = {"slow": 1, "price": 1, "gone": False}
        for each, changes in listed:
            if is_on(each, at):
                expected |= changes
        truth = truth_at(track, at)
        assert (truth.slow, truth.prompt, truth.success is None) == tuple(expected.values())


def test_an_episode_without_an_end_lasts_and_a_gone_endpoint_may_come():
    track = endpoint("gone: true, episodes: [{at: 10m, gone: false, success: 1}]")
    assert [(truth.at, truth.success) for truth in track.truths] == [(0, None), (600, 1.0)]


# ---- how demotions are judged ----------------------------------------------------------------------------


def test_who_is_put_behind_in_an_episode_or_a_minute_beside_it_is_not_put_behind_falsely():
    track = endpoint("success: 1, episodes: [{at: 20m, for: 10m, success: 0.5}, {at: 1h, for: 20s, success: 0}]")
    inside = [1200, 1500, 1799, 3600, 3619]
    beside = [1140, 1199, 1800, 1859, 3540, 3599, 3620, 3679]
    away = [0, 1, 600, 1139, 1860, 2700, 3539, 3680, 5000, 7199]
    assert [at for at in inside + beside if is_false(track, at)] == []
    assert [at for at in away if not is_false(track, at)] == []


@settings(max_examples=60, deadline=None)
@given(listed=episodes())
def test_readings_ascend_and_none_is_taken_of_who_is_gone(listed):
    texts = [written(each, {"success": 0.5, "gone": changes.get("gone", False)}) for each, changes in listed]
    track = endpoint(f"episodes: [{', '.join(texts)}]")
    assert all(earlier.at < later.at for earlier, later in pairwise(track.samples))
    turns = {truth.at for truth in track.truths}
    for sample in track.samples:
        truth = truth_at(track, sample.at)
        assert sample.at in turns or sample.share == truth.share
        assert sample.at in turns or truth.success is not None


# ---- what is wrong ---------------------------------------------------------------------------------------

WRONG = """
duration: 2h
modles: {}
models:
  author/slug:
    wieght: 2
    endpoints:
      - {tag: alpha, price: {prompt: 1}, success: 1.5}
      - {tag: alpha}
      - tag: Beta
        episodes:
          - {at: 10, for: 20m, succes: 0, error: 501}
      - tag: gamma
        price: cheap
        capacity: 0
        episodes:
          - {at: 10m, every: 20m}
          - {at: 3h, for: 5m, every: 5m, until: 1h}
          - {at: 1s, until: 1h, error: timout}
          - {at: 1s, until: 1h}
          - {for: 1ms, every: 2ms, at: 0s}
          - {for: 1h}
"""


def test_everything_that_is_wrong_is_told_with_its_line():
    here = "models.author/slug"
    errors = "use 429, 500, 503, timeout, connect (default 500)"
    assert told(WRONG) == [
        "w.yaml:3: modles: unknown key; did you mean models?",
        f"w.yaml:6: {here}.wieght: unknown key; did you mean weight?",
        f"w.yaml:8: {here}.endpoints[0].price.completion: missing; give tokens that come back, in USD per million",
        f"w.yaml:8: {here}.endpoints[0].success: 1.5 is out of range; use a number, 0 to 1 (default 0.98)",
        (
            f"w.yaml:9: {here}.endpoints[1].tag: a second alpha; the first is endpoints[0]; "
            "use another tag for each: provider/variant"
        ),
        (
            f"w.yaml:10: {here}.endpoints[2].tag: Beta has other characters than a name may have; "
            "use a provider's key or provider/variant, e.g. azure/eastus2"
        ),
        f"w.yaml:12: {here}.endpoints[2].episodes[0].at: 10 is a number without a unit; use 0s to 366d",
        f"w.yaml:12: {here}.endpoints[2].episodes[0].succes: unknown key; did you mean success?",
        f"w.yaml:12: {here}.endpoints[2].episodes[0].error: 501 is a number; {errors}",
        f'w.yaml:14: {here}.endpoints[3].price: "cheap" is text; use a number, 0 to 1000000 (default 1)',
        f"w.yaml:15: {here}.endpoints[3].capacity: 0 is out of range; use a whole number, 1 to 1000000",
        (
            f"w.yaml:17: {here}.endpoints[3].episodes[0].for: missing, and the episode comes again; "
            "give how long it lasts each time"
        ),
        f"w.yaml:18: {here}.endpoints[3].episodes[1].at: 3h is not in the world; use less than 2h",
        (
            f"w.yaml:18: {here}.endpoints[3].episodes[1].every: 5m is not longer than the episode itself; "
            "use more than 5m"
        ),
        f"w.yaml:18: {here}.endpoints[3].episodes[1].until: 1h is before the first; use more than 3h",
        f"w.yaml:19: {here}.endpoints[3].episodes[2].error: timout is unknown; did you mean timeout? {errors}",
        f"w.yaml:20: {here}.endpoints[3].episodes[3].until: the episode comes once; give every, or use for",
        (
            f"w.yaml:21: {here}.endpoints[3].episodes[4].every: more than 100000 times; "
            "use a longer time, or a shorter world"
        ),
        f"w.yaml:22: {here}.endpoints[3].episodes[5].at: missing; give when it begins",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "w.yaml: the file is empty; give duration and models"),
        ("# nothing", "w.yaml: the file is empty; give duration and models"),
        ("[1]", "w.yaml:1: a list, not a mapping; use a mapping of name, duration, models"),
        ("duration: 2h", "w.yaml:1: models: missing; give what can be asked for, by id"),
        ("models: {}\nduration: 2h", "w.yaml:1: models: an empty mapping; use 1 or more"),
        ("duration: 0s\nmodels: {a/m: {endpoints: [{tag: p}]}}",
         "w.yaml:1: duration: 0s is out of range; use 1ms to 366d"),
        ("duration: 1h\nmodels: {a: {endpoints: [{tag: p}]}}", ("w.yaml:2: models.a: a has no slash; "
         "use author/slug of lowercase letters, digits and . _ - / :, e.g. openai/gpt-4.1")),
        ("duration: 1h\nmodels: {a/m: {endpoints: []}}",
         "w.yaml:2: models.a/m.endpoints: an empty list; use 1 or more"),
    ],
)  # fmt: skip
def test_what_is_no_world_says_so(text, line):
    assert told(text) == [line]


def test_what_is_no_yaml_says_where():
    (line,) = told("duration: 2h\nmodels: {a/m: [}")
    assert line.startswith("w.yaml:2: invalid YAML at column ")


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    absent, latin = tmp_path / "none.yaml", tmp_path / "latin.yaml"
    latin.write_bytes(b"name: \xe4")
    for path, why in (
        (absent, "No such file or directory; use a file that can be read"),
        (tmp_path, "Is a directory; use a file that can be read"),
        (latin, "not UTF-8; save the file as UTF-8"),
    ):
        with pytest.raises(ValueError) as caught:
            load(Path(path))
        assert str(caught.value) == f"{path}: {why}"
