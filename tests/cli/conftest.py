"""The command as a stranger runs it: a process, its output and its exit status."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path):
    """Run `balancer` with these words, in an empty folder unless told otherwise."""

    async def run(*words, environ=None, cwd=tmp_path):
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("BALANCER_") and not key.endswith(("_API_KEY", "_TOKEN"))
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "balancer",
            *words,
            cwd=cwd,
            env={**clean, "COLUMNS": "100", **({} if environ is None else environ)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), 60)
        except TimeoutError:
            process.kill()
            await process.communicate()
            pytest.fail(f"balancer {' '.join(words)} did not end")
        return Ran(process.returncode, out.decode(), err.decode())

    return run


CONFIG = """\
providers:
  down: {base_url: "http://127.0.0.1:9/v1"}
  keyed: {base_url: "http://127.0.0.1:9/v1", credential: {env: SOME_API_KEY}}
models:
  acme/large:
    aliases: [large]
    endpoints:
      - {provider: down, model: large, pricing: {prompt: 1, completion: 2}, probe: {kind: none}}
      - {provider: keyed, model: large, pricing: {prompt: 1, completion: 2}}
"""


@pytest.fixture
def config():
    return CONFIG
