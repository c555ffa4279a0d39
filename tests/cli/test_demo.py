"""The words of `balancer demo`; the demo itself is tried in tests/demo."""

import pytest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--port", "99999"), "'99999' is no port; use 0 (any free one) to 65535"),
        (("--port", "-1"), "'-1' is no port"),
        (("--port", "http"), "'http' is no port"),
        (("--for", "19s"), "use 20s to 10m, such as 60s or 1m30s"),
        (("--for", "11m"), "use 20s to 10m, such as 60s or 1m30s"),
        (("--for", ""), "is no time for a demo"),
        (("--seed", "lucky"), "invalid int value"),
    ],
)
async def test_wrong_options_are_told_at_once(command, words, told):
    ran = await command("demo", *words)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.err
    assert "Traceback" not in ran.err


async def test_a_port_in_use_is_one_line(command, daemon, config):
    running = await daemon(config)
    port = running.url.rpartition(":")[2]
    ran = await command("demo", "--port", port)
    assert ran.status == 1
    assert ran.err.splitlines()[-1].startswith(f"balancer demo: cannot listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in ran.err
