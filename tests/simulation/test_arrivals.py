"""Recorded moments, laid over the time of a world."""

import gzip
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.simulation.arrivals import recorded_arrivals

MOMENTS = (0.0, 1.0, 1.5, 7.0, 10.0)


@pytest.fixture
def recording(tmp_path):
    def write(*moments, column="t_s", name="r.csv"):
        path = tmp_path / name
        path.write_text(
            "\n".join([f"prompt_tokens,{column},output_tokens", *(f"1,{at},2" for at in moments)]) + "\n"
        )
        return path

    return write


def laid(path, *, models=1, rate=1.0, duration=100.0, seed=1):
    return recorded_arrivals(path, models=models, rate=rate, duration=duration, seed=seed)


def told(path):
    with pytest.raises(ValueError) as caught:
        laid(path)
    return str(caught.value).replace(str(path), "FILE").splitlines()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings") / "r.csv"


@settings(max_examples=60, deadline=None)
@given(
    moments=st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(lambda all_: len(set(all_)) > 1),
    rate=st.sampled_from((0.01, 0.1, 1.0, 5.0)),
    laps=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_recording_comes_at_the_wanted_rate_with_the_gaps_it_had(moments, rate, laps, seed, scratch):
    scratch.write_text("\n".join(["t_s", *map(str, moments)]))
    count, length = len(moments), len(moments) / rate
    (found,) = laid(scratch, rate=rate, duration=laps * length, seed=seed)
    assert all(0 <= at < laps * length for at in found)
    assert list(found) == sorted(found)
    assert abs(len(found) - laps * count) <= 1  # a moment on the very border may be on either side of it
    scale = (count - 1) / (max(moments) - min(moments)) / rate
    gaps = [(later - earlier) * scale for earlier, later in pairwise(sorted(moments))] + [1 / rate]
    own = [later - earlier for earlier, later in pairwise(found)]
    for place, gap in enumerate(own[count:]):
        assert gap == pytest.approx(own[place], abs=1e-6)
    if len(own) >= count:
        assert sorted(own[:count]) == pytest.approx(sorted(gaps), abs=1e-6)


def test_a_lap_is_the_recording_and_one_mean_gap(recording):
    (found,) = laid(recording(*MOMENTS), rate=0.4, duration=25.0)
    start = found[0]
    turned = [round((at - start) % 12.5, 6) for at in found]
    assert len(found) == 10
    assert turned[:5] == turned[5:]


def test_models_begin_at_places_of_their_own_which_the_seed_draws(recording):
    path = recording(*MOMENTS)
    found = laid(path, models=30)
    assert len(set(found)) == 30
    assert found == laid(path, models=30)
    assert laid(path, models=30, seed=2) != found
    # Who is added draws for itself alone.
    assert laid(path, models=3) == found[:3]


def test_milliseconds_gzip_and_disorder_make_no_difference(recording):
    plain = recording(*MOMENTS)
    expected = laid(plain)
    assert laid(recording(*(round(at * 1000) for at in MOMENTS), column="t_ms", name="ms.csv")) == expected
    assert laid(recording(*reversed(MOMENTS), name="back.csv")) == expected
    assert laid(recording(*(at + 1e6 for at in MOMENTS), name="late.csv")) == expected
    packed = plain.with_name("packed.csv.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert laid(packed) == expected


def test_what_is_no_recording_says_so(recording, tmp_path):
    assert told(recording("x", 1, "", 2)) == [
        "FILE:2: t_s: x is not a number; use a number",
        "FILE:4: t_s: is empty; use a number",
    ]
    assert told(recording(1, column="time")) == [
        "FILE:1: t_s or t_ms: no such column; there is prompt_tokens, time, output_tokens; give one of them"
    ]
    for moments in ((), (1,), (5, 5, 5)):
        assert told(recording(*moments)) == [
            f"FILE: t_s: {len(moments)} moments, none apart from another; use two or more, some time apart"
        ]
    assert told(tmp_path / "none.csv") == [
        "FILE: No such file or directory; use a CSV file in UTF-8, plain or gzipped"
    ]
