"""Writing where nobody reads, or too late, or not at all: real pipes, files and processes."""

import errno
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from balancer.service.outlet import OVERHEAD, TRIES, Outlet, StreamSink

DEADLINE = 20.0  # s for what takes milliseconds on an idle machine
SOON = 2.0  # s: what does not wait is done by then on any machine; a stalled write takes for ever
LINE = b"x" * 99 + b"\n"


def told(count):
    return b"dropped %d\n" % count


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


class Pipe:
    """A pipe whose reader takes its time."""

    def __init__(self):
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)

    def fill(self):
        """Leave no room, as a reader that has stopped would."""
        os.set_blocking(self.writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writing, b"-")
        os.set_blocking(self.writing, True)

    def read(self):
        """All that comes until the writers are gone."""
        found = b""
        while part := os.read(self.reading, 65536):
            found += part
        return found.lstrip(b"-")

    def close(self):
        for each in (self.reading, self.writing):
            with suppress(OSError):
                os.close(each)


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    made.close()


class Failing:
    """A sink that fails as often as it is told, and then writes; `rest` bytes of an entry before it fails."""

    def __init__(self, failures, part=0):
        self.failures, self.part = failures, part
        self.found = b""
        self.tries = 0
        self.closed = False

    def write(self, data):
        self.tries += 1
        if self.failures > 0:
            self.failures -= 1
            if self.part and self.tries == 1:
                self.found += data[: self.part]
                return self.part
            raise OSError(errno.ENOSPC, "No space left on device")
        self.found += data
        return len(data)

    def close(self):
        self.closed = True


def test_everything_is_written_in_order_and_close_waits_for_it(pipe):
    outlet = Outlet(StreamSink(pipe.writing), tell=told)
    lines = [b"%d\n" % number for number in range(2000)]
    reader = threading.Thread(target=lambda: found.append(pipe.read()))
    found = []
    reader.start()
    for line in lines:
        outlet.put(line)
    assert outlet.close(DEADLINE)
    os.close(pipe.writing)
    reader.join(DEADLINE)
    assert found == [b"".join(lines)]
    assert outlet.dropped == 0


def test_who_puts_never_waits_and_what_does_not_fit_is_dropped_and_told_when_there_is_room(pipe):
    pipe.fill()
    outlet = Outlet(StreamSink(pipe.writing), tell=told, bytes_max=10 * (len(LINE) + OVERHEAD))
    began = time.monotonic()
    for _ in range(1000):
        outlet.put(LINE)
    assert time.monotonic() - began < SOON
    assert outlet.dropped == 990
    reader = threading.Thread(target=lambda: found.append(pipe.read()))
    found = []
    reader.start()
    until(lambda: outlet.close(SOON))
    os.close(pipe.writing)
    reader.join(DEADLINE)
    lines = found[0].splitlines(keepends=True)
    assert lines.count(LINE) == 10
    assert [each for each in lines if each != LINE] == [b"dropped 990\n"]
    assert lines.index(b"dropped 990\n") < 10  # told as soon as half is free, not after everything else


def test_an_entry_above_all_room_is_dropped(pipe):
    outlet = Outlet(StreamSink(pipe.writing), tell=told, bytes_max=50)
    outlet.put(LINE)
    assert outlet.dropped == 1
    assert outlet.close(DEADLINE)


def test_closing_lets_go_of_a_reader_that_has_stopped(pipe):
    pipe.fill()
    outlet = Outlet(StreamSink(pipe.writing), tell=told)
    outlet.put(LINE)
    began = time.monotonic()
    assert not outlet.close(0.05)
    assert time.monotonic() - began < 0.05 + SOON
    outlet.put(LINE)  # too late
    assert outlet.dropped == 1
    os.read(pipe.reading, 4096)  # it goes on after all, and the thread can end
    until(lambda: outlet.close(SOON))


def test_a_descriptor_that_another_program_made_non_blocking_is_waited_for(pipe):
    pipe.fill()
    os.set_blocking(pipe.writing, False)
    outlet = Outlet(StreamSink(pipe.writing), tell=told)
    outlet.put(LINE)
    assert not outlet.close(0.05)
    assert not os.get_blocking(pipe.writing)
    os.read(pipe.reading, 4096)
    until(lambda: outlet.close(SOON))
    assert os.read(pipe.reading, 4096) == LINE


def test_what_cannot_be_written_is_tried_again():
    sink = Failing(3, part=7)
    outlet = Outlet(sink, tell=told, pause=0.0)
    outlet.put(b"one line\n")
    until(lambda: sink.found)
    assert outlet.close(DEADLINE)
    assert (sink.found, outlet.dropped, sink.closed) == (b"one line\n", 0, True)


def test_after_its_tries_it_is_the_next_ones_turn_and_the_torn_line_stays_alone():
    sink = Failing(TRIES + 1, part=7)
    outlet = Outlet(sink, tell=told, pause=0.0)
    outlet.put(b"one line\n")
    outlet.put(b"two\n")
    until(lambda: sink.found.endswith(b"two\n"))
    assert outlet.close(DEADLINE)
    assert sink.found == b"one lin\ndropped 1\ntwo\n"
    assert outlet.dropped == 1


def test_a_reader_that_is_gone_hurts_nobody(pipe):
    os.close(pipe.reading)
    outlet = Outlet(StreamSink(pipe.writing), tell=told, pause=0.0)
    outlet.put(LINE)
    until(lambda: outlet.dropped == 1)
    outlet.put(LINE)
    assert outlet.close(DEADLINE)
    assert outlet.dropped == 2


