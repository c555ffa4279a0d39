from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.model import Model, Sort, Tier
from balancer.core.names import NAMES_MAX, NEAR_MAX, SUFFIXES, Names

PLAIN = Model(id="author/slug", name="Slug", aliases=("slug", "slug:latest"))
FREE = Model(id="author/slug:free", name="Slug, free")
OTHER = Model(id="author/other", name="Other")
MODELS = (PLAIN, FREE, OTHER)


@pytest.fixture
def names() -> Names:
    return Names(MODELS)


TABLE: list[tuple[str, Model, Sort | None, set[Tier]]] = [
    ("author/slug", PLAIN, None, set()),
    ("slug", PLAIN, None, set()),
    ("Author/Slug", PLAIN, None, set()),
    ("slug:latest", PLAIN, None, set()),
    ("author/slug:free", FREE, None, set()),
    ("AUTHOR/SLUG:FREE", FREE, None, set()),
    ("author/other", OTHER, None, set()),
    ("author/slug:nitro", PLAIN, "throughput", {"priority"}),
    ("author/slug:floor", PLAIN, "price", {"flex"}),
    ("author/slug:exacto", PLAIN, "exacto", set()),
    ("slug:NITRO", PLAIN, "throughput", {"priority"}),
    ("slug:latest:nitro", PLAIN, "throughput", {"priority"}),
    ("slug:nitro:latest", PLAIN, "throughput", {"priority"}),
    ("author/slug:free:nitro", FREE, "throughput", {"priority"}),
    ("author/slug:nitro:free", FREE, "throughput", {"priority"}),
    ("author/slug:nitro:floor", PLAIN, "price", {"priority", "flex"}),
    ("author/slug:floor:nitro", PLAIN, "throughput", {"priority", "flex"}),
    ("author/slug:floor:exacto", PLAIN, "exacto", {"flex"}),
    ("author/slug:nitro:nitro", PLAIN, "throughput", {"priority"}),
]


@pytest.mark.parametrize(("name", "model", "sort", "tiers"), TABLE)
def test_a_name_means_a_model_and_what_its_suffixes_say(
    names: Names, name: str, model: Model, sort: Sort | None, tiers: set[Tier]
) -> None:
    for _ in range(2):  # remembered, it means the same
        found = names.find(name)
        assert found is not None
        assert (found.model, found.sort, found.tiers) == (model, sort, tiers)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        ":nitro",
        "author",
        "author/slug:",
        "author/slug:nitro:",
        "author/slug:unheard-of",
        "author/slug:nitro:unheard-of",
        "author/other:free",
        "author/slug:free:latest",
        "author/slug nitro",
        " author/slug",
    ],
)
def test_what_is_no_suffix_and_no_part_of_a_name_is_no_model(names: Names, name: str) -> None:
    assert names.find(name) is None


def test_a_name_that_is_configured_with_its_colons_is_itself() -> None:
    quick = Model(id="author/slug:nitro", name="A model of that very name")
    found = Names((PLAIN, quick)).find("author/slug:nitro")
    assert found is not None
    assert (found.model, found.sort) == (quick, None)


suffixes = st.lists(st.sampled_from(sorted(SUFFIXES)), max_size=5)


@given(st.sampled_from(("author/slug", "slug", "author/slug:free")), suffixes)
def test_the_last_suffix_wins_wherever_they_stand_and_every_tier_counts(
    name: str, given_suffixes: list[str]
) -> None:
    found = Names(MODELS).find(":".join([name, *given_suffixes]))
    assert found is not None
    assert found.model is (FREE if name.endswith(":free") else PLAIN)
    assert found.sort == (SUFFIXES[given_suffixes[-1]][0] if given_suffixes else None)
    assert found.tiers == {tier for suffix in given_suffixes for tier in SUFFIXES[suffix][1]}


def test_more_spellings_than_are_remembered_mean_what_they_meant(names: Names) -> None:
    first = names.find("slug:nitro")
    for number in range(2 * NAMES_MAX):
        spelled = "".join(
            letter.upper() if number >> place & 1 else letter for place, letter in enumerate("author/other:nitro")
        )
        found = names.find(spelled)
        assert found is not None
        assert found.model is OTHER
    assert names.find("slug:nitro") == first


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("author/slg", ("author/slug", "author/slug:free")),
        ("slog", ("slug",)),
        ("nothing-like-it", ()),
        ("", ()),
    ],
)
def test_names_that_were_perhaps_meant_are_found_the_nearest_first(
    names: Names, word: str, near: tuple[str, ...]
) -> None:
    for _ in range(2):  # remembered, they are the same
        assert names.near(word)[: max(len(near), 1)] == near


def test_among_many_names_those_with_the_same_beginning_are_compared() -> None:
    many = [Model(id=f"other/{number:05}", name="Other") for number in range(2 * NEAR_MAX)]
    found = Names([*many, PLAIN])
    assert found.near("author/slog")[:1] == ("author/slug",)
    for number in range(2 * NEAR_MAX):  # more mistakes than are remembered
        assert found.near(f"{number}!") == ()
    assert found.near("author/slog")[:1] == ("author/slug",)
