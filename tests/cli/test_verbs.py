"""Every verb against a real daemon, and every way of holding it wrong."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from pathlib import Path

import aiohttp
import pytest

from balancer.cli import VERBS
from balancer.cli.status import doubted

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
        ("status", "--since", "1h", "--watch"),
        ("demo", "--for", "soon"),
        ("demo", "--for", "1s"),
        ("best", "m", "--prompt-tokens", "many"),
        ("best", "m", "--sort", "prize"),
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
    fragment = json.loads((await command("schema", "--fragment")).out)
    assert ("required" in json.loads(ran.out), "required" in fragment) == (True, False)


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


async def test_status_says_where_health_is_only_watched(command, daemon, config):
    running = await daemon(config + "health: {enforce: false}\n")
    failures = {"reports": [{"endpoint": "acme/large@down", "error": "connect"}] * 12}
    async with aiohttp.ClientSession() as client, client.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    ran = await command("status", "large", "--url", running.url)
    title, _, first, second = ran.out.splitlines()
    assert title == "acme/large   1 of 2 eligible; health is only watched"
    assert re.search(r" ejected .* only watched: \d+ failures in a row \(connect\); trial in ", first) is not None
    assert "only watched" not in second  # a key that is missing rules it out whatever health may choose


async def test_status_says_a_panic_for_as_long_as_it_lasts(command, daemon, config):
    running = await daemon(config)
    failures = {"reports": [{"endpoint": "acme/large@down", "error": "connect"}] * 12}
    async with aiohttp.ClientSession() as client, client.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 12
    ran = await command("status", "--url", running.url)
    title = ran.out.splitlines()[0]
    assert title == "acme/large   0 of 2 eligible; panic: health leaves none, so the ejected are tried"
    assert (await command("drain", "down", "--url", running.url)).status == 0
    ran = await command("status", "large", "--url", running.url)
    assert ran.out.splitlines()[0] == "acme/large   0 of 2 eligible"


async def test_status_says_first_who_is_in_doubt_and_why(command, daemon):
    places = "".join(
        f"      - {{provider: {name}, model: large, probe: {{kind: none}}}}\n" for name in ("a", "b", "c")
    )
    hosts = "".join(f"  {name}: {{base_url: 'http://127.0.0.1:{port}/v1'}}\n" for port, name in enumerate("abc", 9))
    running = await daemon(f"providers:\n{hosts}models:\n  acme/large:\n    endpoints:\n{places}")
    before = await command("status", "--url", running.url)
    assert before.out.startswith("acme/large   3 of 3 eligible\n")
    failures = {"reports": [{"endpoint": f"acme/large@{name}", "error": "connect"} for name in "abcab"]}
    async with aiohttp.ClientSession() as client, client.post(f"{running.url}/v1/reports", json=failures) as answer:
        assert (await answer.json())["recorded"] == 5
    ran = await command("status", "--url", running.url)
    assert ran.out.splitlines()[:3] == [
        "reporter anonymous is in doubt: 5 calls in a row got no answer, at 3 unrelated providers (connect)",
        "",
        "acme/large   3 of 3 eligible",
    ]


@pytest.mark.parametrize(
    ("ready", "told"),
    [
        ({"ready": True}, []),
        ({"self_suspect_reason": None, "reporters_suspect_reasons": {}}, []),
        ({"self_suspect_reason": "no route"}, ["the daemon itself is in doubt: no route"]),
        (
            {"self_suspect_reason": "no route", "reporters_suspect_reasons": {"one": "no answer"}},
            ["the daemon itself is in doubt: no route\nreporter one is in doubt: no answer"],
        ),
        ({"store_trouble_reasons": {}}, []),
        (
            {
                "reporters_suspect_reasons": {"one": "no answer"},
                "store_trouble_reasons": {"state": "it is not read yet", "history": "it is not written"},
            },
            ["reporter one is in doubt: no answer\nthe disk: it is not read yet\nthe disk: it is not written"],
        ),
    ],
)
def test_who_is_in_doubt_and_what_is_wrong_with_the_disk_is_a_line_each_and_nothing_is_none(ready, told):
    assert doubted(ready) == told


async def test_best_shows_the_choice_and_leases_nothing(command, daemon, config):
    running = await daemon(config)
    ran = await command("best", "large", "--url", running.url)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "acme/large   adaptive",
        "      ENDPOINT   STATE        BASE URL",
        "now   down       unverified   http://127.0.0.1:9/v1",
    ]
    answer = json.loads((await command("best", "large", "--json", "--url", running.url)).out)
    assert answer["selected"]["id"] == "acme/large@down"
    assert "explain" not in answer
    picks = json.loads((await command("status", "--json", "--url", running.url)).out)["endpoints"][0]["selections"]
    assert picks == 0


WIDE = """\
probe: {kind: none}
providers:
  openai: {base_url: "http://127.0.0.1:9/v1"}
  azure: {base_url: "http://127.0.0.1:9/v1", variants: {eastus2: {region: us}}}
  keyed: {base_url: "http://127.0.0.1:9/v1", credential: {env: SOME_API_KEY}}
