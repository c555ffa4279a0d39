"""Every verb against a real daemon, and every way of holding it wrong."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest

from balancer.cli import VERBS

ROOT = Path(__file__).parents[2]


async def test_help_names_every_verb(command):
    ran = await command("--help")
    assert ran.status == 0
    assert all(f"    {verb}" in ran.out for verb in VERBS)


async def test_no_verb_is_wrong_use(command):
    ran = await command()
    assert ran.status == 2
    assert "usage: balancer" in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ("explode",),
        ("best",),
        ("status", "--colour"),
        ("demo", "--for", "soon"),
        ("demo", "--for", "1s"),
        ("best", "m", "--prompt-tokens", "many"),
        ("drain",),
        ("probe",),
        ("probe", "--all", "acme/large@down"),
    ],
)
async def test_wrong_use_is_status_2_and_no_traceback(command, words):
    ran = await command(*words)
    assert ran.status == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err != ""


async def test_the_version_is_the_packages(command):
    from balancer import __version__

    assert (await command("--version")).out == f"balancer {__version__}\n"


# ---- check, schema --------------------------------------------------------------------------------------


async def test_a_good_file_is_one_line(command, config, tmp_path):
    (tmp_path / "balancer.yaml").write_text(config)
    ran = await command("check")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        "balancer.yaml: good; 1 model, 2 endpoints at 2 providers; "
        "1 endpoint cannot be used here: SOME_API_KEY is not set\n"
    )


async def test_every_problem_has_its_line(command, config, tmp_path):
    (tmp_path / "b.yaml").write_text(config.replace("provider: down", "provider: dawn").replace("aliases", "alias"))
    ran = await command("check", "-c", "b.yaml")
    assert ran.status == 1
    lines = ran.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("b.yaml:6: models.acme/large.alias: unknown key; did you mean aliases?")
    assert lines[1].startswith("b.yaml:8: models.acme/large.endpoints[0].provider: ")
    assert "down" in lines[1]
    as_json = json.loads((await command("check", "-c", "b.yaml", "--json")).out)
    assert not as_json["good"]
    assert [each["line"] for each in as_json["problems"]] == [6, 8]


async def test_a_missing_file_says_so(command):
    ran = await command("check", "-c", "nowhere.yaml")
    assert ran.status == 1
    assert "nowhere.yaml" in ran.out
    assert "Traceback" not in ran.err


async def test_the_schema_is_json(command):
    ran = await command("schema")
    assert ran.status == 0
    assert json.loads(ran.out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


async def test_the_shipped_file_is_good_without_any_key(command):
    ran = await command("check", "-c", str(ROOT / "balancer.yaml"))
    assert ran.status == 0
    assert "OPENAI_API_KEY is not set" in ran.out


# ---- a daemon that is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("status",), ("best", "m"), ("drain", "t"), ("resume", "t"), ("reload",), ("status", "--watch")]
)
async def test_a_daemon_that_is_not_there_is_one_clear_line(command, words, free_port):
    url = f"http://127.0.0.1:{free_port()}"
    ran = await command(*words, "--url", url)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"balancer: no daemon answers at {url} (Connection refused)\n"
    as_json = await command(*words, "--url", url, "--json")
    assert "no daemon answers" in json.loads(as_json.out)["error"]["message"]


async def test_an_address_that_is_none_is_said(command):
    ran = await command("status", "--url", "ftp://somewhere")
    assert ran.status == 1
    assert "use http://HOST:PORT or unix:/PATH" in ran.err


# ---- with a daemon ------------------------------------------------------------------------------------------


async def test_the_daemon_is_found_by_flag_environment_and_configuration(command, daemon, config, tmp_path):
    running = await daemon(config)
    port = running.url.rpartition(":")[2]
    (tmp_path / "balancer.yaml").write_text(f"listen: 127.0.0.1:{port}\n{config}")
    for words, environ in (
        (("--url", running.url), {}),
        ((), {"BALANCER_URL": running.url}),
        ((), {}),
    ):
        ran = await command("status", *words, environ=environ)
        assert (ran.status, ran.err) == (0, "")
        assert ran.out.startswith("acme/large   1 of 2 eligible\n")


async def test_status_lines_up_and_tells_why(command, daemon, config):
    running = await daemon(config)
    ran = await command("status", "large", "--url", running.url)
    header, first, second = ran.out.splitlines()[1:]
    assert header.split() == ["ENDPOINT", "STATE", "ERRORS", "5m", "TTFT", "p50", "PICKS", "WHY"]
    assert {line.index(word) for line, word in ((header, "WHY"), (first, "no evidence"), (second, "SOME_"))} == {
        header.index("WHY")
    }
    assert "SOME_API_KEY is not set" in second
    ids = [
        each["id"]
        for each in json.loads((await command("status", "--json", "--url", running.url)).out)["endpoints"]
    ]
    assert ids == ["acme/large@down", "acme/large@keyed"]


async def test_best_shows_the_choice_leases_nothing_and_explains(command, daemon, config):
    running = await daemon(config)
    ran = await command("best", "large", "--explain", "--url", running.url)
    assert ran.status == 0
    assert ran.out.splitlines()[0] == "acme/large   adaptive"
    assert "SOME_API_KEY is not set" in ran.out
    assert "100.0 %" in ran.out
    answer = json.loads((await command("best", "large", "--json", "--url", running.url)).out)
    assert answer["selected"]["id"] == "acme/large@down"
    assert "explain" not in answer
    picks = json.loads((await command("status", "--json", "--url", running.url)).out)["endpoints"][0]["selections"]
    assert picks == 0


async def test_best_refuses_with_the_daemons_words_and_still_explains(command, daemon, config):
    running = await daemon(config)
    ran = await command("best", "larg", "--url", running.url)
    assert (ran.status, ran.out) == (1, "")
    assert "did you mean" in ran.err
    ran = await command("best", "large", "--only", "keyed", "--explain", "--url", running.url)
    assert ran.status == 1
    assert "SOME_API_KEY is not set" in ran.err
    assert "filtered: allowed_providers" in ran.out


async def test_drain_and_resume(command, daemon, config):
    running = await daemon(config)
    ran = await command("drain", "down", "--for", "10m", "--reason", "maintenance", "--url", running.url)
    assert (ran.status, ran.out) == (0, "drained acme/large@down\n")
    status = await command("status", "--url", running.url)
    assert "maintenance; drain ends in 10 min" in status.out
    assert (await command("best", "large", "--url", running.url)).status == 1
    ran = await command("resume", "down", "--url", running.url)
    assert (ran.status, ran.out) == (0, "resumed acme/large@down\n")
    assert (await command("resume", "down", "--url", running.url)).out == "nothing to be resumed\n"
    assert (await command("best", "large", "--url", running.url)).status == 0
    for words in (("drain", "nobody"), ("drain", "down", "--for", "later")):
        ran = await command(*words, "--url", running.url)
        assert ran.status == 1
        assert ran.err.startswith("balancer: ")


async def test_reload_takes_a_good_file_and_refuses_a_bad_one_whole(command, daemon, config, tmp_path):
    running = await daemon(config)
    path = next(tmp_path.glob("balancer-*.yaml"))
    good = path.read_text()
    path.write_text(good.replace("[large]", "[large, big]"))
    ran = await command("reload", "--url", running.url)
    assert (ran.status, ran.out) == (0, "reloaded; generation 2\n")
    assert (await command("best", "big", "--url", running.url)).status == 0
    path.write_text(good.replace("model: large", "modle: large", 1).replace("prompt: 1", "prompt: -1"))
    ran = await command("reload", "--url", running.url)
    assert ran.status == 1
    assert "did you mean model?" in ran.out
    assert len(ran.out.splitlines()) >= 3
    assert (await command("best", "big", "--url", running.url)).status == 0


async def test_a_token_is_asked_for_and_taken_from_the_environment(command, daemon, config):
    secured = f"auth: {{tokens: [{{name: ops, scopes: [admin], token: {{env: OPS_SECRET}}}}]}}\n{config}"
    running = await daemon(secured, environ={"OPS_SECRET": "s3cret"})
    ran = await command("status", "--url", running.url)
    assert ran.status == 1
    assert "s3cret" not in ran.err
    assert (await command("status", "--url", running.url, environ={"BALANCER_TOKEN": "s3cret"})).status == 0
    assert "s3cret" not in running.log()


async def test_a_unix_socket_serves_the_verbs(command, program, config, tmp_path, free_port):
    port, path = free_port(), tmp_path / "b.sock"
    file = tmp_path / "unix.yaml"
    file.write_text(f'listen: ["127.0.0.1:{port}", "unix:{path}"]\n{config}')
    await program("balancer", f"http://127.0.0.1:{port}", sys.executable, "-m", "balancer", "run", "-c", str(file))
    ran = await command("status", "--url", f"unix:{path}")
    assert (ran.status, ran.err) == (0, "")
    assert "acme/large" in ran.out


# ---- probe ----------------------------------------------------------------------------------------------


async def test_probe_shows_verdict_and_phases_without_a_daemon(command, config, tmp_path):
    (tmp_path / "balancer.yaml").write_text(config.replace(", probe: {kind: none}", ", probe: {kind: tcp}"))
    ran = await command("probe", "--all")
    assert ran.status == 1
    header, down, keyed = ran.out.splitlines()
    assert header.split()[:3] == ["ENDPOINT", "KIND", "VERDICT"]
    assert down.split()[:3] == ["acme/large@down", "tcp", "connect"]
    assert "SOME_API_KEY is not set" in keyed
    answer = json.loads((await command("probe", "acme/large@down", "--json")).out)
    assert answer["probes"][0]["outcome"] == "connect"
    ran = await command("probe", "acme/large@dawn")
    assert ran.status == 2
    assert "did you mean acme/large@down" in ran.err


# ---- pipes, terminals and strangers --------------------------------------------------------------------------


async def through(shell, tmp_path, **environ):
    """Run a line of shell; status and everything that was said."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "BALANCER_URL")}
    process = await asyncio.create_subprocess_shell(
        f"exec 2>&1; {shell}",
        cwd=tmp_path,
        env={**clean, "PY": sys.executable, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        executable="/bin/bash",
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode()


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ('"$PY" -m balancer schema | true; exit ${PIPESTATUS[0]}', 1, ""),
        ('"$PY" -m balancer check | true; exit ${PIPESTATUS[0]}', (0, 1), ""),
        ('"$PY" -m balancer check > /dev/full', 1, "balancer: the output has no room\n"),
        ('"$PY" -m balancer check >&-', 0, ""),
    ],
)
async def test_an_output_that_goes_away_is_no_traceback(shell, status, said, config, tmp_path):
    (tmp_path / "balancer.yaml").write_text(config)
    ended, out = await through(shell, tmp_path)
    assert ended in (status if isinstance(status, tuple) else (status,))
    assert out == said


