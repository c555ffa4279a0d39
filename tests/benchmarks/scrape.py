"""What a scrape every second adds to the latency of decisions, with the daemon's whole exposition at some size.

Run `python tests/benchmarks/scrape.py`; four minutes. The daemon is the process that a user starts, pinned to one
core; the client and the scraper are processes on another, as far as the machine has and lends them. Nothing is
probed: all evidence was reported at the beginning, so that every ratio and quantile has its series. The first
column says how many samples a scrape really had.

The client asks on one kept connection at a steady rate, a little jittered, lest it always meet the scraper in the
same phase, and counts from when a question was due: one that waits behind another that is late is late itself. The
scraper asks as Prometheus does, on a kept connection. Short spans without and with it take turns, because a shared
machine is now busy and now not. The bound is of the first size, for p99: the median, over the pairs of spans, of
the difference; the figures above it are of all spans together. `beside` is p99 of the decisions that
were due while a scrape was under way or within `NEAR` of its beginning: a p99 of all cannot show what less than one
question in a hundred meets, and this can.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import pairwise
from math import ceil
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec

ADDED_MAX = 0.005  # s that a scrape may add to the p99 of decisions, at the first size
SIZES = (2000, 10_000)  # series; the second is told and has no bound

EVERY = 1.0  # s between two scrapes: fifteen times as often as the shipped configuration
NEAR = (
    0.010  # s from the beginning of a scrape in which a decision is counted as beside it, though it may have ended
)
DEADLINE = 60.0  # s that anything may take
CHUNK = 65_536  # bytes
TOLD = 20  # reports of each endpoint at the beginning: enough for every quantile
ENDPOINTS = 3  # of each model, one a provider
# Source: what Prometheus 2.42 sends.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

PROVIDERS = ENDPOINTS
# Samples of an endpoint, of a model, of a provider, and of everything else, so that a size can be met; what was
# scraped is what is told.
OF_ENDPOINT, OF_MODEL, OF_PROVIDER, OF_REST = 83, 35, 93, 100


def models_for(series: int) -> int:
    """How many models of `ENDPOINTS` endpoints have so many series, or a few more."""
    return max(1, ceil((series - OF_REST - OF_PROVIDER * PROVIDERS) / (OF_MODEL + OF_ENDPOINT * ENDPOINTS)))


def name_of(model: int) -> str:
    return f"author/model-{model}"


def written(models: int, port: int) -> str:
    """The configuration."""
    lines = [f"listen: 127.0.0.1:{port}", "log: {format: json}", "probe: {kind: none}", "providers:"]
    lines += [f'  provider-{each}: {{base_url: "http://127.0.0.1:9/v1"}}' for each in range(PROVIDERS)]
    lines.append("models:")
    for model in range(models):
        lines += [f"  {name_of(model)}:", "    endpoints:"]
        for place in range(ENDPOINTS):
            price = 1.0 + place / 3
            lines.append(
                f"      - {{provider: provider-{place}, model: model-{model}, "
                f"pricing: {{prompt: {price:.2f}, completion: {price:.2f}}}}}"
            )
    return "\n".join(lines)


# ---- processes ---------------------------------------------------------------------------------------


def pin(core: int | None) -> None:
    """Keep this process on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answered(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> bytes:
    """The body of one answer. Raises: SystemExit where it is none of 200."""
    connection.request(method, path, body=body, headers={"Accept": ACCEPT})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        sys.exit(f"{method} {path}: {answer.status} {content[:200]!r}")
    return content


@contextmanager
def daemon(models: int, folder: Path, core: int | None) -> Iterator[int]:
    """Run the daemon with so many models, with evidence of each endpoint; gives its port."""
    port = free_port()
    file = folder / f"balancer-{models}.yaml"
    file.write_text(written(models, port))
    with (folder / "log").open("wb") as log:
        argv = [sys.executable, "-m", "balancer", "run", "-c", str(file)]
        environ = {**os.environ, "STATE_DIRECTORY": str(folder / f"state-{models}")}
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environ, preexec_fn=lambda: pin(core))
    try:
        end = time.monotonic() + DEADLINE
        while True:
            connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            with suppress(OSError):
                answered(connection, "GET", "/-/ready")
                break
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the daemon did not begin:\n{(folder / 'log').read_text()}")
            time.sleep(0.02)
        for model in range(models):
            answered(connection, "POST", "/v1/reports", reports(model))
        connection.close()
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE)