models:
  openai/gpt-4.1:
    aliases: [gpt-4.1]
    endpoints:
      - {provider: openai, model: gpt-4.1, pricing: {prompt: 2, completion: 8}, supported_parameters: [tools]}
      - {provider: azure/eastus2, model: gpt-4.1, pricing: {prompt: 3, completion: 12}}
      - {provider: keyed, model: gpt-4.1, pricing: {prompt: 1, completion: 2}}
  meta-llama/llama-3.3-70b-instruct:
    aliases: [llama]
    endpoints:
      - {provider: azure, model: llama, pricing: {prompt: 0.3, completion: 0.5}}
"""


def story(out):
    """The labelled lines of an explanation by label, and the table's lines."""
    head, _, body = out.partition("\n\n")
    said, label = {}, ""
    for line in head.splitlines():
        label = line[:10].strip() or label  # a line without one goes on with the line before
        said[label] = f"{said.get(label, '')} {line[10:]}".strip()
    return said, body.splitlines()


async def test_best_explains_as_one_would_in_a_ticket(command, daemon):
    running = await daemon(WIDE)
    words = ("--prompt-tokens", "12000", "--require", "tools,seed", "--order", "openai", "--session", "s 1")
    ran = await command("best", "gpt-4.1", *words, "--explain", "--url", running.url)
    assert (ran.status, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 100
    said, lines = story(ran.out)
    assert said == {
        "asked": 'model=gpt-4.1 prompt_tokens=12000 require=tools,seed session_id="s 1" order=openai',
        "answer": "openai of openai/gpt-4.1, unverified, strategy adaptive",
        "call": "gpt-4.1 at http://127.0.0.1:9/v1 (openai), without a key",
        "timeouts": said["timeouts"],
        "facts": (
            "no evidence yet, valid for 5.0 s, 0.0 % of the last minute's requests are retries, configuration 1"
        ),
    }
    assert said["timeouts"].startswith("connect 2.0 s, first token ")
    assert lines[0].split() == ["#", "ENDPOINT", "STATE", "SCORE", "WEIGHT", "SHARE", "WHY"]
    assert [line[:20].split() for line in lines if line[:20].strip()] == [
        ["#", "ENDPOINT"],
        ["1", "openai"],
        ["2", "azure/eastus2"],
        ["keyed"],
    ]
    at = lines[0].index("WHY")
    assert lines[1][at:].startswith("price 1.00")
    assert "100.0 %" in lines[1]
    assert lines[-1][at:] == "SOME_API_KEY is not set"


async def test_best_explains_every_endpoint_of_every_asked_model_in_one_table(command, daemon):
    running = await daemon(WIDE)
    words = ("best", "gpt-4.1", "--models", "llama", "--explain", "--url", running.url)
    narrow = await command(*words)
    assert max(map(len, narrow.out.splitlines())) <= 100
    said, lines = story(narrow.out)
    assert said["asked"] == "model=gpt-4.1 models=llama"
    assert lines[0].split() == ["#", "ENDPOINT", "MODEL", "STATE", "SCORE", "WEIGHT", "SHARE"]
    assert lines[1].split()[:3] == ["1", "openai", "openai/gpt-4.1"]
    assert lines[2].startswith("    price ")  # too narrow: the reason stands below
    assert "a fallback model" in lines[6]
    assert [line.split()[0] for line in lines[1::2]] == ["1", "2", "3", "keyed"]
    wide = await command(*words, environ={"COLUMNS": "140"})
    header, *rows = story(wide.out)[1]
    assert max(map(len, wide.out.splitlines())) <= 140
    assert header.endswith("   WHY")
    assert [row.split()[0] for row in rows if row[:30].strip()] == ["1", "2", "3", "keyed"]
    short = await command(*words[:4], *words[5:])
    assert "then 2   meta-llama/llama-3.3-70b-instruct@azure" in short.out


async def test_best_tells_a_session_a_panic_and_a_spent_budget(command, daemon):
    running = await daemon(WIDE)
    async with aiohttp.ClientSession() as http:

        async def ask(**query):
            async with http.get(f"{running.url}/v1/best-provider", params={"model": "gpt-4.1", **query}) as answer:
                assert answer.status == 200

        await ask(session_id="s", only="azure/eastus2")
        for _ in range(15):
            await ask(exclude="openai")
        ran = await command("best", "gpt-4.1", "--session", "s", "--explain", "--url", running.url)
        said, lines = story(ran.out)
        assert said["answer"] == (
            "azure/eastus2 of openai/gpt-4.1, unverified, strategy adaptive, STICKY, RETRY BUDGET EXHAUSTED"
        )
        assert "93.8 % of the last minute's requests are retries" in said["facts"]
        assert "the session's own" in lines[1]
        for tag in ("openai", "azure/eastus2"):
            reports = {"reports": [{"endpoint": f"openai/gpt-4.1@{tag}", "status": 500}] * 5}
            async with http.post(f"{running.url}/v1/reports", json=reports) as answer:
                assert answer.status == 200
    ran = await command("best", "gpt-4.1", "--url", running.url)
    assert ran.out.splitlines()[0] == "openai/gpt-4.1   adaptive   PANIC   RETRY BUDGET EXHAUSTED"
    ran = await command("best", "gpt-4.1", "--explain", "--url", running.url)
    assert "ejected, strategy adaptive, PANIC" in story(ran.out)[0]["answer"]
    assert "5 failures in a row (500); trial in" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (("--sort", "price"), "sort=price"),
        (("--order", "azure,openai"), "order=azure,openai"),
        (("--ignore", "azure", "--max-tokens", "9"), "max_tokens=9 ignore=azure"),
        (("--exclude", "openai"), "exclude=openai"),
    ],
)
async def test_every_wish_of_best_reaches_the_daemon(command, daemon, words, query):
    running = await daemon(WIDE)
    ran = await command("best", "gpt-4.1", *words, "--explain", "--url", running.url)
    assert story(ran.out)[0]["asked"] == f"model=gpt-4.1 {query}"


