"""The picture: a file that can be opened, with every policy's name, whatever lies where."""

import struct
import zlib

import pytest

from balancer.simulation.comparison import Result, Setting
from balancer.simulation.measures import Figures
from balancer.simulation.plot import draw
from balancer.simulation.report import Comparison
from balancer.simulation.world import Track, Truth, World

WORLD = World(
    name="made",
    duration=86_400.0,
    models=("m",),
    tracks=(Track(id="m@p", model=0, provider="p", tag="p", truths=(Truth(0.0, 1.0),), samples=()),),
)


def result(policy, *lost, cost=1.05, knows=False):
    runs = [
        Figures(
            requests=1000, lost=(each, 0, 0), refused=0, successes=1000 if each < 1000 else 0, paid=1000 * cost,
            switches=0, endpoint_days=1.0, detections=(), demotions=None,
        )
        for each in lost
    ]  # fmt: skip
    return Result(policy, knows, tuple((figures,) for figures in runs))


def comparison(*results, ours=()):
    return Comparison(
        world=WORLD,
        setting=Setting(rate=0.1, probe_every=None),
        seeds=[1, 2],
        results=results,
        reference=results[0].policy,
        ours=ours,
    )


def size(path):
    """The width and height of a PNG whose parts are all whole."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    place = 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length]) == (zlib.crc32(body),)
        place += length + 12
    return struct.unpack(">II", data[16:24])


MIXED = (
    result("balancer", 40, 50, cost=1.05),
    result("balancer:failure_price=2", 90, 91, cost=1.02),
    result("classic", 94, 99, cost=1.4),
    result("uniform", 94, 99, cost=1.4),  # on the same spot
    result("oracle", 20, 21, cost=1.03, knows=True),
)


@pytest.mark.parametrize(
    "shown",
    [
        comparison(*MIXED, ours=("balancer", "balancer:failure_price=2")),
        comparison(result("lossless", 0, 0), *MIXED),  # no logarithm
        comparison(result("hopeless", 1000, 1000)),  # no success, no price: nothing to draw
    ],
    ids=["front", "zero", "empty"],
)
def test_the_picture_is_a_whole_png(shown, tmp_path):
    path = tmp_path / "plot.png"
    draw(shown, path)
    assert size(path) == (1200, 840)


def test_the_same_comparison_is_the_same_picture(tmp_path):
    for name in ("a.png", "b.png"):
        draw(comparison(*MIXED), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_place_that_cannot_be_written_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        draw(comparison(result("hopeless", 1000)), tmp_path / "missing" / "plot.png")