def test_a_full_disk_is_written_to_again_once_it_is_emptied(tmp_path):
    mounts = f'mount -t tmpfs -o size=8k none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}/log'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounts, FULL_DISK]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE)
    if b"unshare" in done.stderr or b"mount" in done.stderr:
        pytest.skip("no file systems can be mounted here")
    assert (done.stdout, done.stderr) == (b"3 lines, 0 dropped\n", b"")


FULL_DISK = """
import os, sys, time
from balancer.service.outlet import Outlet, StreamSink
with open(sys.argv[1] + ".other", "wb") as other, open(sys.argv[1], "wb") as log:
    other.write(b"x" * 4096)
    other.flush()
    outlet = Outlet(StreamSink(log.fileno()), tell=lambda count: b"dropped", pause=0.2)
    for _ in range(3):
        outlet.put(b"x" * 1999 + b"\\n")
    while os.path.getsize(sys.argv[1]) < 4096:
        time.sleep(0.001)
    time.sleep(0.02)  # meanwhile it fails
    os.truncate(other.fileno(), 0)
    end = time.monotonic() + 10.0
    while os.path.getsize(sys.argv[1]) < 6000 and time.monotonic() < end:
        time.sleep(0.001)
    outlet.close(5.0)
lines = open(sys.argv[1], "rb").read().splitlines()
print(len([each for each in lines if each == b"x" * 1999]), "lines,", outlet.dropped, "dropped")
"""


def python(text, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", BEGIN + text, *arguments], **options)


BEGIN = """
import os, sys
from balancer.service.outlet import Outlet, StreamSink
outlet = Outlet(StreamSink(2), tell=lambda count: b"dropped %d" % count)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError"])
def test_a_program_that_ends_without_closing_loses_nothing(end):
    with python(f"for _ in range(500): outlet.put(b'line\\n')\n{end}", stderr=subprocess.PIPE) as process:
        _, found = process.communicate(timeout=DEADLINE)
    assert found.count(b"line\n") == 500


def test_a_program_whose_reader_has_stopped_still_ends(pipe):
    pipe.fill()
    began = time.monotonic()
    with python("outlet.put(b'line\\n')\nprint(outlet.close(0.05))", stdout=-1, stderr=pipe.writing) as process:
        found, _ = process.communicate(timeout=DEADLINE)
    assert (found, process.returncode) == (b"False\n", 0)
    assert time.monotonic() - began < DEADLINE


FORK = """
outlet.put(b"parent\\n" * 4000)  # the pipe is full, and the thread is inside a write
outlet.put(b"parent's last\\n")
if os.fork() == 0:
    os.dup2(1, 2)
    child = Outlet(StreamSink(1), tell=lambda count: b"")
    child.put(b"child\\n")
    print(child.close(5.0), outlet.close(0.0), outlet.dropped, flush=True)
    os._exit(0)
os.wait()
outlet.close(5.0)
"""


def test_a_forked_child_writes_its_own_and_not_what_its_parent_has_queued(pipe):
    pipe.fill()
    process = python(FORK, stdout=subprocess.PIPE, stderr=pipe.writing)
    assert [process.stdout.readline() for _ in range(2)] == [b"child\n", b"True True 0\n"]
    os.close(pipe.writing)
    found = pipe.read()
    assert process.wait(DEADLINE) == 0
    process.stdout.close()
    assert found == b"parent\n" * 4000 + b"parent's last\n"


def test_a_forked_child_can_go_on_with_the_outlet_it_has(pipe):
    text = "outlet.put(b'one\\n')\nif os.fork() == 0:\n outlet.put(b'two\\n')\n sys.exit(0)\nos.wait()"
    with python(text, stderr=subprocess.PIPE) as process:
        _, found = process.communicate(timeout=DEADLINE)
    assert sorted(found.splitlines()) == [b"one", b"two"]


def test_what_interrupts_a_put_may_put_too(pipe):
    outlet = Outlet(StreamSink(pipe.writing), tell=told)
    interruptions = itertools.count()

    def interrupt(_number, _frame):
        outlet.put(b"interrupted\n")
        next(interruptions)

    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read()))
    reader.start()
    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001, 0.0002)
    try:
        for _ in range(20_000):
            outlet.put(b"here\n")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
    assert outlet.close(DEADLINE)
    os.close(pipe.writing)
    reader.join(DEADLINE)
    lines = found[0].splitlines()
    assert (lines.count(b"here"), lines.count(b"interrupted"), outlet.dropped) == (20_000, next(interruptions), 0)


def test_many_threads_may_put(pipe):
    outlet = Outlet(StreamSink(pipe.writing), tell=told)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read()))
    reader.start()
    writers = [threading.Thread(target=lambda: [outlet.put(LINE) for _ in range(500)]) for _ in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(DEADLINE)
    assert outlet.close(DEADLINE)
    os.close(pipe.writing)
    reader.join(DEADLINE)
    assert found == [LINE * 2000]


def test_an_outlet_that_was_never_used_closes_and_lets_go_of_its_descriptor(pipe):
    outlet = Outlet(StreamSink(pipe.writing), tell=told)
    assert outlet.close(0.0)
    assert outlet.close(0.0)  # once more does nothing
    os.close(pipe.writing)
    assert os.read(pipe.reading, 1) == b""
