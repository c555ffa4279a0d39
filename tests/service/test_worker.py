"""One job at a time, in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from threading import Event

import pytest

from balancer.service.worker import Worker


async def test_a_job_runs_in_another_thread_and_answers() -> None:
    worker = Worker("disk")
    assert await worker.start(lambda: threading.current_thread().name) == "disk"
    assert not worker.busy


async def test_what_a_job_raises_reaches_who_awaits_it() -> None:
    worker = Worker("disk")

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await worker.start(fail)
    assert not worker.busy


async def test_the_loop_goes_on_while_a_job_hangs_and_there_is_no_second() -> None:
    worker, go = Worker("disk"), Event()
    job = worker.start(lambda: go.wait(30))
    await asyncio.sleep(0)
    assert worker.busy
    with pytest.raises(AssertionError, match="one job at a time"):
        worker.start(lambda: None)
    go.set()
    assert await job
    await worker.idle()


async def test_who_awaits_may_be_cancelled_and_the_job_goes_on() -> None:
    worker, go, done = Worker("disk"), Event(), Event()

    def job() -> None:
        go.wait(30)
        done.set()
        raise OSError(5, "Input/output error")  # which nobody asks for any more

    future = worker.start(job)
    future.cancel()
    assert worker.busy
    go.set()
    await asyncio.wait_for(worker.idle(), 10)
    assert done.is_set()


async def test_where_no_thread_can_be_made_that_is_an_error_of_the_system() -> None:
    worker = Worker("disk")
    size = threading.stack_size()
    threading.stack_size(2**45)  # more than there is, so that a real thread is refused
    try:
        with pytest.raises(OSError, match="no thread can be started"):
            worker.start(lambda: None)
    finally:
        threading.stack_size(size)
    assert not worker.busy
    assert await worker.start(lambda: 7) == 7


HANGS = """
import asyncio, threading
from balancer.service.worker import Worker

async def main():
    Worker("disk").start(threading.Event().wait)
    await asyncio.sleep(0)

asyncio.run(main())
print("ended", flush=True)
"""


def test_a_process_ends_though_a_job_hangs_for_ever() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
