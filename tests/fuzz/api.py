"""A real daemon under ten thousand random and mutated requests, or as many as are asked for.

Run `python tests/fuzz/api.py --requests 200000 --seed 7`. Three quarters are raw bytes (`nonsense`), the rest is
made by schemathesis from /openapi.json: what the document allows, and what it forbids. A failure names the seed and
the number of the conversation; `--only N` sends that one alone and prints what was said and heard.

What is held: no status that is not documented and no 5xx but 503, the envelope on every error, answers that are as
the document says, no traceback and no crash in the log, no smuggled request carried out, memory that stays where it
was after the first of them, and a right decision and healthy health afterwards.

`GET /v1/events` is left out of what schemathesis sends, because its answer does not end; `nonsense` asks it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import schemathesis
from answers import Answer, answers, faults
from hypothesis import HealthCheck, Phase, given, seed, settings
from nonsense import BUSY, QUIET, TOKEN, conversation
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup

CLIENTS: Final = 24  # at a time
SILENCE: Final = 0.06  # s after which a client has nothing more to wait for, and hangs up
PATIENCE: Final = 20.0  # s for the daemon to hang up then, on a loaded machine
READY_MAX: Final = 30.0  # s
WARM: Final = 0.3  # of the raw conversations, after which memory should stand still
GROWTH_MAX: Final = 8.0  # MiB that memory may grow afterwards; it grew by 0 to 1 in 10,000 and in 20,000
CHECKS: Final = (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
SHAPED: Final = 0.25  # of all requests are schemathesis'

CONFIG: Final = """\
listen: 127.0.0.1:{port}
log: {{format: json}}
state_dir: {folder}/state
probe: {{kind: none}}
auth: {{tokens: [{{name: fuzzer, scopes: [admin], token: {{env: FUZZER}}}}]}}
providers:
  one: {{base_url: "http://127.0.0.1:9/v1"}}
  two: {{base_url: "http://127.0.0.1:9/v1"}}
  {quiet}: {{base_url: "http://127.0.0.1:9/v1"}}
  dear: {{base_url: "http://127.0.0.1:9/v1"}}
models:
  {busy}:
    endpoints:
      - {{provider: one, model: large, pricing: {{prompt: 1, completion: 1}}, supported_parameters: [tools, seed]}}
      - {{provider: two, model: large, pricing: {{prompt: 2, completion: 2}}}}
  busy/small: {{endpoints: [{{provider: one, model: small, pricing: {{prompt: 1, completion: 1}}}}]}}
  calm/large:
    endpoints:
      - {{provider: {quiet}, model: large, pricing: {{prompt: 1, completion: 1}}}}
      - {{provider: dear, model: large, pricing: {{prompt: 50, completion: 50}}}}
"""


@dataclass
class Story:
    """What happened: answers by status, and everything that was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def judge(self, answer: Answer, where: str) -> None:
        self.statuses[answer.status] += 1
        self.wrong += [f"{where}: {fault}" for fault in faults(answer)]


@dataclass(frozen=True)
class Daemon:
    """The process under test."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def memory(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def ask(self, path: str) -> dict[str, object]:
        """Read one good answer. Raises: OSError."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            said: dict[str, object] = json.load(answer)
        return said


@contextmanager
def running(folder: Path) -> Iterator[Daemon]:
    """Run a daemon, and see it end in order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, log = folder / "balancer.yaml", folder / "log"
    config.write_text(CONFIG.format(folder=folder, port=port, busy=BUSY, quiet=QUIET))
    argv = (sys.executable, "-m", "balancer", "run", "-c", str(config))
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, env={**os.environ, "FUZZER": TOKEN})
    daemon = Daemon(port, process, log)
    try:
        until = time.monotonic() + READY_MAX
        while True:
            with suppress(OSError):
                daemon.ask("/-/ready")
                break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the daemon is not ready: {log.read_text()}")
            time.sleep(0.05)
        yield daemon
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)


async def heard(port: int, pieces: list[bytes]) -> bytes:
    """Say something, and hear everything that is answered until nothing comes any more. Raises: TimeoutError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told = b""
    with suppress(ConnectionError):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(SILENCE):
                        piece = await reader.read(65_536)
                    if not piece:
                        break
                    told += piece
            if not reader.at_eof():
                writer.write_eof()
                async with asyncio.timeout(PATIENCE):
                    told += await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    return told


async def raw(daemon: Daemon, story: Story, numbers: Iterator[int], seed: int) -> None:
    """One client after the other, as long as there are numbers."""
    for number in numbers:
        said = conversation(seed, number)
        where = f"seed {seed}, conversation {number} ({said.kind})"
        try:
            for answer in answers(await heard(daemon.port, said.pieces)):
                story.judge(answer, where)
        except TimeoutError:
            story.wrong.append(f"{where}: the connection stays open for a client that hung up")
        except (ValueError, OSError) as problem:
            story.wrong.append(f"{where}: {problem!r}")


