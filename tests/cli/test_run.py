"""The daemon as somebody starts it who leaves it nothing to read from or write to."""

import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
async def test_closed_standard_streams_are_nowhere_and_the_end_is_a_clean_one(
    closed, program, config, free_port, tmp_path
):
    port, file = free_port(), tmp_path / "balancer.yaml"
    file.write_text(f"listen: 127.0.0.1:{port}\n{config}")
    line = f'exec "$0" -m balancer run -c "$1" {closed}'
    running = await program(
        "balancer", f"http://127.0.0.1:{port}", "/bin/sh", "-c", line, sys.executable, str(file)
    )
    for each in closed.split():
        assert Path(f"/proc/{running.process.pid}/fd/{each[0]}").readlink() == Path("/dev/null")
    assert await running.stop() == 0
    assert ("daemon.stopped" in running.log()) is ("2>&-" not in closed)
