from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.eligibility import asked, excluded_by, out_of_tier, soft_excluded
from balancer.core.model import Endpoint, HealthPolicy, Model, PriceOverride, Pricing
from balancer.core.outcome import Outcome
from balancer.core.pool import FLIGHT_LONGEST, PASSING_MAX, THROUGHPUT_SAMPLES_MIN, WORDS_KEPT, Pool
from balancer.core.request import Request
from balancer.core.row import Row
from balancer.core.tools import PEERS_MIN, TOOL_REQUESTS_MIN

MakeEndpoint = Callable[..., Endpoint]
MakeRequest = Callable[..., Request]

POLICY = HealthPolicy()
OK = Outcome(kind="success", latency=1.0)
BAD = Outcome(kind="server_error", status=500)
MONDAY = 1_767_571_200.0  # 2026-01-05 00:00 UTC


def pool_of(*endpoints: Endpoint, now: float = 0.0, seed: int = 1) -> Pool:
    rows = [Row(each, POLICY, random=Random(seed), now=0.0) for each in endpoints]
    return pool_over(rows, now)


def pool_over(rows: Sequence[Row], now: float) -> Pool:
    endpoints = [row.endpoint for row in rows]
    return Pool(
        Model(id="author/slug", name="m", endpoints=tuple(each.id for each in endpoints)),
        rows,
        policy=POLICY,
        fates={each.id: place for place, each in enumerate(endpoints)},
        now=now,
    )


def take(row: Row, outcome: Outcome, now: float, *, times: int = 1, age: float = 0.0, probe: bool = False) -> None:
    for _ in range(times):
        row.record(
            outcome,
            source="probe" if probe else "report",
            ended=now - age,
            duration=None,
            now=now,
            decision="dec_1",
            policy=POLICY,
            random=Random(1),
        )


def passing(pool: Pool, request: Request, *, soft: bool = True) -> set[str]:
    found = pool.passing(request, frozenset(), None, soft)
    return {entry.endpoint.id for entry in found.entries}


# ---- the memo of the filters -------------------------------------------------------------------------

LIMITS = (None, 1000, 1001, 4000)
NEAR = sorted({base + step for base in (0, 999, 1000, 1001, 4000) for step in (-1, 0, 1)} - {-1})
lengths = st.one_of(st.none(), st.sampled_from(NEAR))
limits = st.sampled_from(LIMITS)
TIERED = PriceOverride(min_prompt_tokens=1000, prompt=5.0)


@given(
    drawn=st.lists(
        st.tuples(limits, limits, limits, st.sampled_from((None, "flex")), st.booleans()), min_size=1, max_size=4
    ),
    asks=st.lists(
        st.tuples(lengths, lengths, st.sampled_from(({}, {"max_price_prompt": 2.0}, {"ignore": ("p0",)}))),
        min_size=1,
        max_size=12,
    ),
)
def test_the_memo_answers_what_the_filters_would_for_any_length(
    endpoint: MakeEndpoint,
    ask: MakeRequest,
    drawn: list[tuple[int | None, int | None, int | None, Any, bool]],
    asks: list[tuple[int | None, int | None, dict[str, Any]]],
) -> None:
    endpoints = [
        endpoint(
            f"p{place}",
            context_length=context,
            max_prompt_tokens=longest,
            max_completion_tokens=answer,
            tier=tier,
            pricing=Pricing(prompt=1.0, completion=1.0, overrides=(TIERED,) if steep else ()),
        )
        for place, (context, longest, answer, tier, steep) in enumerate(drawn)
    ]
    pool = pool_of(*endpoints)
    for prompt, answer, wishes in asks * 2:
        request = ask(prompt_tokens=prompt, max_tokens=answer, **wishes)
        wanted = {
            each.id
            for each in endpoints
            if not excluded_by(each, request, asked(request)) and not out_of_tier(each, request, frozenset())
        }
        assert passing(pool, request) == wanted


VARIETY: list[dict[str, Any]] = [
    {}, {"require": ("tools",)}, {"require": ("seed",), "require_parameters": True},
    {"input_modalities": ("image",)}, {"output_modalities": ("image",)}, {"region": "eu"},
    {"exclude": ("a",)}, {"order": ("b",), "allow_fallbacks": False}, {"only": ("a", "c")},
    {"ignore": ("a",)}, {"zdr": True}, {"data_collection": "deny"}, {"enforce_distillable_text": True},
    {"quantizations": ("fp8-or-better",)}, {"max_price_prompt": 1.5}, {"max_price_completion": 1.5},
    {"service_tier": "flex"},
]  # fmt: skip


