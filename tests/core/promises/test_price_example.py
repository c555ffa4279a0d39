"""OpenRouter's worked example of its classic strategy, through the public door from a file of configuration.

Three providers: A at $1 and healthy, B at $2 with an outage in the last 30 s, C at $3 and healthy. A is nine times
likelier than C to be first (1/1² against 1/3²), and B is last.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from balancer import Balancer, Decision, Outcome, Request, load_config

DRAWS = 100_000  # the share's standard error is then 0.00095
COMPARED = 1000  # answers of the sequence that two processes compare

A, B, C = (f"author/slug@{name}" for name in "abc")

CONFIGURATION = """
providers:
  a: {base_url: "https://a.example/v1"}
  b: {base_url: "https://b.example/v1"}
  c: {base_url: "https://c.example/v1"}
models:
  author/slug:
    endpoints:
      - {provider: a, model: slug, pricing: {prompt: 1, completion: 1}}
      - {provider: b, model: slug, pricing: {prompt: 2, completion: 2}}
      - {provider: c, model: slug, pricing: {prompt: 3, completion: 3}}
routing: {strategy: price}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "balancer.yaml"
    file.write_text(CONFIGURATION)
    return file


def outage(path: Path, seed: int) -> Balancer:
    """All three have served well; then B failed twice, a moment ago."""
    table = Balancer(load_config(path), seed=seed, now=0.0)
    for moment in range(20):
        for each in (A, B, C):
            table.record(each, Outcome(kind="success"), now=float(moment))
    for moment in (100.0, 100.5):
        table.record(B, Outcome(kind="server_error", status=500), now=moment)
    return table


def decisions(path: Path, seed: int, count: int) -> Iterator[Decision]:
    table = outage(path, seed)
    for _ in range(count):
        yield table.best(Request(model="author/slug"), now=101.0)


def ids(decision: Decision) -> list[str]:
    return [decision.selected.id, *(each.id for each in decision.fallbacks)]


def digest(path: Path, seed: int) -> str:
    """The first answers of one seed in a few letters."""
    told = [f"{each.id} {' '.join(ids(each))}\n" for each in decisions(path, seed, COMPARED)]
    return sha256("".join(told).encode()).hexdigest()


def elsewhere(path: Path, seed: int, hashes: str) -> str:
    """The same from another process, in which sets and dictionaries may be in another order."""
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_the_cheapest_is_first_nine_times_in_ten_and_the_one_with_an_outage_always_last(path: Path) -> None:
    firsts: Counter[str] = Counter()
    for decision in decisions(path, 7, DRAWS):
        first, _, last = ids(decision)
        assert last == B
        firsts[first] += 1
    assert firsts[B] == 0
    assert firsts[A] / DRAWS == pytest.approx(0.900, abs=0.003)


def test_explain_tells_these_shares_before_anything_is_drawn(path: Path) -> None:
    lines = outage(path, 7).best(Request(model="author/slug"), now=101.0, explain=True).considered
    shares = {line.id: line.share for line in lines}
    assert shares == {A: pytest.approx(0.9), B: 0.0, C: pytest.approx(0.1)}


def test_when_the_outage_is_older_than_30_s_all_three_are_in_the_lottery(path: Path) -> None:
    lines = outage(path, 7).best(Request(model="author/slug"), now=131.5, explain=True).considered
    shares = {line.id: line.share for line in lines}
    # The classic would weigh it by its price alone. Ours by its chance of success, too, and three calls failed.
    assert shares == {A: pytest.approx(0.9), B: pytest.approx(0.0, abs=1e-6), C: pytest.approx(0.1)}
    assert shares[B] > 0
    lines = outage(path, 7).best(Request(model="author/slug"), now=2 * 86_400.0, explain=True).considered
    weights = [1.0, 1 / 4, 1 / 9]
    assert [line.share for line in lines] == pytest.approx([each / sum(weights) for each in weights], rel=0.15)


def test_the_same_seed_gives_the_same_answers_in_another_process(path: Path) -> None:
    here = digest(path, 7)
    assert elsewhere(path, 7, "0") == here
    assert elsewhere(path, 7, "4242") == here
    assert digest(path, 8) != here


if __name__ == "__main__":
    print(digest(Path(sys.argv[1]), int(sys.argv[2])))