def reports(model: int) -> bytes:
    """Calls of every endpoint of a model, one of them failed and one refused, so that all ratios are there."""
    random = Random(model)
    found = []
    for place in range(ENDPOINTS):
        endpoint = f"{name_of(model)}@provider-{place}"
        for _ in range(TOLD):
            facts = {"latency": 1 + random.random(), "ttft": 0.2 + random.random() / 5}
            tokens = {"prompt_tokens": 1000, "completion_tokens": random.randrange(50, 300)}
            found.append({"endpoint": endpoint, "status": 200, "stream": True, **facts, **tokens})
        found.append({"endpoint": endpoint, "status": 500, "latency": 0.1})
    return msgspec.json.encode({"reports": found})


def scrape(pipe: Pipe, core: int | None, port: int) -> None:
    """While told so, scrape every `EVERY`; then tell when each began and ended, and how many samples it had."""
    pin(core)
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    while pipe.recv():
        times: list[tuple[float, float]] = []
        body = b""
        due = time.monotonic()
        while not pipe.poll(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            body = answered(connection, "GET", "/metrics")
            times.append((began, time.monotonic()))
            due += EVERY
        pipe.recv()
        pipe.send((times, sum(not line.startswith(b"#") for line in body.splitlines())))


@contextmanager
def beside(run: Callable[..., None], *arguments: Any) -> Iterator[Pipe]:
    """A process that ends when it is told nothing more."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=run, args=(theirs, *arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours
        with suppress(OSError):
            ours.send(False)
        child.join(DEADLINE)
    finally:
        child.terminate()


# ---- measuring ---------------------------------------------------------------------------------------


class Client:
    """One kept connection that asks for decisions."""

    def __init__(self, port: int, models: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._questions = [self._question(model) for model in range(models)]
        self._random = Random(models)

    @staticmethod
    def _question(model: int) -> bytes:
        path = f"/v1/best-provider?model={name_of(model)}&prompt_tokens=12000&max_tokens=800"
        return f"GET {path} HTTP/1.1\r\nHost: balancer\r\n\r\n".encode()

    def _ask(self) -> None:
        self._socket.sendall(self._random.choice(self._questions))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"a question was refused: {answer[:200]!r}")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        missing = length - len(body)
        while missing > 0:
            missing -= len(self._more())

    def _more(self) -> bytes:
        data = self._socket.recv(CHUNK)
        if not data:
            sys.exit("the daemon closed the connection")
        return data

    def asked(self, rate: float, span: float) -> list[tuple[float, float]]:
        """Ask for so long; when each question was due, and how much later its answer was there.

        Shape: one that slept too long is due when it woke, one that waited for its turn since it should have begun.
        """
        found = []
        due = time.monotonic()
        end = due + span
        while due < end:
            wait = due - time.monotonic()
            began = due
            if wait > 0:
                time.sleep(wait)
                began = time.monotonic()
            self._ask()
            found.append((began, time.monotonic() - began))
            due += self._random.uniform(0.5, 1.5) / rate
        return found

    def close(self) -> None:
        self._socket.close()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that no more than the rest of a share is above."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span's decisions, and the scrapes in it. Units: seconds."""

    decisions: Sequence[float]
    near: Sequence[float] = ()
    scrapes: Sequence[float] = ()
    series: int = 0


def span_of(client: Client, scraper: Pipe | None, rate: float, length: float) -> Span:
    """Ask for one span, with a scraper or without."""
    if scraper is None:
        return Span(decisions=[late for _, late in client.asked(rate, length)])
    scraper.send(True)
    asked = client.asked(rate, length)
    scraper.send(True)
    times, series = scraper.recv()
    near = [late for due, late in asked if any(began <= due <= max(ended, began + NEAR) for began, ended in times)]
    return Span(
        decisions=[late for _, late in asked],
        near=near,
        scrapes=[ended - began for began, ended in times],
        series=series,
    )


def measured(
    size: int, given: argparse.Namespace, folder: Path, ours: int | None, others: int | None
) -> list[Span]:
    """Spans without and with scrapes in turn, the first without."""
    models = models_for(size)
    found = []
    with daemon(models, folder, ours) as port, beside(scrape, others, port) as scraper:
        client = Client(port, models)
        client.asked(given.rate, min(1.0, given.span))  # the first answers of a process are slower
        for _ in range(given.passes):
            found.append(span_of(client, None, given.rate, given.span))
            found.append(span_of(client, scraper, given.rate, given.span))
        client.close()
    return found


def added(spans: Sequence[Span], share: float) -> float:
    """The median, over the pairs of spans, of what scrapes add to a quantile. Units: seconds."""
    pairs = list(pairwise(spans))[::2]
    return median(quantile(scraped.decisions, share) - quantile(quiet.decisions, share) for quiet, scraped in pairs)


def row(name: str, spans: Sequence[Span]) -> str:
    decisions = [late for span in spans for late in span.decisions]
    near = [late for span in spans for late in span.near]
    cells = [f"{quantile(decisions, share) * 1000:>8.2f}" for share in (0.5, 0.99, 0.999)]
    cells.append(f"{max(decisions) * 1000:>8.2f}")
    cells.append(f"{quantile(near, 0.99) * 1000:>8.2f}" if near else f"{'':>8}")
    scrapes = [took for span in spans for took in span.scrapes]
    cells.append(f"{median(scrapes) * 1000:>9.2f}" if scrapes else f"{'':>9}")
    return f"{name:<24} {len(decisions):>9}" + "".join(cells)


def table(spans: Sequence[Span]) -> list[str]:
    """The lines of one size."""
    quiet, scraped = spans[::2], spans[1::2]
    series = f"{scraped[-1].series:,} series"
    more = [f"{added(spans, share) * 1000:>+8.2f}" for share in (0.5, 0.99, 0.999)]
    return [
        row(f"{series}, no scrape", quiet),
        row(f"{series}, scraped", scraped),
        f"{'added':<24} {'':>9}" + "".join(more),
    ]


def cores() -> tuple[int | None, int | None, str]:
    """The core of the daemon, that of everything else, and what there is to say about it."""
    if not hasattr(os, "sched_setaffinity"):
        return None, None, "no process pinned: this system cannot"
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return (
            allowed[0],
            allowed[0],
            f"everything on the only core, {allowed[0]}: a scrape costs its reader's time, too",
        )
    return allowed[-1], allowed[0], f"daemon on core {allowed[-1]}, client and scraper on core {allowed[0]}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a scrape every second adds to the latency of decisions.")
    parser.add_argument(
        "--series", type=int, nargs="+", default=list(SIZES), help="how many at least; the first is bound"
    )
    parser.add_argument("--rate", type=float, default=200.0, help="decisions a second")
    parser.add_argument("--span", type=float, default=5.0, help="seconds without scrapes, and with them")
    parser.add_argument("--passes", type=int, default=12)
    given = parser.parse_args()
    for name, value in vars(given).items():
        if any(each <= 0 for each in (value if isinstance(value, list) else [value])):
            parser.error(f"--{name} must be above 0")
    return given


