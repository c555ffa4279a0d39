"""What decisions cost while the disk is full, read-only, locked, overwritten or gone: no more than without.

Run `python tests/benchmarks/disk.py` as root, which may mount a small disk; seventeen minutes. Before it, `chrt -f
1` quiets a shared machine, and for `drowned` it has to be `nice -n -20`: the real-time thread that then writes for
a second does not give way to the one that decides. The daemon is the process that a user starts, pinned to one
core, with its state directory on that disk; the client is a process on another, as far as the machine has and
lends them. It asks on one kept connection at a steady rate, a little jittered, and reports what became of each
call; it counts from when a question was due. Nothing is probed.

Each trouble is a span of its own between calm ones: `calm`, then while it lasts, then `after` it, when what waited
is written. `nothing` is a trouble too: what it changes is what the machine does. `drowned` is the lock again, with
so many different reports before the span that memory may not hold what waits: these are dropped. The bound is of
p99 while it lasts: the median, over the passes, of the difference to the calm span before it. Errors and drops are
the daemon's own counts, and `told` how often its log said that a store failed (each reason once) and was well
again; who said the one has to say the other. `well after` is the time from the end of the trouble until the log
said so, of the slower store.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from random import Random
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection
from statistics import median

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
sys.path.insert(0, str(Path(__file__).parent))
from disks import MEGABYTE, Deleted, Full, Garbage, Locked, NoDisk, Nothing, ReadOnly, SmallDisk, Trouble
from scrape import CHUNK, DEADLINE, answered, cores, free_port, pin, quantile

ADDED_MAX = 0.001  # s that a trouble may add to the p99 of decisions: a slice of a save, and nothing of a disk
BUSY = 0.005  # s of p99 in a calm span
SIZE = 64 * MEGABYTE  # of the disk
SAVE = 1.0  # s between two saves of the state, the shortest that may be configured
AFTER = 10.0  # s of the span after a trouble: the history waits five at the most
MODELS, PROVIDERS = 10, 5
AT_ONCE = 5000  # reports of one request
AGES = 8 * 3600  # s; of reports that have no row in common


class Drowned(Locked):
    """The lock, with more to be written than memory may hold."""


TROUBLES: dict[str, type[Trouble]] = {
    "nothing": Nothing,
    "full": Full,
    "read-only": ReadOnly,
    "locked": Locked,
    "drowned": Drowned,
    "garbage": Garbage,
    "deleted": Deleted,
}


def written(port: int) -> str:
    """The configuration: 50 endpoints."""
    lines = [f"listen: 127.0.0.1:{port}", "log: {format: json}", "probe: {kind: none}"]
    lines += [f"store: {{save_interval: {SAVE:g}s}}", "providers:"]
    lines += [f'  p{place}: {{base_url: "http://127.0.0.1:9/v1"}}' for place in range(PROVIDERS)]
    lines.append("models:")
    for model in range(MODELS):
        places = ", ".join(f"{{provider: p{place}, model: m{model}}}" for place in range(PROVIDERS))
        lines.append(f"  acme/m{model}: {{endpoints: [{places}]}}")
    return "\n".join(lines) + "\n"


class Running:
    """A daemon, as it is seen from outside."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self._http = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

    def report(self, reports: Sequence[dict[str, object]]) -> None:
        """Send many at once."""
        answered(self._http, "POST", "/v1/reports", msgspec.json.encode({"reports": reports}))

    def counts(self) -> dict[str, int]:
        """Errors of each store, and what the history dropped."""
        text = answered(self._http, "GET", "/metrics").decode()
        found = re.findall(r'^balancer_store_(errors|dropped)_total\{store="(\w+)"\} (\S+)$', text, re.MULTILINE)
        return {f"{store} {what}": int(float(value)) for what, store, value in found}

    def told(self) -> list[tuple[float, str, str]]:
        """When the log said what of which store."""
        lines = self._log.read_text().rpartition("\n")[0].splitlines()
        found = [msgspec.json.decode(line) for line in lines if '"store.' in line]
        return [
            (datetime.fromisoformat(each["timestamp"]).timestamp(), each["store"], each["event"]) for each in found
        ]

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()


@contextmanager
def daemon(disk: SmallDisk, folder: Path, core: int | None) -> Iterator[Running]:
    """Run it with its state on that disk."""
    port = free_port()
    file, log = folder / "balancer.yaml", folder / "log"
    file.write_text(written(port))
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "balancer", "run", "-c", str(file)]
        environ = {**os.environ, "STATE_DIRECTORY": str(disk.state)}
        process = subprocess.Popen(argv, stdout=out, stderr=out, env=environ, preexec_fn=lambda: pin(core))
    try:
        end = time.monotonic() + DEADLINE
        while not (_is_ready(port) and disk.database.exists()):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the daemon did not begin:\n{log.read_text()}")
            time.sleep(0.02)
        running = Running(port, log)
        yield running
        running.close()
        if process.poll() is not None:
            sys.exit(f"the daemon ended with {process.returncode}:\n{log.read_text()}")
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with suppress(OSError):
        answered(connection, "GET", "/-/ready")
        return True
    return False


