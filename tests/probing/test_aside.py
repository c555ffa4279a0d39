"""Work in threads of its own: results, exceptions, and many that wait."""

import asyncio
import threading

import pytest

from balancer.probing.aside import SEARCHES, SEARCHES_MAX, THREADS_MAX, aside
from balancer.probing.failure import Failure


async def test_a_result_or_an_exception_comes_back():
    assert await aside(lambda: threading.current_thread().name, name="work") == "work"
    assert await aside(lambda: None, name="nothing") is None
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 / 0, name="broken")


async def test_what_hangs_holds_up_neither_the_loop_nor_the_others_up_to_a_limit(lab):
    go = threading.Event()
    inside = []

    def hang():
        inside.append(1)
        go.wait(10)
        return "done"

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(aside(hang, name="hangs"), name="hangs") for _ in range(THREADS_MAX - 1)]
        await lab.until(lambda: len(inside) == THREADS_MAX - 1)
        assert await aside(lambda: "quick", name="other") == "quick"
        waiting.append(group.create_task(aside(hang, name="hangs"), name="hangs"))
        await lab.until(lambda: len(inside) == THREADS_MAX)
        with pytest.raises(Failure) as caught:
            await aside(lambda: "too many", name="other")
        go.set()
    assert {task.result() for task in waiting} == {"done"}
    assert (caught.value.kind, caught.value.detail) == ("local", "this machine: 256 threads wait already (other)")
    assert await aside(lambda: "again", name="other") == "again"


async def test_searches_that_do_not_end_take_no_place_of_the_others(lab):
    go = threading.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(SEARCHES_MAX):
            group.create_task(aside(lambda: go.wait(10), name="search", slots=SEARCHES), name="search")
        await asyncio.sleep(0)
        with pytest.raises(Failure) as caught:
            await aside(lambda: "too many", name="search", slots=SEARCHES)
        assert await aside(lambda: "found", name="lookup") == "found"
        go.set()
    assert caught.value.detail == "this machine: 16 threads wait already (search)"


async def test_a_cancelled_wait_ends_at_once_and_its_thread_is_given_back(lab):
    go, ended = threading.Event(), threading.Event()

    def hang():
        go.wait(10)
        ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await aside(hang, name="hangs")
    assert not ended.is_set()
    go.set()
    await lab.until(ended.is_set)
    assert await aside(lambda: 1, name="other") == 1


def test_a_loop_that_closes_first_leaves_no_trace(capfd):
    go, ended = threading.Event(), threading.Event()

    def hang():
        go.wait(10)
        ended.set()

    async def leave():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await aside(hang, name="hangs")

    asyncio.run(leave())
    go.set()
    assert ended.wait(10)
    for thread in threading.enumerate():
        if thread.name == "hangs":
            thread.join(10)
    assert capfd.readouterr().err == ""
