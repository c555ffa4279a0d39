"""No secret comes out of the daemon or of `balancer probe`, wherever and however a server echoes it."""

import asyncio
import html
import json
import os
import re
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import aiohttp
import pytest

ROOT = Path(__file__).parents[1]
DEADLINE = 60.0  # s for some hundred probes on a loaded machine

KEY = "sk-proj-Q7/x+9&Zr<w>\"T=4bV0'kk"
ORGANIZATION = "org-Plainly.0123_Secret-ABCdef"  # its letters may also stand in the name of a header
TOKEN = "tok.9f8e7d6c5b4a-Of_A_Url"  # a variable in an address
WINDOW = 10  # characters of a secret in a row that must not be seen; up to 7 at a cut may be

CONTENT = re.compile(r'content\\*": ?\\*"((?:[^"\\]|\\.)*)')  # of a stream's events, and of a log that repeats them

OK = "HTTP/1.1 200 OK\r\n"
JSON = OK + "content-type: application/json\r\n\r\n"
STREAM = OK + "content-type: text/event-stream\r\n\r\n"
ALL = f"{KEY} {ORGANIZATION} {TOKEN}"


def failed(body: str, status: str = "401 No", *headers: str) -> str:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, f"content-length: {len(body.encode())}", "", body])


def events(*data: object) -> str:
    return STREAM + "".join(f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in data)


def delta(**said: object) -> dict[str, object]:
    return {"choices": [{"delta": {"content": "OK"}}], **said}