async def test_best_refuses_with_the_daemons_words(command, daemon, config):
    running = await daemon(config)
    ran = await command("best", "larg", "--url", running.url)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "balancer: no model 'larg'; did you mean large?",
        "code      model_not_found",
        "close     large",
        "retryable no",
    ]
    ran = await command("best", "large", "--only", "nobody", "--url", running.url)
    assert (ran.status, ran.out) == (1, "")
    assert "because   provider.only: rules out 2 of 2 endpoints; there is down, keyed" in ran.err
    ran = await command("best", "large", "--only", "nobody", "--json", "--url", running.url)
    error = json.loads(ran.out)["error"]
    assert (ran.status, error["availability"]["code"]) == (1, "constraint_filtered")
    assert "explain" not in error["metadata"]
    ran = await command("best", "x" * 300, "--explain", "--url", running.url)
    assert (ran.status, ran.out) == (1, "")
    assert "300 characters; 200 are allowed" in ran.err


async def test_best_explains_a_refusal_as_one_would_in_a_ticket(command, daemon, config):
    running = await daemon(config)
    words = ("best", "large", "--explain", "--url", running.url)
    ran = await command(*words, "--only", "keyed")
    assert (ran.status, ran.err) == (1, "")
    said, lines = story(ran.out)
    assert said == {
        "asked": "model=large only=keyed",
        "refused": (
            "503 unavailable: no endpoint of acme/large can be called: acme/large@keyed: SOME_API_KEY is not set"
        ),
        "excluded": "by misconfigured",
        "retryable": "no",
    }
    assert lines[1].endswith("filtered: allowed_providers")
    assert lines[2].endswith("SOME_API_KEY is not set")
    report = {"endpoint": "acme/large@down", "status": 429, "retry_after": 50}
    async with aiohttp.ClientSession() as http, http.post(f"{running.url}/v1/reports", json=report) as answer:
        assert answer.status == 200
    said, lines = story((await command(*words)).out)
    refused = "every usable endpoint of acme/large that passes the request's filters is rate limited"
    assert said["refused"].startswith(f"429 capacity_exhausted: {refused}; the first hold ends in ")
    assert said["retryable"].startswith("in ")
    assert "hold ends in" in " ".join(lines)
    as_json = json.loads((await command(*words, "--json")).out)["error"]
    assert len(as_json["metadata"]["explain"]["considered"]) == 2