@given(st.lists(st.sampled_from(VARIETY), min_size=1, max_size=20))
def test_the_memo_keeps_every_kind_of_request_apart(
    endpoint: MakeEndpoint, ask: MakeRequest, asks: list[dict[str, Any]]
) -> None:
    endpoints = [
        endpoint("a", supported_parameters=frozenset({"seed"}), zdr=True, quantization="fp4"),
        endpoint("b", region="eu-west", data_collection="deny", price=2.0),
        endpoint("c", input_modalities=frozenset({"text", "image"}), distillable=True),
        endpoint("c/flex", tier="flex", output_modalities=frozenset({"image"})),
    ]
    pool = pool_of(*endpoints)
    for wishes in asks:
        request = ask(**wishes)
        assert passing(pool, request) == passing(pool_of(*endpoints), request)
        reasons = pool.reasons(request, frozenset(), soft=True)
        assert passing(pool, request) == {each.id for each in endpoints} - reasons.keys()


def test_the_suffixes_tiers_and_the_softness_are_kept_apart_too(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    bare, flex = endpoint("a", supported_parameters=frozenset()), endpoint("b/flex", tier="flex")
    tooled = endpoint("c", supported_parameters=frozenset({"tools"}))
    pool, request = pool_of(bare, flex, tooled), ask(require=("tools",))
    for _ in range(2):
        for tiers, soft, wanted in (
            (frozenset(), True, {tooled.id}),
            (frozenset({"flex"}), True, {flex.id, tooled.id}),
            (frozenset(), False, {bare.id, tooled.id}),
        ):
            found = pool.passing(request, tiers, None, soft)  # type: ignore[arg-type]
            assert {entry.endpoint.id for entry in found.entries} == wanted


def test_the_memo_is_bounded_and_right_beyond_its_bound(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"))
    for number in range(PASSING_MAX * 3):
        assert len(passing(pool, ask(exclude=("a", f"x{number}")))) == 1
    assert passing(pool, ask()) == {"author/slug@a", "author/slug@b"}


@pytest.mark.parametrize("field", ["exclude", "order", "only", "ignore", "require"])
def test_only_requests_of_few_words_are_remembered_and_all_are_answered_alike(
    endpoint: MakeEndpoint, ask: MakeRequest, field: str
) -> None:
    pool, fresh = pool_of(endpoint("a"), endpoint("b")), pool_of(endpoint("a"), endpoint("b"))
    for count, kept in ((WORDS_KEPT, True), (WORDS_KEPT + 1, False)):
        request = ask(**{field: ("a", *[f"x{number}" for number in range(count - 1)])})
        first, again = (pool.passing(request, frozenset(), None, True) for _ in range(2))
        assert (first is again) is kept
        assert [entry.endpoint.id for entry in first.entries] == [entry.endpoint.id for entry in again.entries]
        assert passing(pool, request) == passing(fresh, request)


def test_a_thousand_lengths_between_two_limits_are_one_answer(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    pool = pool_of(endpoint("a", context_length=10_000), endpoint("b", context_length=20_000))
    asks = [ask(prompt_tokens=length) for length in range(10_001, 11_001)]
    assert len({id(pool.passing(each, frozenset(), None, True)) for each in asks}) == 1


# ---- reasons -----------------------------------------------------------------------------------------

TIER = ("service_tier",)
ONLY = ("allowed_providers",)
TOOLS = ("supported_parameters:tools",)


@pytest.mark.parametrize(
    ("wanted", "reasons"),
    [
        ({}, {"c/flex": TIER, "d/priority": TIER}),
        ({"service_tier": "flex"}, {"a": TIER, "b": TIER, "d/priority": TIER}),
        ({"service_tier": "priority"}, {"c/flex": TIER}),
        (
            {"service_tier": "flex", "ignore": ("c/flex",)},
            {"a": TIER, "b": TIER, "c/flex": ("ignored_providers",), "d/priority": TIER},
        ),
        ({"only": ("c/flex",)}, {"a": ONLY, "b": ONLY, "d/priority": ONLY + TIER}),
        ({"require": ("tools",), "service_tier": "priority"}, {"a": TOOLS, "c/flex": TIER}),
        (
            {"require": ("tools",), "ignore": ("b", "d/priority")},
            {"b": ("ignored_providers",), "c/flex": TIER, "d/priority": ("ignored_providers", "service_tier")},
        ),
    ],
    ids=[
        "tiers are only for those who ask",
        "flex takes flex alone",
        "priority adds its tier",
        "and nobody where its own is ruled out",
        "a tier by its name",
        "soft filters see who is left",
        "and give way where nobody else is",
    ],
)
def test_each_endpoint_that_is_ruled_out_has_all_its_reasons(
    endpoint: MakeEndpoint, ask: MakeRequest, wanted: dict[str, Any], reasons: dict[str, tuple[str, ...]]
) -> None:
    pool = pool_of(
        endpoint("a", supported_parameters=frozenset()),
        endpoint("b"),
        endpoint("c/flex", tier="flex"),
        endpoint("d/priority", tier="priority"),
    )
    request = ask(**wanted)
    tiers: Any = frozenset({request.service_tier} - {"default"})
    found = pool.reasons(request, tiers, soft=True)
    assert {key.partition("@")[2]: names for key, names in found.items()} == reasons


def test_without_flex_endpoints_everybody_serves_flex(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"), endpoint("d/priority", tier="priority"))
    found = pool.reasons(ask(service_tier="flex"), frozenset({"flex"}), soft=True)
    assert found == {"author/slug@d/priority": TIER}


def test_a_context_holds_prompt_and_answer_and_no_unknown(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    pool = pool_of(endpoint("a", context_length=1000))
    for prompt, answer, fits in ((None, 1000, 1), (None, 1001, 0), (1000, None, 1), (1001, None, 0), (999, 2, 0)):
        assert len(passing(pool, ask(prompt_tokens=prompt, max_tokens=answer))) == fits, (prompt, answer)


soft = st.sets(st.sampled_from(("tools", "response_format", "verbosity")))


@given(required=soft, supported=st.lists(soft, min_size=1, max_size=4))
def test_soft_filters_never_rule_out_all(
    endpoint: MakeEndpoint, ask: MakeRequest, required: set[str], supported: list[set[str]]
) -> None:
    endpoints = [endpoint(f"p{n}", supported_parameters=frozenset(each)) for n, each in enumerate(supported)]
    request = ask(require=tuple(sorted(required)))
    assert (
        passing(pool_of(*endpoints), request)
        == {each.id for each in endpoints} - soft_excluded(endpoints, request).keys()
    )
    assert passing(pool_of(*endpoints), request)


# ---- prices ------------------------------------------------------------------------------------------


def test_an_unknown_price_is_as_dear_as_the_dearest_in_each_part(endpoint: MakeEndpoint) -> None:
    pool = pool_of(
        endpoint("a", pricing=Pricing(prompt=1.0, completion=9.0)),
        endpoint("b", pricing=Pricing(prompt=3.0, completion=2.0)),
        endpoint("c", pricing=Pricing()),
        endpoint("d", pricing=Pricing(prompt=0.0)),
    )
    assert [entry.sent for entry in pool.entries] == pytest.approx([1e-6, 3e-6, 3e-6, 3e-6])
    assert [entry.answered for entry in pool.entries] == pytest.approx([9e-6, 2e-6, 9e-6, 9e-6])


def test_where_nobody_tells_a_price_all_are_alike(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a", price=None), endpoint("b", price=None))
    assert priced(pool) == [(0.0, 0.0)] * 2


def priced(pool: Pool) -> list[tuple[float, float]]:
    return [(entry.sent, entry.answered) for entry in pool.entries]


STEPS = (PriceOverride(min_prompt_tokens=100, prompt=2.0), PriceOverride(min_prompt_tokens=200, prompt=8.0))


def test_each_span_of_prompt_lengths_has_its_prices_and_its_dearest(endpoint: MakeEndpoint) -> None:
    pool = pool_of(
        endpoint("a", pricing=Pricing(prompt=1.0, completion=1.0, overrides=STEPS)), endpoint("b", price=None)
    )
    assert priced(pool) == [(1e-6, 1e-6)] * 2
    for length, sent in ((0, 1e-6), (100, 1e-6), (101, 2e-6), (200, 2e-6), (201, 8e-6), (10**9, 8e-6), (5, 1e-6)):
        pool.price(length, 0.0)
        assert priced(pool) == [pytest.approx((sent, 1e-6))] * 2, length


NIGHT = PriceOverride(start=0, end=360, prompt=0.5)


def test_prices_turn_with_the_time_of_the_day_in_both_directions(endpoint: MakeEndpoint, ask: MakeRequest) -> None:
    pool = pool_of(endpoint("a", pricing=Pricing(prompt=2.0, completion=2.0, overrides=(NIGHT,))))
    request = ask(max_price_prompt=1.0)
    (entry,) = pool.entries
    assert (entry.sent, passing(pool, request)) == (pytest.approx(2e-6), set())  # nobody knows what time it is
    for hour, sent in ((5.99, 0.5e-6), (6.0, 2e-6), (23.99, 2e-6), (24.0, 0.5e-6), (30.0, 2e-6), (25.0, 0.5e-6)):
        pool.refresh(hour * 3600, MONDAY + hour * 3600)
        pool.price(0, hour * 3600)
        assert entry.sent == pytest.approx(sent), hour
        assert len(passing(pool, request)) == (sent < 1e-6), hour


def test_cache_hits_lower_the_price_and_their_age_raises_it_again(endpoint: MakeEndpoint) -> None:
    pricing = Pricing(prompt=2.0, completion=2.0, input_cache_read=0.0)
    pool = pool_of(endpoint("a", pricing=pricing), endpoint("b"))
    first = pool.entries[0]
    hit = Outcome(kind="success", prompt_tokens=100, cached_tokens=100)
    take(first.row, hit, 10.0, times=45)
    pool.refresh(10.0, None)
    assert first.sent == pytest.approx(0.2e-6)
    pool.refresh(500.0, None)  # of success and failure nothing is left to forget but the day's
    assert first.sent == pytest.approx(0.2e-6)
    pool.refresh(2000.0, None)
    assert first.sent == pytest.approx(2e-6)


# ---- figures that cost more --------------------------------------------------------------------------


def test_only_the_figures_that_are_needed_are_filled_in(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a"), endpoint("b"))
    entry, unknown = pool.entries
    take(entry.row, Outcome(kind="success", latency=2.0, ttft=0.5, completion_tokens=100), 1.0)
    pool.refresh(1.0, None)
    fields = ("latency", "ttft", "throughput", "load")
    assert [getattr(entry, name) for name in fields] == [None] * 4
    pool.fill(frozenset({"latency"}), 1.0)
    assert [getattr(entry, name) for name in fields] == [2.0, None, None, None]
    pool.fill(frozenset({"ttft", "throughput", "load"}), 1.0)
    assert [getattr(entry, name) for name in fields] == pytest.approx([2.0, 0.5, 50.0, 2.0], rel=0.02)
    assert [getattr(unknown, name) for name in fields] == [None] * 4


def test_the_load_is_what_is_under_way_and_about_to_be_times_the_peak(endpoint: MakeEndpoint) -> None:
    pool = pool_of(endpoint("a"))
    (entry,) = pool.entries
    take(entry.row, OK, 1.0)
    for now in (1.0, 2.0, 3.0):
        entry.row.flight.begin(now)
    pool.fill(frozenset({"load"}), 1.0)
    assert entry.load == pytest.approx(4.0)
    pool.fill(frozenset({"load"}), 2.0 + FLIGHT_LONGEST + 0.5)  # the first two are over or lost
    peak = entry.row.peak.value(2.0 + FLIGHT_LONGEST + 0.5)
    assert peak is not None
    assert entry.load == pytest.approx(2 * peak)


def tooled(pool: Pool, place: int, *, wrong: int, requests: int = TOOL_REQUESTS_MIN) -> None:
    for number in range(requests):
        take(pool.entries[place].row, Outcome(kind="success", tool_call_errors=int(number < wrong)), 1.0)


def test_the_quality_is_good_unknown_or_far_below_the_peers(endpoint: MakeEndpoint) -> None:
    pool = pool_of(*(endpoint(f"p{place}") for place in range(6)))
    for place, wrong in enumerate((2, 4, 6, 8, 100)):
        tooled(pool, place, wrong=wrong)
    tooled(pool, 5, wrong=0, requests=TOOL_REQUESTS_MIN - 1)
    pool.fill(frozenset({"quality"}), 1.0)
    assert [entry.quality for entry in pool.entries] == [0, 0, 0, 0, 2, 1]


def test_a_throughput_far_below_the_peers_is_bad_quality_too(endpoint: MakeEndpoint) -> None:
    pool = pool_of(*(endpoint(f"p{place}") for place in range(5)))
    speeds = (100, 105, 110, 95, 20)
    for place, tokens in enumerate(speeds):
        tooled(pool, place, wrong=1)
        measured = Outcome(kind="success", latency=1.0, completion_tokens=tokens)
        take(pool.entries[place].row, measured, 1.0, times=THROUGHPUT_SAMPLES_MIN - 1)
    pool.fill(frozenset({"quality"}), 1.0)
    assert [entry.quality for entry in pool.entries] == [0] * 5  # of too few nothing is concluded
    for place, tokens in enumerate(speeds):
        take(pool.entries[place].row, Outcome(kind="success", latency=1.0, completion_tokens=tokens), 1.0)
    pool.fill(frozenset({"quality"}), 1.0)
    assert [entry.quality for entry in pool.entries] == [0, 0, 0, 0, 2]


def test_among_too_few_nobody_is_far_below(endpoint: MakeEndpoint) -> None:
    pool = pool_of(*(endpoint(f"p{place}") for place in range(PEERS_MIN - 1)))
    for place, wrong in enumerate((0, 1, 150)):
        tooled(pool, place, wrong=wrong)
    pool.fill(frozenset({"quality"}), 1.0)
    assert [entry.quality for entry in pool.entries] == [0, 0, 0]
