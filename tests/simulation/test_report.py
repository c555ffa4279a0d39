"""What is told of a comparison: JSON, cells and sentences from figures made by hand."""

import json
from dataclasses import replace

import pytest

from balancer.simulation import report
from balancer.simulation.comparison import Result, Setting
from balancer.simulation.measures import MEASURES, Delay, Demotions, Figures
from balancer.simulation.world import Track, Truth, World

WORLD = World(
    name="week.csv",
    duration=172_800.0,
    models=("a/x", "b/y"),
    tracks=tuple(
        Track(id=f"{model}@p", model=model, provider="p", tag="p", truths=(Truth(0.0, 1.0),), samples=())
        for model in range(2)
    ),
)


def figures(lost, *, cost=1.0, demotions=None, detections=()):
    return Figures(
        requests=1000,
        lost=(lost, lost // 10, 0),
        refused=0,
        successes=1000,
        paid=1000 * cost,
        switches=20,
        endpoint_days=2.0,
        detections=detections,
        demotions=demotions,
    )


def result(policy, *lost, cost=1.05, knows=False, **more):
    """A policy with one seed for each pair of losses of the two models."""
    return Result(policy, knows, tuple(tuple(figures(each, cost=cost, **more) for each in seed) for seed in lost))


def comparison(*results, seeds=(1,), reference="base", **more):
    setting = Setting(rate=0.1, probe_every=60.0)
    return report.Comparison(
        world=WORLD, setting=setting, seeds=seeds, results=results, reference=reference, **more
    )


BASE = result("base", (40, 60))


def test_the_document_has_every_measure_of_every_policy_and_model():
    told = report.document(comparison(BASE, result("other", (20, 20))))
    assert [policy["name"] for policy in told["policies"]] == ["base", "other"]
    for policy in told["policies"]:
        assert set(policy) == {"name", "knows", "models", *MEASURES}
        assert list(policy["models"]) == ["a/x", "b/y"]
        assert all(set(model) == set(MEASURES) for model in policy["models"].values())
    base = told["policies"][0]
    assert base["lost_at_1"] == {"mean": 500, "low": None, "high": None}
    assert base["models"]["a/x"]["lost_at_1"] == 400
    assert base["false_demotions"] is None
    assert base["models"]["a/x"]["false_demotions"] is None


def test_the_document_says_what_was_run():
    told = report.document(comparison(BASE, seeds=range(3, 5), limits=True, arrivals="azure.csv"))
    assert told["world"] == {
        "name": "week.csv", "models": ["a/x", "b/y"], "endpoints": 2, "days": 2.0, "requests": 2000,
    }  # fmt: skip
    assert told["options"] == {
        "rate": 0.1, "probe_every": 60.0, "tries": 3, "seeds": [3, 4], "limits": True, "arrivals": "azure.csv",
        "reference": "base",
    }  # fmt: skip
    assert told["front"] is None


def test_the_document_pairs_everybody_with_the_reference():
    told = report.document(comparison(result("other", (20, 20)), BASE))
    (pair,) = told["paired"]
    assert (pair["policy"], pair["reference"]) == ("other", "base")
    assert pair["lost_at_1"]["difference"]["mean"] == -300
    assert pair["lost_at_1"]["ratio"] == 0.4
    second = pair["lost_at_2"]
    assert second["ratio"] == 0.4
    assert second["difference"] == pytest.approx({"mean": -30, "low": -157.062, "high": 97.062}, abs=1e-3)


def test_numbers_have_no_noise_in_their_last_digits():
    told = report.document(comparison(result("base", (1, 1), cost=1.1)))
    assert told["policies"][0]["cost"]["mean"] == 1.1
    assert "0000000" not in json.dumps(told)


def test_the_header_says_what_was_run():
    assert report.header(comparison(BASE)) == (
        "week.csv: 2 models, 2 endpoints, 2 days, 2,000 requests a policy, 6 a minute and model, probes every 1m, "
        "3 tries, seed 1"
    )
    bare = report.Comparison(
        world=WORLD,
        setting=Setting(rate=0.01, probe_every=None, tries=1),
        seeds=[1, 2, 3],
        results=[BASE],
        reference="base",
        limits=True,
    )
    assert report.header(bare).endswith("0.6 a minute and model, no probes, 1 try, seeds 1–3, 429s added")


def test_the_header_says_where_the_requests_come_from():
    def told(file=None, **more):
        shown = comparison(BASE, arrivals=file)
        return report.header(replace(shown, world=replace(WORLD, **more)))

    assert ", 6 a minute and model, probes" in told(weights=(1.0, 1.0))
    assert ", 6 a minute and model × its weight, probes" in told(weights=(1.0, 2.0))
    assert ", 6 a minute and model at the moments of azure.csv, probes" in told("azure.csv", arrivals=((1.0,), ()))
    assert ", 6 a minute and model × its weight at the moments of a recording, probes" in told(
        weights=(1.0, 2.0), arrivals=((1.0,), ())
    )


def test_the_best_policy_stands_first_and_every_line_has_a_cell_a_column():
    rows = report.rows(comparison(BASE, result("better", (10, 10)), result("worst", (90, 90))))
    assert [row[0] for row in rows] == ["better", "base", "worst"]
    assert {len(row) for row in rows} == {len(report.COLUMNS) + 1}


def cells(shown):
    (row,) = report.rows(comparison(shown))
    return dict(zip(report.COLUMNS, row[1:], strict=True))


def test_cells_are_numbers_with_bounds_over_seeds_where_there_are_seeds():
    one = cells(BASE)
    assert (one["LOST@1"], one["LOST@2"], one["COST"], one["SWITCHES"]) == ("500.0", "50.0", "1.050", "2.0")
    two = cells(result("base", (40, 60), (60, 60)))
    assert (two["LOST@1"], two["LOST@2"]) == ("550.0 ±635.3", "55.0")


def test_what_is_unknown_has_no_cell():
    bare = cells(BASE)
    assert [bare[name] for name in ("SEEN s", "UNSEEN %", "FALSE/day", "BACK s", "FLAPS/day")] == [None] * 5
    known = {"demotions": Demotions(1, 3, (30.0, 40.0)), "detections": (Delay(20.0, 2), Delay(None, None))}
    full = cells(result("base", (40, 60), **known))
    names = ("SEEN s", "SEEN req", "UNSEEN %", "FALSE/day", "BACK s", "FLAPS/day")
    assert [full[name] for name in names] == [None, None, "50", "0.50", "35", "1.50"]


def test_differences_have_their_sign_their_bounds_and_their_ratio():
    (row,) = report.differences(comparison(BASE, result("other", (20, 20))))
    assert row == ["other", "−300.0 (−1570.6 to +970.6)  ×0.40", "−30.0 (−157.1 to +97.1)  ×0.40"]
    assert "than base with the same dice, 95 % between 2 models" in str(
        report.about_differences(comparison(BASE, result("other", (20, 20))))
    )


def test_one_policy_has_nobody_to_be_compared_with():
    assert report.about_differences(comparison(BASE)) is None
    assert report.differences(comparison(BASE)) == []


# ---- the front -------------------------------------------------------------------------------------------

OURS = (result("balancer", (40, 40), cost=1.05), result("balancer:failure_price=2", (90, 90), cost=1.02))
NAMES = tuple(each.policy for each in OURS)


@pytest.mark.parametrize(
    ("other", "below"),
    [
        (result("base", (56, 56), cost=1.04), True),  # ours loses 567 there
        (result("base", (56, 56), cost=1.04, knows=True), False),  # an oracle is no rival
        (result("base", (60, 60), cost=1.03), True),
        (result("base", (80, 80), cost=1.03), False),
        (result("base", (10, 10), cost=1.005), False),  # so cheap that it only takes the cheapest
    ],
)
def test_the_front_says_who_lies_below_it(other, below):
    asked = comparison(*OURS, other, ours=NAMES)
    told = report.document(asked)["front"]
    assert [point["policy"] for point in told["points"]] == ["balancer:failure_price=2", "balancer"]
    assert told["below"] == (["base"] if below else [])
    first, *others = report.about_front(asked)
    if below:
        assert first == "Below the front of balancer:failure_price=2, balancer:"
        assert others[0].startswith("  base loses ")
    else:
        assert first.startswith("No policy that does not know the truth and costs more than 1.01 lies below")
        assert others == []


def test_a_difference_from_the_front_has_its_bounds_over_seeds():
    ours = result("balancer", (40, 40), (50, 50))
    asked = comparison(
        ours, result("base", (39, 39), (51, 51)), result("a", (38, 38), (49, 49)), ours=("balancer",)
    )
    assert report.about_front(asked) == [
        "Below the front of balancer:",
        "  a loses 435.0 at a cost of 1.050, 15.0 fewer than ours there (−78.5 to +48.5 over seeds)",
    ]
    others = report.document(asked)["front"]["others"]
    assert [(each["policy"], each["difference"]["mean"], each["below"]) for each in others] == [
        ("base", 0, False), ("a", -15, True),
    ]  # fmt: skip


def test_a_front_without_a_success_is_unknown():
    ours = Result("balancer", False, ((replace(figures(1000), successes=0, paid=0.0),) * 2,))
    asked = comparison(ours, BASE, ours=("balancer",))
    assert report.about_front(asked) == ["Nothing is known of the front: no request succeeded."]
    assert report.document(asked)["front"] == {"points": [], "others": [], "below": []}


def test_without_a_front_nothing_is_said_of_it():
    assert report.about_front(comparison(*OURS, BASE)) == []