async def test_drain_and_resume(command, daemon, config):
    running = await daemon(config)
    ran = await command("drain", "down", "--for", "10m", "--reason", "maintenance", "--url", running.url)
    assert (ran.status, ran.out) == (0, "drained acme/large@down\n")
    status = await command("status", "--url", running.url)
    assert "maintenance; drain ends in 10 min" in status.out
    assert (await command("best", "large", "--url", running.url)).status == 1
    ran = await command("resume", "down", "--reason", "it is mended", "--url", running.url)
    assert (ran.status, ran.out) == (0, "resumed acme/large@down\n")
    assert (await running.told("operator.acted", count=2))[1]["reason"] == "it is mended"
    assert (await command("resume", "down", "--url", running.url)).out == "nothing to be resumed\n"
    assert (await command("best", "large", "--url", running.url)).status == 0
    for words in (("drain", "nobody"), ("drain", "down", "--for", "later")):
        ran = await command(*words, "--url", running.url)
        assert ran.status == 1
        assert ran.err.startswith("balancer: ")


async def test_a_token_is_asked_for_and_taken_from_the_environment(command, daemon, config):
    secured = f"auth: {{tokens: [{{name: ops, scopes: [admin], token: {{env: OPS_SECRET}}}}]}}\n{config}"
    running = await daemon(secured, environ={"OPS_SECRET": "s3cret-of-operators"})
    ran = await command("status", "--url", running.url)
    assert ran.status == 1
    assert "s3cret-of-operators" not in ran.err
    assert (
        await command("status", "--url", running.url, environ={"BALANCER_TOKEN": "s3cret-of-operators"})
    ).status == 0
    assert "s3cret-of-operators" not in running.log()


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
    assert "s3cret-of-operators" not in ran.err
    assert "no daemon answers" in ran.err


async def test_the_address_is_read_from_a_file_whose_secrets_are_the_daemons(command, daemon, config, tmp_path):
    secured = f"auth: {{tokens: [{{name: ops, scopes: [admin], token: {{env: OPS_SECRET}}}}]}}\n{config}"
    running = await daemon(secured, environ={"OPS_SECRET": "s3cret-of-operators"})
    file = next(tmp_path.glob("balancer-*.yaml"))
    ran = await command("status", "-c", str(file), environ={"BALANCER_TOKEN": "s3cret-of-operators"})
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
