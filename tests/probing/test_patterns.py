"""Expressions of an operator's: what they find, and that each search ends."""

import asyncio
import time

import pytest

from balancer.probing.failure import Failure
from balancer.probing.patterns import compiled, found, nodes

ENDLESS = "(a|a)+$"
TEXT = "a" * 40 + "!"


async def test_what_is_there_is_found():
    assert await found(compiled("status.*: ok"), "status of all: ok", limit=1.0)
    assert not await found(compiled("^ok$"), "status of all: ok", limit=1.0)


@pytest.mark.parametrize("text", ["(", "a{99999999999}"])
def test_what_is_no_expression_is_a_wrong_recipe(text):
    with pytest.raises(Failure) as caught:
        compiled(text)
    assert caught.value.kind == "probe_invalid"


async def test_a_search_without_an_end_ends_and_the_loop_goes_on_meanwhile():
    turns = 0

    async def turning():
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async with asyncio.TaskGroup() as group:
        task = group.create_task(turning(), name="the rest of the daemon")
        began = time.monotonic()
        with pytest.raises(Failure) as caught:
            await found(compiled(ENDLESS), TEXT, limit=0.3)
        took = time.monotonic() - began
        task.cancel()
    assert caught.value.kind == "probe_invalid"
    assert caught.value.detail == "probe.body: the search was not done after 0.3 s; use a simpler one"
    assert took < 5.0
    assert turns > 20


@pytest.mark.parametrize(
    ("path", "found_in_it"),
    [
        ("$[?search(@, 'b.d')]", ["abcde"]),
        ("$[?match(@, 'b.d')]", []),
        ("$[?match(@, 'a.*e')]", ["abcde"]),
        ("$[?search(@, '(')]", []),  # no expression: the RFC wants no error
    ],
)
def test_paths_search_and_match_as_the_rfc_says(path, found_in_it):
    assert list(nodes(path, ["abcde", 7, None], limit=1.0)) == found_in_it


DEEP = [[[[[[number] for number in range(20)] for _ in range(20)]]] for _ in range(20)]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (f"$[?search(@, '{ENDLESS}')]", [TEXT] * 1000),  # one deadline for all of them
        ("$..*..*..*..*", DEEP),  # that finds something all the time
        ("$..*..*..*.nothing", DEEP),
        ("$[?count(@..*..*..*..*) < 0]", DEEP),
    ],
)
def test_a_path_without_an_end_ends_and_so_do_the_searches_in_it(path, document):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        list(nodes(path, document, limit=0.3))
    assert 0.2 < time.monotonic() - began < 5.0


def test_a_path_that_ends_leaves_no_deadline_to_the_next_one():
    assert list(nodes("$[0]", [1], limit=60.0)) == [1]
    with pytest.raises(TimeoutError):
        list(nodes("$[0]", [1], limit=0.0))
    assert list(nodes("$[0]", [1], limit=60.0)) == [1]