async def test_a_terminal_that_cannot_show_a_character_still_gets_the_table(command, daemon, config):
    running = await daemon(config)
    ran = await command("status", "--url", running.url, environ={"PYTHONIOENCODING": "ascii"})
    assert (ran.status, ran.err) == (0, "")
    assert "SOME_API_KEY is not set" in ran.out


@pytest.mark.parametrize("words", [("status",), ("best", "m"), ("drain", "t"), ("reload",)])
async def test_a_stranger_at_the_address_is_told_apart(command, words, models_server):
    ran = await command(*words, "--url", models_server)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"balancer: what answers at {models_server} is not a balancer (HTTP ")


@pytest.mark.parametrize("url", ["http://[::1", "http://h:port", "unix:", "http://"])
async def test_no_address_is_a_traceback(command, url):
    ran = await command("status", "--url", url)
    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1


async def test_a_token_that_no_header_may_carry_is_not_repeated(command, free_port):
    url = f"http://127.0.0.1:{free_port()}"
    ran = await command("status", "--url", url, environ={"BALANCER_TOKEN": "s3cr\u00e9t\u20ac"})
    assert ran.err == "balancer: BALANCER_TOKEN holds a character that no HTTP header may have\n"
    ran = await command("status", "--url", url, environ={"BALANCER_TOKEN": "s3cret\r\n"})
    assert "s3cret" not in ran.err
    assert "no daemon answers" in ran.err


