"""The bytes of a state file: what was told comes back, and anything else is refused whole."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.balancer import Balancer
from balancer.core.kept import SPAN_MAX
from balancer.core.model import Catalog, Endpoint, Model, NoEndpoint, Pricing, Provider
from balancer.core.outcome import KINDS, Outcome
from balancer.core.request import Request
from balancer.core.snapshot import joined
from balancer.store.frame import PART_MAX, Away, Header, StateFileError, away, encoded, head
from balancer.store.frame import judged as begun

TAGS = ("alpha", "beta")
DAY = 86_400.0


def file(*parts: tuple[str, Any], **facts: Any) -> bytes:
    content = [encoded(section, part) for section, part in parts]
    said = {"saved": 1000.5, "moment": 50.25, "boot": "boot-1", "writer": "us", **facts}
    return head(content, **said) + b"".join(content)


def sealed(rest: bytes, version: int = 1) -> bytes:
    """Any bytes as a file whose checksum is right: of a program that does what we do not."""
    return b"balancer-state %d %s\n%s" % (version, blake2b(rest, digest_size=32).hexdigest().encode(), rest)


def judged(data: bytes) -> tuple[Header, dict[str, list[dict[str, Any]]]]:
    """All of a file: its header, and the parts of each section."""
    header, lines = begun(data)
    assert list(lines) == list(lines)
    sections: dict[str, list[dict[str, Any]]] = {}
    for section, part in lines:
        sections.setdefault(section, []).append(part)
    return header, sections


GOOD = file(("table", {"a": 1}), ("budgets", {"b": [1.5, None, "ü"]}), ("table", {"c": {}}))


def test_the_parts_come_back_by_section_and_in_order() -> None:
    header, sections = judged(GOOD)
    assert sections == {"table": [{"a": 1}, {"c": {}}], "budgets": [{"b": [1.5, None, "ü"]}]}
    assert (header.saved, header.moment, header.boot, header.writer) == (1000.5, 50.25, "boot-1", "us")


def test_a_header_of_more_than_is_ever_written_is_refused() -> None:
    second = b'{"saved":1.0,"moment":1.0,"boot":null,"writer":"us","length":%d}\n'
    with pytest.raises(StateFileError, match="says 134217728 bytes where 0 are"):
        judged(sealed(second % 134_217_728))
    with pytest.raises(StateFileError, match="Expected `int` <= 134217728"):
        judged(sealed(second % 134_217_729))


def test_a_state_without_any_part_is_one() -> None:
    assert judged(file())[1] == {}


def test_a_reader_sees_what_it_is_and_when_it_was_written() -> None:
    first, second, *parts = GOOD.decode().splitlines()
    assert first.startswith("balancer-state 1 ")
    assert json.loads(second)["saved"] == 1000.5
    assert [json.loads(part)[0] for part in parts] == ["table", "budgets", "table"]


def test_every_cut_is_refused() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(StateFileError):
            judged(GOOD[:size])


def test_every_changed_bit_is_refused() -> None:
    for place in range(len(GOOD)):
        for bit in range(8):
            broken = bytearray(GOOD)
            broken[place] ^= 1 << bit
            with pytest.raises(StateFileError):
                judged(bytes(broken))


@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_whatever_is_put_into_it_is_refused(more: bytes, place: int) -> None:
    if more:
        with pytest.raises(StateFileError):
            judged(GOOD[:place] + more + GOOD[place:])


@given(st.binary(max_size=300))
def test_garbage_is_refused_even_where_its_checksum_is_right(garbage: bytes) -> None:
    for data in (garbage, sealed(garbage), sealed(GOOD.split(b"\n")[1] + b"\n" + garbage)):
        with pytest.raises(StateFileError):
            judged(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"SQLite format 3\x00", "it is no state file, or its beginning is lost"),
        (b"balancer-state 1", "it is no state file, or its beginning is lost"),
        (b"\0" * 5000, "it is no state file, or its beginning is lost"),
        (sealed(b"", version=0), "it is of an older balancer: format 0, and 1 is known here"),
        (sealed(b"", version=2), "it is of a newer balancer: format 2, and 1 is known here"),
        (GOOD[:-1], "its checksum is wrong: it was cut, or something in it was changed"),
        (GOOD + b"\n", "its checksum is wrong: it was cut, or something in it was changed"),
        (sealed(b"{}\n"), "it is whole, and not what we write: Object missing required field `saved`"),
        (sealed(b'{"saved":1,"moment":1,"boot":null,"writer":"","length":9}\n'),
         "it is whole, and says 9 bytes where 0 are"),
        (sealed(b'{"saved":1,"moment":-1,"boot":null,"writer":"","length":0}\n'),
         "it is whole, and not what we write: Expected `float` >= 0.0 - at `$.moment`"),
        (sealed(b'{"saved":1,"moment":1,"boot":null,"writer":"","length":4}\n[1]\n'),
         "it is whole, and not what we write: Expected `str`, got `int` - at `$[0]`"),
    ],
)  # fmt: skip
def test_why_a_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(StateFileError) as refused:
        judged(data)
    assert reason in str(refused.value)


def test_nesting_without_end_is_refused_and_ends_nobody() -> None:
    line = b'["table",{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}]\n"
    second = b'{"saved":1,"moment":1,"boot":null,"writer":"","length":%d}\n' % len(line)
    with pytest.raises(StateFileError):
        judged(sealed(second + line))


def test_what_nobody_asks_for_is_not_decoded_and_what_was_asked_for_is_not_kept() -> None:
    data = file(*[("table", {"cells": [[number] for number in range(100)]})] * 1000, ("table", 1))
    tracemalloc.start()
    try:
        _, lines = begun(data)
        with pytest.raises(StateFileError, match="Expected `object`, got `int`"):
            for _ in lines:
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000 < len(data)


def test_a_line_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(StateFileError, match="it is whole, and a line of it is longer than 8388608 bytes"):
        judged(file(("table", {"a": "x" * PART_MAX})))


def test_half_a_letter_costs_that_letter_and_not_the_file() -> None:
    parts = ("table", {"a\ud800": ["b\udfff", ("c", 1.5)], "d": {"e": "\ud800"}})
    assert judged(file(parts))[1] == {"table": [{"a?": ["b?", ["c", 1.5]], "d": {"e": "?"}}]}


# ---- any table ---------------------------------------------------------------------------------------


def world() -> Catalog:
    endpoints = {
        f"a/m@{tag}": Endpoint(
            id=f"a/m@{tag}", model="a/m", tag=tag, provider=tag, provider_name=tag, upstream_model="m",
            base_url=f"https://{tag}.example", pricing=Pricing(prompt=1.0, completion=1.0), identity="1", quota=tag,
        )
        for tag in TAGS
    }  # fmt: skip
    return Catalog(
        providers={tag: Provider(key=tag, name=tag) for tag in TAGS},
        models={"a/m": Model(id="a/m", name="m", endpoints=tuple(endpoints))},
        endpoints=endpoints,
    )


STEP = st.tuples(
    st.sampled_from(TAGS), st.sampled_from(KINDS), st.floats(0.01, 400.0), st.text(max_size=5), st.booleans()
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_any_table_is_the_same_after_a_file(history: list[tuple[str, Any, float, str, bool]]) -> None:
    table, now = Balancer(world(), seed=1), 1.0
    for tag, kind, passed, text, operated in history:
        now += passed
        outcome = Outcome(kind=kind, latency=1.0, detail=text)
        table.record(f"a/m@{tag}", outcome, now=now)
        with suppress(NoEndpoint):
            table.best(Request(model="a/m", session_id=f"chat {text}"), now=now, dry=operated)
        if operated:
            table.drain(tag, now=now, until=now + passed, reason=text)
    data = file(*(("table", part) for part in table.parts(now=now)))
    told = joined(judged(data)[1]["table"])
    assert told == json.loads(json.dumps(table.dump(now=now)))
    new, same = Balancer(world(), seed=1), Balancer(world(), seed=1)
    new.restore(told, now=now, away=0.0)
    same.restore(table.dump(now=now), now=now, away=0.0)
    assert new.dump(now=now) == same.dump(now=now)


# ---- the time away -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall", "moment", "boot", "passed"),
    [
        (5.0, 62.5, "boot-1", Away(12.5)),  # whatever the wall clock says
        (1003.0, 2.0, "boot-2", Away(3.0)),
        (1003.0, 40.0, "boot-2", Away(40.0)),  # the machine is up for longer than that
        (1003.0, 40.0, None, Away(3.0)),
        (1003.0, 49.0, "boot-1", Away(3.0)),  # a snapshot of a machine, taken back: its own clock went backwards
        (400.0, 2.0, "boot-2", Away(2.0, "the wall clock is 600 s behind the one that the file was written by")),
        (400.0, 49.0, "boot-1", Away(0.0, "the wall clock is 600 s behind the one that the file was written by")),
        (1000.0 + 500 * DAY, 2.0, "boot-2",
         Away(500 * DAY, "the wall clock is 500 days ahead of the one that the file was written by")),
        (1000.0 + 20_000 * DAY, 2.0, "boot-2",
         Away(SPAN_MAX, "the wall clock is 20000 days ahead of the one that the file was written by")),
    ],
)  # fmt: skip
def test_the_time_away(wall: float, moment: float, boot: str | None, passed: Away) -> None:
    header = Header(saved=1000.0, moment=50.0, boot="boot-1", writer="", length=0)
    found = away(header, wall=wall, moment=moment, boot=boot)
    assert (pytest.approx(found.seconds), found.odd) == (passed.seconds, passed.odd)


@given(st.floats(-1e12, 1e12), st.floats(0, 1e9), st.none() | st.sampled_from(["boot-1", "boot-2"]))
def test_no_clock_makes_a_time_that_a_table_would_refuse(wall: float, moment: float, boot: str | None) -> None:
    header = Header(saved=1000.0, moment=50.0, boot="boot-1", writer="", length=0)
    assert 0 <= away(header, wall=wall, moment=moment, boot=boot).seconds <= SPAN_MAX