def main() -> int:
    """Measure and print."""
    given = options()
    ours, others, told = cores()
    pin(others)
    loop = "uvloop" if find_spec("uvloop") is not None else "asyncio's own loop"
    print(f"{given.rate:g} decisions a second, a scrape every {EVERY:g} s; {told}; {loop}")
    print(
        f"{'Python ' + platform.python_version() + ', ms':<24} {'decisions':>9}{'p50':>8}{'p99':>8}{'p99.9':>8}"
        f"{'max':>8}{'beside':>8}{'a scrape':>9}"
    )
    found: list[list[Span]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in given.series:
            found.append(measured(size, given, Path(folder), ours, others))
            print(*table(found[-1]), sep="\n", flush=True)
    more = added(found[0], 0.99)
    quiet = quantile([late for span in found[0][::2] for late in span.decisions], 0.99)
    if quiet >= ADDED_MAX:
        print(f"a busy machine: p99 is {quiet * 1000:.2f} ms without any scrape; believe a calmer hour")
    allowed = f"under {ADDED_MAX * 1000:g} ms are allowed at {found[0][-1].series:,} series"
    if more >= ADDED_MAX:
        print(f"TOO MUCH: a scrape every second adds {more * 1000:.2f} ms to p99; {allowed}")
        return 1
    print(f"good: a scrape every second adds {more * 1000:.2f} ms to p99; {allowed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