async def flood(daemon: Daemon, story: Story, numbers: range, seed: int) -> None:
    """All raw conversations of a range, some at a time."""
    rest = iter(numbers)
    async with asyncio.TaskGroup() as tasks:
        for client in range(CLIENTS):
            tasks.create_task(raw(daemon, story, rest, seed), name=f"client {client}")


def shaped(daemon: Daemon, story: Story, requests: int, first: int) -> int:
    """Send what schemathesis makes of the document; tell how many."""
    schema = schemathesis.openapi.from_dict(daemon.ask("/openapi.json"))
    operations = [each.ok() for each in schema.get_all_operations()]
    operations = [each for each in operations if each.path != "/v1/events"]
    held = checks.CHECKS.get_by_names(CHECKS)
    open_ended = [each for each in operations if len([*each.iter_parameters()]) or len(each.body)]
    sent = 0

    def send(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        response = case.call(
            base_url=f"http://127.0.0.1:{daemon.port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE,
        )
        headers = {name.lower(): value[0] for name, value in response.headers.items()}
        where = f"schemathesis, seed {first}: {case.as_curl_command()[:600]}"
        story.judge(Answer(response.status_code, headers, response.content, whole=True), where)
        try:
            case.validate_response(response, checks=held)
        except FailureGroup as group:
            story.wrong += [f"{where}: {each}" for each in group.exceptions]

    for operation in operations:
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and operation not in open_ended:
                continue  # there is nothing that could be wrong
            share = requests // (2 * len(open_ended)) if operation in open_ended else 1
            settled = settings(
                max_examples=max(1, share), database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            seed(first)(settled(given(case=operation.as_strategy(generation_mode=mode))(send)))()
    return sent


def aftermath(daemon: Daemon, story: Story) -> None:
    """What must be as it was."""
    if daemon.process.poll() is not None:
        story.wrong.append(f"the daemon ended with {daemon.process.returncode}")
        return
    decision = daemon.ask("/v1/best-provider?model=calm/large")
    selected = decision["selected"]
    assert isinstance(selected, dict)
    if selected["provider"] != QUIET:
        story.wrong.append(f"the decision afterwards is wrong: {selected}")
    if daemon.ask("/-/healthy")["healthy"] is not True:
        story.wrong.append("the daemon is not healthy afterwards")


def complaints(log: Path) -> list[str]:
    """Lines of the log that should not be there."""
    lines = log.read_text(errors="replace").splitlines()
    wrong = [f"the log says: {line[:2000]}" for line in lines if "Traceback" in line or ".crashed" in line]
    wrong += [f"no line of ours: {line[:500]}" for line in lines if not line.startswith("{")]
    return wrong + [f"the log tells the token: {line[:200]}" for line in lines if TOKEN in line]


def main() -> int:
    """Do it all, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send the raw conversation of this number and print it")
    asked = parser.parse_args()
    story = Story()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as daemon:
        if asked.only is not None:
            said = conversation(asked.seed, asked.only)
            print(said.kind, *said.pieces, asyncio.run(heard(daemon.port, said.pieces)), sep="\n")
            asyncio.run(flood(daemon, story, range(asked.only, asked.only + 1), asked.seed))
            print(*story.wrong, daemon.log.read_text(), sep="\n")
            return 1 if story.wrong else 0
        share = round(asked.requests * SHAPED)
        warm = round((asked.requests - share) * WARM)
        asyncio.run(flood(daemon, story, range(warm), asked.seed))
        sent = shaped(daemon, story, share, asked.seed)
        before = daemon.memory()
        asyncio.run(flood(daemon, story, range(warm, asked.requests - sent), asked.seed))
        growth = daemon.memory() - before
        aftermath(daemon, story)
        if growth > GROWTH_MAX:
            story.wrong.append(f"memory grew by {growth:.1f} MiB, from {before:.1f}")
        story.wrong += complaints(daemon.log)
        size = daemon.log.stat().st_size
    print(
        f"{asked.requests} requests in {time.monotonic() - began:.0f} s, seed {asked.seed}; {sent} of schemathesis"
    )
    print("answers:", ", ".join(f"{status}: {count}" for status, count in sorted(story.statuses.items())))
    print(f"memory: {before:.1f} MiB, then {growth:+.1f}; log: {size / 1024:.0f} KiB")
    for fault in story.wrong[:20]:
        print(fault)
    print(f"WRONG: {len(story.wrong)}" if story.wrong else "good: nothing was wrong")
    return 1 if story.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
