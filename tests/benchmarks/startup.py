"""How long the daemon takes to be ready and to end, and how much memory it holds, with the shipped configuration.

Run it: `python tests/benchmarks/startup.py`. Each start is a fresh process with no keys in its environment; the
reference beside each is a fresh Python that imports aiohttp and ends, taken in turn, because a shared machine's
speed drifts. Times are wall seconds from the start of the process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
RUNS = 5
DEADLINE = 30.0  # s


def ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def resident(pid: int) -> float:
    """MB that the process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def start(file: Path, port: int) -> tuple[float, float, float, int]:
    """Seconds to ready, MB, seconds to the end, exit status."""
    clean = {key: value for key, value in os.environ.items() if not key.endswith(("_API_KEY", "_TOKEN"))}
    clean["STATE_DIRECTORY"] = str(file.parent / "state")
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "balancer", "run", "-c", str(file)], env=clean, stderr=subprocess.DEVNULL
    )
    while not ready(port):
        if time.perf_counter() - began > DEADLINE or process.poll() is not None:
            process.kill()
            sys.exit(f"the daemon was not ready within {DEADLINE:g} s")
        time.sleep(0.005)
    up = time.perf_counter() - began
    memory = resident(process.pid)
    asked = time.perf_counter()
    process.terminate()
    status = process.wait(DEADLINE)
    return up, memory, time.perf_counter() - asked, status


def reference() -> float:
    """Seconds of a Python that imports the HTTP library and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import aiohttp.web"], check=True)
    return time.perf_counter() - began


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "balancer.yaml")
        text = (ROOT / "balancer.yaml").read_text()
        file.write_text(text.replace("# listen: 127.0.0.1:8790", f"listen: 127.0.0.1:{port}"))
        start(file, port)  # writes the bytecode; not counted
        runs = [(*start(file, port), reference()) for _ in range(RUNS)]
    print(f"{'run':>6} {'ready s':>8} {'MB':>6} {'end s':>6} {'status':>6} {'import aiohttp s':>17} {'ratio':>6}")
    for number, (up, memory, down, status, bare) in enumerate(runs, start=1):
        print(f"{number:>6} {up:8.2f} {memory:6.1f} {down:6.2f} {status:>6} {bare:17.2f} {up / bare:6.2f}")
    middle = [median(column) for column in zip(*runs, strict=True)]
    up, memory, down, status, bare = middle
    print(f"{'median':>6} {up:8.2f} {memory:6.1f} {down:6.2f} {status:>6.0f} {bare:17.2f} {up / bare:6.2f}")


if __name__ == "__main__":
    main()