# ---- measuring ---------------------------------------------------------------------------------------


class Selected(msgspec.Struct):
    """The endpoint of a decision."""

    id: str


class Decided(msgspec.Struct):
    """What the client reads of an answer."""

    id: str
    selected: Selected


class Client:
    """One kept connection that asks for decisions, and reports each call as good."""

    def __init__(self, port: int) -> None:
        self._socket = create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self._random = Random(7)

    def asked(self, rate: float, span: float) -> list[float]:
        """Ask for so long; how much later than due each answer was there. Units: seconds."""
        found = []
        due = time.monotonic()
        end = due + span
        while due < end:
            wait = due - time.monotonic()
            began = due
            if wait > 0:
                time.sleep(wait)
                began = time.monotonic()
            decided = self._ask()
            found.append(time.monotonic() - began)
            self._tell(msgspec.json.decode(decided, type=Decided))
            due += self._random.uniform(0.5, 1.5) / rate
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()

    def _ask(self) -> bytes:
        path = f"/v1/best-provider?model=acme/m{self._random.randrange(MODELS)}"
        return self._answer(f"GET {path} HTTP/1.1\r\nHost: balancer\r\n\r\n".encode())

    def _tell(self, decided: Decided) -> None:
        latency = 2 ** self._random.uniform(-1, 1)
        facts = {"endpoint": decided.selected.id, "decision": decided.id, "status": 200, "latency": latency}
        body = msgspec.json.encode(facts)
        head = "Host: balancer\r\nContent-Type: application/json"
        self._answer(f"POST /v1/reports HTTP/1.1\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def _answer(self, question: bytes) -> bytes:
        self._socket.sendall(question)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"a question was refused: {answer[:200]!r}")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._more()
        return body

    def _more(self) -> bytes:
        data = self._socket.recv(CHUNK)
        if not data:
            sys.exit("the daemon closed the connection")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One trouble, once. Units: seconds; `well` is `None` where nothing was told."""

    calm: Sequence[float]
    trouble: Sequence[float]
    after: Sequence[float]
    counts: dict[str, int]
    failed: int
    recovered: int
    well: float | None

    @property
    def added(self) -> float:
        """What it adds to p99."""
        return quantile(self.trouble, 0.99) - quantile(self.calm, 0.99)


def passed(trouble: Trouble, running: Running, client: Client, given: argparse.Namespace) -> Pass:
    """Live through a trouble. Raises: SystemExit where a store is not well again."""
    calm = client.asked(given.rate, given.span)
    before, lines = running.counts(), len(running.told())
    trouble.begin()
    over = time.time()
    if isinstance(trouble, Drowned):
        _drown(running, before["history dropped"])
    during = client.asked(given.rate, given.span)
    if not isinstance(trouble, Garbage):  # which is over as soon as it has begun
        over = time.time()
    trouble.end()
    after = client.asked(given.rate, min(AFTER, given.span))
    told = _until(lambda: _settled(running.told()[lines:], trouble.tells | trouble.may_tell))
    counts = running.counts()
    return Pass(
        calm=calm,
        trouble=during,
        after=after,
        counts={name: value - before[name] for name, value in counts.items()},
        failed=sum(event == "store.failed" for _, _, event in told),
        recovered=sum(event == "store.recovered" for _, _, event in told),
        well=max((at - over for at, _, event in told if event == "store.recovered"), default=None),
    )


def _drown(running: Running, before: int) -> None:
    random = Random(7)
    while running.counts()["history dropped"] == before:
        running.report(
            [
                {
                    "endpoint": f"acme/m{random.randrange(MODELS)}@p{random.randrange(PROVIDERS)}",
                    "status": 200,
                    "latency": 2 ** random.uniform(-1, 1),
                    "age": AGES * random.random(),
                }
                for _ in range(AT_ONCE)
            ]
        )


def _settled(told: list[tuple[float, str, str]], tells: frozenset[str]) -> list[tuple[float, str, str]] | None:
    """The same lines, once the last of each store says that it is well; `None` before.

    Shape: of two stores that may tell one may have nothing to say: the history's log may have had room enough.
    """
    last = {store: event for _, store, event in told}
    well = all(event == "store.recovered" for event in last.values())
    return told if well and last.keys() <= tells and (last or not tells) else None


def _until(look: Callable[[], list[tuple[float, str, str]] | None]) -> list[tuple[float, str, str]]:
    end = time.monotonic() + DEADLINE
    while (found := look()) is None:
        if time.monotonic() > end:
            sys.exit(f"it is not well again, or has told something else, after {DEADLINE:g} s")
        time.sleep(0.05)
    return found


# ---- telling -----------------------------------------------------------------------------------------


def row(name: str, phase: str, decisions: Sequence[float], calm: Sequence[float]) -> str:
    """One phase of a trouble."""
    cells = [f"{quantile(decisions, share) * 1000:>8.2f}" for share in (0.5, 0.99, 0.999)]
    ratio = quantile(decisions, 0.99) / quantile(calm, 0.99)
    return (
        f"{name:<10}{phase:<8}{len(decisions):>9}" + "".join(cells) + f"{max(decisions) * 1000:>8.2f}{ratio:>8.2f}"
    )


def table(name: str, passes: Sequence[Pass]) -> list[str]:
    """The lines of one trouble."""
    calm = [late for each in passes for late in each.calm]
    trouble = [late for each in passes for late in each.trouble]
    after = [late for each in passes for late in each.after]
    errors = "+".join(str(sum(each.counts[f"{store} errors"] for each in passes)) for store in ("state", "history"))
    dropped = sum(each.counts["history dropped"] for each in passes)
    told = f"{sum(each.failed for each in passes)}/{sum(each.recovered for each in passes)}"
    times = [each.well for each in passes if each.well is not None]
    well = f"{max(times):>7.1f}" if times else f"{'':>7}"
    return [
        row(name, "calm", calm, calm),
        row("", "during", trouble, calm) + f"{errors:>9}{dropped:>9}{told:>6}{well}",
        row("", "after", after, calm),
    ]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What decisions cost while the disk is in trouble.")
    parser.add_argument("--rate", type=float, default=200.0, help="decisions a second, and as many reports")
    parser.add_argument("--span", type=float, default=30.0, help="seconds of calm, and of a trouble")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--only", action="append", choices=TROUBLES, help="a trouble; all of them without")
    given = parser.parse_args()
    for name in ("rate", "span", "passes"):
        if getattr(given, name) <= 0:
            parser.error(f"--{name} must be above 0")
    return given


def main() -> int:
    """Measure and print."""
    given = options()
    ours, others, where = cores()
    pin(others)
    loop = "uvloop" if find_spec("uvloop") is not None else "asyncio's own loop"
    found: dict[str, list[Pass]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            disk = SmallDisk(Path(folder), size=SIZE)
        except NoDisk as refusal:
            print(f"{refusal}; run it as root", file=sys.stderr)
            return 2
        try:
            print(f"{given.rate:g} decisions and reports a second, spans of {given.span:g} s; {where}; {loop}")
            print(
                f"{'Python ' + platform.python_version() + ', ms':<18}{'decisions':>9}{'p50':>8}{'p99':>8}"
                f"{'p99.9':>8}{'max':>8}{'× calm':>8}{'errors':>9}{'dropped':>9}{'told':>6}{'well':>7}"
            )
            with daemon(disk, Path(folder), ours) as running:
                client = Client(running.port)
                client.asked(given.rate, min(2.0, given.span))  # the first answers of a process are slower
                for name in TROUBLES if given.only is None else given.only:
                    found[name] = [
                        passed(TROUBLES[name](disk), running, client, given) for _ in range(given.passes)
                    ]
                    print(*table(name, found[name]), sep="\n", flush=True)
                client.close()
        finally:
            disk.close()
    return judged(found)


def judged(found: dict[str, list[Pass]]) -> int:
    """Say whether that is good; the exit status."""
    added = {name: median(each.added for each in passes) for name, passes in found.items()}
    worst = max(added, key=lambda name: added[name])
    unbalanced = [name for name, passes in found.items() if any(each.failed != each.recovered for each in passes)]
    if unbalanced:
        print(f"TOLD WRONG: {', '.join(unbalanced)}")
    allowed = f"under {ADDED_MAX * 1000:g} ms are allowed"
    good = added[worst] < ADDED_MAX
    quiet = median(quantile(each.calm, 0.99) for passes in found.values() for each in passes)
    if quiet >= BUSY:
        print(f"a busy machine: p99 is {quiet * 1000:.2f} ms without any trouble; believe a calmer hour")
    print(
        f"{'good' if good else 'TOO MUCH'}: {worst} adds {added[worst] * 1000:.2f} ms to p99, the most; {allowed}"
    )
    return 0 if good and not unbalanced else 1


if __name__ == "__main__":
    sys.exit(main())