def said(words: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": words}, "finish_reason": finish}]}


def basic(text: str) -> str:
    return b64encode(f"user:{text}".encode()).decode()


COMPLAINT = {"message": f"bad key {KEY}", "type": KEY, "code": ORGANIZATION, "param": {KEY: [ORGANIZATION]}}
TOOL = {"name": KEY, "arguments": json.dumps({KEY: ORGANIZATION})}

ECHOES = {
    # In the head of an answer.
    "status": failed("", f"500 {ALL}"),
    "bad-status": f"HTTP/1.1 2x {ALL}\r\n\r\n",
    "values": failed("", "500 No", f"x-echo: {ALL}", f"set-cookie: key={quote(KEY)}", f"server: {ORGANIZATION}"),
    "names": failed("", "500 No", f"{ORGANIZATION}: here", f"x-{ORGANIZATION}-y: here"),
    "bad-header": f"{OK}no header {ALL}\r\n\r\n",
    "hello": f"{OK}x-echo: {ALL}\r\ncontent-length: 2\r\n\r\n{{}}",
    "location": failed("", "302 Go", f"location: http://127.0.0.1/{ALL}"),
    "location-query": failed("", "307 Go", f"location: /?key={quote(KEY, safe='')}&org={ORGANIZATION}"),
    "type": f"{OK}content-type: {ALL}\r\n\r\n{ALL}",
    "encoding": f"{OK}content-encoding: {ALL}\r\n\r\n{ALL}",
    "length": f"{OK}content-length: {ALL}\r\n\r\n",
    "transfer": f"{OK}transfer-encoding: {ALL}\r\n\r\n",
    "retry": failed("", "429 Slow", f"retry-after: {KEY}", f"x-ratelimit-reset: {ORGANIZATION}"),
    "hints": f"HTTP/1.1 103 Early\r\nlink: {ALL}\r\n\r\n" + failed(ALL),
    # In a refusal.
    "text": failed(f"you are {ALL}"),
    "html": failed(f"<p>{html.escape(ALL)}</p><a href='?{quote(ALL)}'>", "403 No", "content-type: text/html"),
    "json": failed(json.dumps({"error": COMPLAINT}), "400 No"),
    "json-429": failed(json.dumps({"error": COMPLAINT}), "429 Slow"),
    "php": failed(json.dumps({"error": ALL}).replace("/", "\\/"), "422 No"),
    "go": failed(json.dumps({"error": ALL}).replace("<", "\\u003c").replace("&", "\\u0026"), "500 No"),
    "nested": failed(json.dumps({"error": json.dumps({"error": COMPLAINT})}), "503 No"),
    "letters": failed("".join(f"\\u{ord(letter):04x}" for letter in ALL), "500 No"),
    "url-letters": failed("".join(f"%{ord(letter):02X}" for letter in ALL), "500 No"),
    "basic": failed(f"authorization: Basic {basic(KEY)}, {basic(ORGANIZATION)}"),
    "hexadecimal": failed(f"{KEY.encode().hex()} {ORGANIZATION.encode().hex()}"),
    "capitals": failed(ALL.upper()),
    "far": failed(f"{' ' * 2000}{'far ' * 48}{ALL} {ALL}"),
    "cut": failed(f"the key is {KEY[:-2]}"),
    "cut-in-the-middle": failed(f"Incorrect API key provided: {KEY[:-4]}****. Get one at ****{ORGANIZATION[4:]}"),
    "wrapped": failed(f"bad key {KEY[:14]}\n    {KEY[14:]}, {ORGANIZATION[:9]}\r\n{ORGANIZATION[9:]}"),
    "wrapped-json": failed(json.dumps({"error": f"{KEY[:9]}\n{KEY[9:18]}\n{KEY[18:]}"}), "500 No"),
    "twice-encoded": failed("", "302 Go", f"location: /?key={quote(quote(KEY, safe=''), safe='')}"),
    "sixteen-bits": failed("\0".join(ALL), "500 No"),
    "cut-by-us": failed("x" * (16_384 - len(KEY) + 2) + KEY),
    # In an answer.
    "error": JSON + json.dumps({"error": COMPLAINT}),
    "names-of-models": JSON + json.dumps({"data": [{"id": f"large-{KEY}"}, {"id": f"large {ORGANIZATION}"}]}),
    "no-list": JSON + json.dumps({KEY: ORGANIZATION}),
    "message": JSON + json.dumps({"message": ALL, "data": ALL, "choices": ALL, "content": ALL}),
    "no-json": f"{JSON}{{{ALL}",
    "tool": JSON + json.dumps({"choices": [{"message": {"tool_calls": [{"function": TOOL}]}}]}),
    "tool-use": JSON + json.dumps({"content": [{"type": "tool_use", "name": KEY, "input": {ORGANIZATION: KEY}}]}),
    "tool-model": JSON + json.dumps({"model": ALL, "choices": [], "content": [], "usage": {"prompt_tokens": KEY}}),
    # In a stream.
    "words": events(delta(choices=[{"delta": {"content": ALL}, "finish_reason": "stop"}]), "[DONE]"),
    "model": events(delta(model=ALL), delta(choices=[{"finish_reason": "stop"}]), "[DONE]"),
    "finish": events(delta(), delta(choices=[{"finish_reason": ALL}]), "[DONE]"),
    "usage": events(delta(usage={"prompt_tokens": ALL})),
    "stream-error": events(delta(), {"type": "error", "error": COMPLAINT}),
    "stream-429": events(delta(), {"type": "error", "error": {**COMPLAINT, "code": 429}}),
    "comments": f"{STREAM}: {ALL}\n\nevent: {KEY}\nid: {ORGANIZATION}\ndata: {ALL}\n\n",
    "no-events": events(ALL),
    "start": events({"type": "message_start", "message": {"model": ALL}}, {"type": "message_stop"}),
    "two-events": events(said(KEY[:13]), said(KEY[13:]), said("", "stop"), "[DONE]"),
    "many-events": events(*(said(KEY[at : at + 3]) for at in range(0, len(KEY), 3)), said("", "stop"), "[DONE]"),
    "two-lines": f'{STREAM}data: {{"error": {{"message": "{ORGANIZATION[:14]}\ndata: {ORGANIZATION[14:]}"}}}}\n\n',
    # Below HTTP.
    "banner": f"{ALL}\r\n",
    "bad-chunk": f"{OK}transfer-encoding: chunked\r\n\r\n{ALL}\r\n",
    "trailer": f"{OK}transfer-encoding: chunked\r\n\r\n0\r\nx-echo: {ALL}\r\n{ORGANIZATION}: x\r\n\r\n",
}
SPLIT = "chunks"  # sent in pieces of a few letters, none of which is a secret

KINDS = {
    "models": "kind: models, listed: true",
    "completion": "kind: completion",
    "tools": "kind: tools",
    "json": "kind: http, json: {'$..message': fine}",
    "headers": "kind: http, headers: {x-echo: fine}",
    "body": "kind: http, body: fine, method: POST, send_body: '{}'",
}
DIALECTS = ("openai", "anthropic")


def seen_in(text: str) -> list[str]:
    """Every secret that the text shows, in whichever spelling, also broken or in pieces."""
    small = text.lower()
    views = [small, re.sub(r"\\+n|[\s\0?]", "", small), "".join(CONTENT.findall(small))]
    if "%25" in small:
        views.append(unquote(small))
    secrets = {secret: forms(secret.lower(), secret) for secret in (KEY, ORGANIZATION, TOKEN)}
    return [secret for secret in secrets if any(form in view for form in secrets[secret] for view in views)]


def forms(small: str, secret: str) -> set[str]:
    whole = {
        quote(secret, safe=""),
        html.escape(secret),
        json.dumps(secret)[1:-1].replace("/", "\\/"),
        json.dumps(secret)[1:-1].replace("<", "\\u003c").replace("&", "\\u0026"),
        "".join(f"\\u{ord(letter):04x}" for letter in secret),
        "".join(f"%{ord(letter):02x}" for letter in secret),
        secret.encode().hex(),
        *(b64encode(f"{before}{secret}".encode()).decode()[8:-4] for before in ("", "a", "user:", "Bearer ")),
    }
    parts = {small[start : start + WINDOW] for start in range(len(small) - WINDOW + 1)}
    return {form.lower() for form in whole} | parts


class Parrot:
    """A server that answers as the first part of the path says, and remembers what it was and what it said."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], str] = {}
        self.targets: set[str] = set()
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head)
            await reader.readexactly(0 if length is None else int(length[1]))
            _, echo, dialect, *_ = head.split(" ")[1].split("/")
            for piece in self.pieces(echo):
                writer.write(piece.encode())
                await writer.drain()
            self.told[echo, dialect] = head
            self.targets.add(head.split(" ")[1].rpartition("/")[2])
        writer.close()

    def pieces(self, echo: str) -> list[str]:
        if echo != SPLIT:
            return [ECHOES[echo]]
        parts = [ALL[start : start + 5] for start in range(0, len(ALL), 5)]
        chunked = [f"{len(part):x}\r\n{part}\r\n" for part in parts]
        return ["HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", *chunked, "0\r\n\r\n"]


@pytest.fixture
async def parrot() -> AsyncIterator[Parrot]:
    bird = Parrot()
    async with await asyncio.start_server(bird.answer, "127.0.0.1", 0) as server:
        bird.port = server.sockets[0].getsockname()[1]
        yield bird


def configuration(port: int) -> str:
    """Every kind of probe at every echo in both dialects."""
    doors = [f"{echo}-{dialect}" for echo in (*ECHOES, SPLIT) for dialect in DIALECTS]
    lines = [
        "log: {level: debug, format: json}",
        "probe:",
        "  timeout: 5s",
        "  proxy: false",
        "  url: /?token=${TOKEN_OF_A_TEST}",
        "  send_headers: {x-organization: {env: ORGANIZATION_OF_A_TEST}}",
        "providers:",
    ]
    for door in doors:
        echo, _, dialect = door.rpartition("-")
        url = f"http://127.0.0.1:{port}/{echo}/{dialect}/v1"
        lines.append(f"  {door}: {{base_url: '{url}', api: {dialect}, credential: {{env: KEY_OF_A_TEST}}}}")
    lines.append("models:")
    for kind, probe in KINDS.items():
        lines += [f"  acme/{kind}:", "    endpoints:"]
        rest = f"model: large, pricing: {{prompt: 0, completion: 0}}, probe: {{{probe}}}"
        lines += [f"      - {{provider: {door}, {rest}}}" for door in doors]
    return "\n".join([*lines, ""])


ENVIRON = {"KEY_OF_A_TEST": KEY, "ORGANIZATION_OF_A_TEST": ORGANIZATION, "TOKEN_OF_A_TEST": TOKEN}


def check_that_all_was_echoed(parrot: Parrot) -> None:
    assert set(parrot.told) == {(echo, dialect) for echo in (*ECHOES, SPLIT) for dialect in DIALECTS}
    assert f"?token={TOKEN}" in parrot.targets
    for (_, dialect), head in parrot.told.items():
        assert f"x-organization: {ORGANIZATION}\r\n" in head
        assert (f"x-api-key: {KEY}\r\n" if dialect == "anthropic" else f"authorization: Bearer {KEY}\r\n") in head


@pytest.mark.parametrize("echo", ECHOES)
def test_what_is_looked_for_is_in_every_echo(echo):
    assert seen_in(ECHOES[echo])


async def test_the_daemon_tells_no_secret(daemon, parrot):
    running = await daemon(configuration(parrot.port), environ=ENVIRON)
    said: dict[str, str] = {}
    async with aiohttp.ClientSession() as http:

        async def get(path: str, **parameters: str) -> str:
            async with http.get(f"{running.url}{path}", params=parameters) as answer:
                said[f"GET {path} {parameters}"] = f"{answer.status} {answer.headers} {await answer.text()}"
                return await answer.text()

        async def probe(endpoint: str) -> None:
            async with http.post(f"{running.url}/v1/probe", json={"endpoint": endpoint}) as answer:
                said[f"POST /v1/probe {endpoint}"] = await answer.text()
                assert answer.status == 200, said[f"POST /v1/probe {endpoint}"]

        ids = [each["id"] for each in json.loads(await get("/v1/endpoints"))["endpoints"]]
        assert len(ids) == len(KINDS) * len(DIALECTS) * (len(ECHOES) + 1)
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            for endpoint in ids:
                group.create_task(probe(endpoint), name=endpoint)
        check_that_all_was_echoed(parrot)
        for path, methods in json.loads(await get("/openapi.json"))["paths"].items():
            if "get" in methods and path != "/v1/events":
                await get(path)
        for endpoint in ids:
            await get("/v1/endpoint", id=endpoint)
        for kind in KINDS:
            await get("/v1/model", id=f"acme/{kind}")
            await get("/v1/best-provider", model=f"acme/{kind}", explain="true")
        said["GET /v1/events"] = await all_events(http, running.url, ids[-1])
    said["log"] = running.log()
    assert said["log"].count('"probe.failed"') + said["log"].count('"probe.rejected"') > len(ids) / 2
    assert {where: seen_in(text) for where, text in said.items() if seen_in(text)} == {}


async def all_events(http: aiohttp.ClientSession, url: str, endpoint: str) -> str:
    """Everything that the daemon remembers, up to an end that we make ourselves."""
    async with http.post(f"{url}/v1/drain", json={"target": endpoint, "reason": "the end of it"}) as answer:
        assert answer.status == 200
    heard = ""
    async with http.get(f"{url}/v1/events", headers={"Last-Event-ID": "another-0"}) as answer:
        async with asyncio.timeout(DEADLINE):
            async for line in answer.content:
                heard += line.decode()
                if "the end of it" in heard:
                    break
    assert "endpoint.ejected" in heard
    return heard


@pytest.mark.parametrize("form", ["--debug", "--json"])
async def test_a_probe_by_hand_tells_no_secret(parrot, tmp_path, form):
    (tmp_path / "balancer.yaml").write_text(configuration(parrot.port))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "balancer", "probe", "-c", str(tmp_path / "balancer.yaml"), "--all", form),
        cwd=ROOT,
        env={**os.environ, **ENVIRON},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE):
        out, err = await process.communicate()
    check_that_all_was_echoed(parrot)
    assert err == b""
    lines = out.decode().splitlines()
    assert len(lines) > (0 if form == "--json" else len(KINDS) * len(ECHOES) * 10)
    assert [line for line in lines if seen_in(line)] == []
    assert seen_in(out.decode()) == []
