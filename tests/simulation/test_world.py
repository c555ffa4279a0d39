"""What a world says of itself."""

import pytest

from balancer.simulation.world import Track, Truth, World, episodes

DAY = 86_400.0


def track(*truths, model=0):
    return Track(id=f"m{model}@a", model=model, provider="a", tag="a", truths=truths, samples=())


@pytest.mark.parametrize(
    ("truth", "share"),
    [
        (Truth(0, 0.9), 0.9),
        (Truth(0, 0.9, limited=1 / 3), 0.6),
        (Truth(0, 0.0), 0.0),
        (Truth(0, None, limited=0.5), 0.0),
        (Truth(0, 1.0, limited=1.0), 0.0),
    ],
)
def test_the_share_is_of_all_tries_the_refused_ones_too(truth, share):
    assert truth.share == pytest.approx(share)


def test_the_price_is_that_of_the_usual_request():
    assert Truth(0, 1.0, prompt=2.0, completion=10.0).price == 2.0 * 1155 + 10.0 * 211


def test_the_tracks_of_a_model_are_found_by_its_place():
    world = World(name="w", duration=1, models=("a", "b", "c"), tracks=(track(), track(model=2), track()))
    assert world.by_model == ((0, 2), (), (1,))


GOOD, DOWN, EDGE, GONE, REFUSING = 1.0, 0.79, 0.8, None, "refusing"


@pytest.mark.parametrize(
    ("turns", "found"),
    [
        ({0: GOOD}, []),
        ({0: GOOD, 1000: DOWN, 1900: GOOD}, [(1000, 1900)]),
        ({0: GOOD, 1000: DOWN, 1899: GOOD}, []),
        ({0: GOOD, 1000: EDGE, 3000: GOOD}, []),
        ({0: DOWN, 900: GOOD}, [(0, 900)]),
        ({0: GOOD, DAY - 900: DOWN}, [(DAY - 900, DAY)]),
        ({0: GOOD, DAY - 899: DOWN}, []),
        ({0: GOOD, 1000: DOWN, 1400: 0.0, 1900: GOOD}, [(1000, 1900)]),
        ({0: GOOD, 1000: DOWN, 2000: GONE, 9000: DOWN, 9900: GOOD}, [(1000, 2000), (9000, 9900)]),
        ({0: GONE, 5000: GOOD}, []),
        ({0: GOOD, 1000: REFUSING, 2000: GOOD}, [(1000, 2000)]),
        ({0: GOOD, 1000: DOWN, 2000: EDGE, 2100: DOWN, 2200: GOOD}, [(1000, 2000)]),
    ],
)
def test_an_episode_is_a_quarter_of_an_hour_below_four_fifths(turns, found):
    truths = [
        Truth(at, 1.0, limited=1 / 3) if share == REFUSING else Truth(at, share) for at, share in turns.items()
    ]
    assert episodes(track(*truths), DAY) == found