async def test_the_address_is_read_from_a_file_whose_secrets_are_the_daemons(command, daemon, config, tmp_path):
    secured = f"auth: {{tokens: [{{name: ops, scopes: [admin], token: {{env: OPS_SECRET}}}}]}}\n{config}"
    running = await daemon(secured, environ={"OPS_SECRET": "s3cret"})
    file = next(tmp_path.glob("balancer-*.yaml"))
    ran = await command("status", "-c", str(file), environ={"BALANCER_TOKEN": "s3cret"})
    assert (ran.status, ran.err) == (0, "")
    assert running.process.returncode is None


async def test_an_operators_words_cannot_move_another_operators_cursor(command, daemon, config):
    running = await daemon(config)
    ran = await command("drain", "down", "--reason", "x\x1b[2Jy", "--url", running.url)
    assert ran.status == 1
    assert "reason" in ran.err


async def test_watching_redraws_within_the_window_and_outlives_the_daemon(daemon, config, tmp_path):
    running = await daemon(config)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 60, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "balancer", "status", "--watch", "--url", running.url,
        stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, env={**os.environ, "COLUMNS": ""},
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    seen = ""

    async def shows(text):
        nonlocal seen
        async with asyncio.timeout(20):
            while text not in seen:
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(master, 65536).decode()
                await asyncio.sleep(0.02)

    await shows("more lines; name a model")
    assert await running.stop() == 0
    await shows("no daemon answers at")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    os.close(master)
