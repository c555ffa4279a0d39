"""One probe: every way to fail has its kind, the timeout names its phase, and no secret comes out."""

import asyncio
import socket
import ssl
import time

import pytest

from balancer.config.secret import Secret
from balancer.core.model import Pricing
from balancer.core.outcome import COUNTS, Outcome
from balancer.probing import KINDS, Check, Connections, cost_of, probe

SECRET = "sk-very/secret+key"


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_a_good_probe_times_its_phases_and_says_what_it_tested(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"data": []}))
    result = await lab.probe(f"http://localhost:{server.port}/v1", "models")
    absent = "model-1 is not among the 0 models listed"
    assert result.outcome == Outcome(kind="success", status=200, shallow=True, detail=absent)
    assert set(result.phases) == {"resolve", "connect", "request", "first_byte", "transfer"}
    assert all(seconds >= 0 for seconds in result.phases.values())
    assert result.address == "127.0.0.1"
    assert (result.endpoint, result.provider, result.kind) == ("author/model@door", "door", "models")
    assert sum(result.phases.values()) <= result.ended - result.began
    assert result.bug is None
    assert result.cost is None


async def test_tls_is_a_phase_of_its_own(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"data": []}), tls=True)
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "success"
    assert result.phases["tls"] > 0
    assert any(line.startswith("* TLSv1.") for line in result.transcript)


async def test_an_untrusted_certificate_is_tls(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"data": []}), tls=True)
    strangers = Connections(clock=time.monotonic, tls=ssl.create_default_context())
    result = await probe(lab.endpoint(server.url), lab.settings("models"), None, connections=strangers)
    assert result.outcome.kind == "tls"
    assert "self-signed certificate" in result.outcome.detail


async def test_a_plain_server_behind_https_is_tls(lab):
    async def talk(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 What\r\n\r\n")
        await writer.drain()

    server = await lab.serve_raw(talk)
    result = await lab.probe(f"https://127.0.0.1:{server.port}", "models")
    assert result.outcome.kind == "tls"


async def test_a_refused_connection_is_connect_and_names_the_address(lab):
    port = closed_port()
    result = await lab.probe(f"http://127.0.0.1:{port}/v1", "models")
    assert result.outcome.kind == "connect"
    assert f"127.0.0.1 port {port}" in result.outcome.detail
    assert result.outcome.shallow


async def test_an_unknown_host_is_dns_unless_the_resolver_itself_is_away(lab):
    result = await lab.probe("http://nonexistent.invalid/v1", "models")
    assert result.outcome.kind in ("dns", "local")
    assert set(result.phases) == {"resolve"}
    assert "name not resolved" in result.outcome.detail


async def test_a_host_that_cannot_be_a_name_is_dns(lab):
    result = await lab.probe(f"http://{'a' * 70}.example/v1", "models")
    assert result.outcome.kind == "dns"
    assert result.bug is None


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://", "http://host:99999/v1", "http://[::1/v1"])
async def test_a_base_url_that_cannot_be_called_is_a_wrong_recipe(lab, url):
    result = await lab.probe(url, "models")
    assert result.outcome.kind == "probe_invalid"
    assert result.bug is None


async def test_a_hang_in_the_handshake_is_a_timeout_in_tls(lab):
    async def hang(reader, writer):
        await asyncio.Event().wait()

    server = await lab.serve_raw(hang)
    result = await lab.probe(f"https://127.0.0.1:{server.port}", "models", timeout=0.2)
    assert result.outcome.kind == "timeout"
    assert "(in tls)" in result.outcome.detail
    assert result.phases["tls"] > 0.1


async def test_a_hang_before_the_answer_is_a_timeout_in_first_byte(lab):
    server = await lab.serve(lambda seen: seen.hang())
    result = await lab.probe(server.url, "models", timeout=0.2)
    assert (result.outcome.kind, result.outcome.detail) == ("timeout", "not done after 0.2 s (in first_byte)")
    assert result.outcome.latency is None


async def test_a_hang_in_the_answer_is_a_timeout_in_transfer(lab):
    async def half(seen):
        await seen.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[")
        await seen.hang()

    server = await lab.serve(half)
    result = await lab.probe(server.url, "models", timeout=0.2)
    assert (result.outcome.kind, result.outcome.detail) == ("timeout", "not done after 0.2 s (in transfer)")


async def test_a_full_backlog_is_a_timeout_in_connect(lab):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        fillers = [socket.socket() for _ in range(8)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            result = await lab.probe(f"http://127.0.0.1:{address[1]}/v1", "models", timeout=0.3)
        finally:
            for filler in fillers:
                filler.close()
    # Where the system answers the handshake in spite of the full backlog, the hang comes a phase later.
    assert result.outcome.kind == "timeout"
    assert "(in connect)" in result.outcome.detail or "(in first_byte)" in result.outcome.detail


async def test_a_reset_or_a_close_before_the_first_byte_is_reset(lab):
    async def reset(seen):
        seen.reset()

    async def close(seen):
        seen.writer.close()

    for behaviour in (reset, close):
        server = await lab.serve(behaviour)
        result = await lab.probe(server.url, "models")
        assert result.outcome.kind == "reset"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[",
    ],
)
async def test_a_cut_answer_is_stream(lab, data):
    async def cut(seen):
        await seen.send(data)
        seen.writer.close()

    server = await lab.serve(cut)
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "stream"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n",
        b"HTTP/1.1 700 Odd\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-large: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_nonsense_instead_of_http_is_malformed_and_no_bug(lab, data):
    async def nonsense(seen):
        await seen.send(data)
        await seen.hang()

    server = await lab.serve(nonsense)
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "malformed"
    assert result.bug is None


async def test_a_body_over_our_limit_is_the_recipes_fault_and_says_which_setting(lab):
    server = await lab.serve(lambda seen: seen.answer(200, b"[" + b" " * 5000 + b"]"))
    result = await lab.probe(server.url, "models", size_max=1000)
    assert result.outcome.kind == "probe_invalid"
    assert "probe.size_max (1000 bytes)" in result.outcome.detail


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "probe_invalid"),
        (401, "refused"),
        (402, "refused"),
        (422, "probe_invalid"),
        (429, "rate_limited"),
        (301, "server_error"),
        (500, "server_error"),
        (503, "overloaded"),
        (529, "overloaded"),
        (499, "cancelled"),
        (451, "caller_error"),
    ],
)
@pytest.mark.parametrize("probe_kind", ["models", "completion", "http"])
async def test_a_status_is_classified_once_for_every_kind(lab, status, kind, probe_kind):
    body = {"error": {"message": "because"}}
    server = await lab.serve(lambda seen: seen.answer(status, body, retry_after="7"))
    result = await lab.probe(server.url, probe_kind)
    held = status in (402, 429, 503, 529)
    assert result.outcome.kind == kind
    assert result.outcome.status == status
    assert result.outcome.retry_after == (7.0 if held else None)
    assert result.outcome.detail == f'{status} Because: {{"error": {{"message": "because"}}}}'
    assert result.outcome.shallow is (probe_kind != "completion")


@pytest.mark.parametrize("status", [404, 405, 410])
@pytest.mark.parametrize(
    ("probe_kind", "kind"), [("models", "probe_invalid"), ("http", "probe_invalid"), ("completion", "refused")]
)
async def test_a_missing_list_is_the_recipes_fault_and_a_missing_model_is_not(lab, status, probe_kind, kind):
    server = await lab.serve(lambda seen: seen.answer(status, b"nothing here"))
    result = await lab.probe(server.url, probe_kind)
    assert (result.outcome.kind, result.outcome.status) == (kind, status)
    assert ("choose another probe.kind" in result.outcome.detail) is (kind == "probe_invalid")


async def test_a_retry_after_date_is_read_by_the_wall_clock_of_the_caller(lab):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server = await lab.serve(lambda seen: seen.answer(429, b"", retry_after=date))
    result = await lab.probe(server.url, "models", wall=lambda: 1_445_412_480.0 - 30.0)
    assert result.outcome.retry_after == 30.0


@pytest.mark.parametrize(
    ("values", "hold"),
    [(("5", "5"), 5.0), (("5", "9"), 9.0), (("9", "Wed, 21 Oct 2015 07:28:00 GMT"), 9.0)],
)
async def test_a_retry_after_that_came_twice_is_the_longer_one(lab, values, hold):
    lines = "".join(f"Retry-After: {value}\r\n" for value in values)
    server = await lab.serve(
        lambda seen: seen.send(f"HTTP/1.1 429 No\r\n{lines}Content-Length: 0\r\n\r\n".encode())
    )
    result = await lab.probe(server.url, "models", wall=lambda: 1_445_412_480.0)
    assert result.outcome.retry_after == hold


async def test_a_429_whose_body_alone_says_how_long_holds_that_long(lab):
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "53s"}
    server = await lab.serve(lambda seen: seen.answer(429, [{"error": {"code": 429, "details": [delay]}}]))
    assert (await lab.probe(server.url, "models")).outcome.retry_after == 53.0
    hinted = await lab.serve(lambda seen: seen.answer(429, [{"error": {"details": [delay]}}], retry_after="7"))
    assert (await lab.probe(hinted.url, "models")).outcome.retry_after == 7.0
    broken = await lab.serve(lambda seen: seen.answer(500, [{"error": {"details": [delay]}}]))
    assert (await lab.probe(broken.url, "models")).outcome.retry_after is None


EMPTY_PURSE = {"error": {"message": "check your plan", "type": "insufficient_quota", "code": "insufficient_quota"}}


@pytest.mark.parametrize(
    ("status", "body", "account"),
    [
        (429, EMPTY_PURSE, True),
        (402, EMPTY_PURSE, True),
        (429, {"error": {"code": "rate_limit_exceeded"}}, False),
        (429, b"insufficient_quota", False),
        (500, EMPTY_PURSE, False),  # it holds nothing, so there is nothing to share
    ],
)
@pytest.mark.parametrize("probe_kind", ["models", "completion"])
async def test_a_refusal_may_be_said_of_the_whole_account(lab, status, body, account, probe_kind):
    server = await lab.serve(lambda seen: seen.answer(status, body))
    result = await lab.probe(server.url, probe_kind)
    assert (result.outcome.status, result.outcome.account) == (status, account)


REGAIN = "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC."
BROKE = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
MARCH_31 = 1_775_001_600.0 - 3600.0  # an hour before that moment


@pytest.mark.parametrize(
    ("status", "body", "kind", "account", "hold"),
    [
        (400, {"type": "error", "error": {"message": BROKE}}, "refused", True, None),
        (400, {"type": "error", "error": {"message": REGAIN}}, "refused", True, 3600.0),
        (400, {"error": {"code": "billing_hard_limit_reached", "message": "…"}}, "refused", True, None),
        (400, {"code": "Arrearage", "message": "Access denied"}, "refused", True, None),
        (400, [{"error": {"code": 400, "message": "API key not valid."}}], "refused", False, None),
        (400, {"code": "invalid", "error": "Incorrect API key provided: xa***yz."}, "refused", False, None),
        (422, b"Invalid API key", "refused", False, None),
        (400, {"error": {"message": "no balance of api keys"}}, "probe_invalid", False, None),
        (500, {"error": {"message": BROKE}}, "server_error", False, None),
    ],
)
@pytest.mark.parametrize(
    ("probe_kind", "api"), [("models", "openai"), ("completion", "anthropic"), ("tools", "openai")]
)
async def test_a_bad_request_because_of_our_key_or_purse_is_a_refusal(
    lab, status, body, kind, account, hold, probe_kind, api
):
    server = await lab.serve(lambda seen: seen.answer(status, body))
    outcome = (await lab.probe(server.url, probe_kind, api=api, wall=lambda: MARCH_31)).outcome
    assert (outcome.kind, outcome.account, outcome.retry_after) == (kind, account, hold)
    assert len(server.requests) == 1


async def test_an_empty_purse_told_within_a_stream_is_a_refusal_too(lab):
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": BROKE}}
    server = await lab.serve(lambda seen: seen.answer(200, lab.stream(error, done=False)))
    outcome = (await lab.probe(server.url, "completion", api="anthropic")).outcome
    assert (outcome.kind, outcome.account) == ("refused", True)


@pytest.mark.parametrize(
    ("headers", "hold"),
    [
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m30s"}, 90.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m30s", "retry_after": "7"}, 7.0),
        ({"x_ratelimit_remaining_requests": "3", "x_ratelimit_reset_requests": "1m30s"}, None),
        ({"x_ratelimit_remaining_tokens_minute": "0", "x_ratelimit_reset_tokens_minute": "12.5"}, 12.5),
        ({"x_ratelimit_remaining_requests_day": "0", "x_ratelimit_reset_requests_day": "3600.25"}, 3600.25),
        ({"x_ratelimit_remaining_tokens_per_minute": "0", "x_ratelimit_reset_tokens_per_minute": "30"}, 30.0),
        ({"retry_after": "30 seconds"}, 30.0),
    ],
)
async def test_a_429_without_retry_after_waits_for_the_quota_that_is_used_up(lab, headers, hold):
    server = await lab.serve(lambda seen: seen.answer(429, b"", **headers))
    result = await lab.probe(server.url, "models")
    assert (result.outcome.kind, result.outcome.retry_after) == ("rate_limited", hold)


@pytest.mark.parametrize("status", [402, 503])
async def test_what_is_left_of_a_quota_explains_no_other_refusal(lab, status):
    told = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m30s"}
    server = await lab.serve(lambda seen: seen.answer(status, b"", **told))
    assert (await lab.probe(server.url, "models")).outcome.retry_after is None


async def test_a_status_whose_explanation_hangs_is_still_that_status(lab):
    async def half(seen):
        await seen.send(b"HTTP/1.1 429 Slow\r\ncontent-length: 100\r\n\r\nplease wait")
        await seen.hang()

    server = await lab.serve(half)
    result = await lab.probe(server.url, "models")
    assert (result.outcome.kind, result.outcome.detail) == ("rate_limited", "429 Slow: please wait")


async def test_the_credential_is_in_no_detail_and_no_transcript(lab):
    async def echo(seen):
        told = seen.headers["authorization"]
        escaped = told.replace("/", "\\/")
        await seen.answer(401, f"you are\n{told} and {escaped} sk-very%2Fsecret%2Bkey", x_echo=told)

    server = await lab.serve(echo)
    for kind in ("models", "completion", "http"):
        result = await lab.probe(server.url, kind, secret=SECRET)
        assert server.requests[-1].headers["authorization"] == f"Bearer {SECRET}"
        assert result.outcome.detail == "401 Because: you are Bearer *** and Bearer *** ***"
        assert "> authorization: Bearer ***" in result.transcript
        assert "secret" not in repr(result)


async def test_an_error_body_is_one_short_line(lab):
    server = await lab.serve(lambda seen: seen.answer(500, "a\x1b[31m\nb\r\n" + "c" * 5000))
    result = await lab.probe(server.url, "models")
    assert result.outcome.detail.startswith("500 Because: a?[31m b ccc")
    assert len(result.outcome.detail) == len("500 Because: ") + 200


@pytest.mark.parametrize("secret", ["", "two\nlines", "schlüssel", " padded"])
async def test_a_credential_that_no_header_can_carry_is_refused_without_a_request(lab, secret):
    server = await lab.serve(lambda seen: seen.answer(200, []))
    result = await lab.probe(server.url, "models", secret=secret)
    assert result.outcome.kind == "refused"
    assert server.requests == []
    assert result.bug is None


async def test_a_kind_that_raises_counts_for_nothing_and_comes_with_its_traceback(lab):
    async def broken(client):
        raise ZeroDivisionError(f"with {SECRET}")

    kinds = {**KINDS, "models": Check(run=broken, shallow=True)}
    result = await probe(
        lab.endpoint("http://127.0.0.1:1/"),
        lab.settings("models"),
        Secret(SECRET),
        connections=lab.connections,
        kinds=kinds,
    )
    assert COUNTS[result.outcome.kind] == "none"
    assert result.outcome.kind == "probe_invalid"
    assert result.outcome.detail == "bug in the probe: ZeroDivisionError: with ***"
    assert result.outcome.shallow
    assert result.bug is not None
    assert "Traceback" in result.bug
    assert SECRET not in result.bug


async def test_the_kind_none_sends_nothing_and_says_so(lab):
    result = await lab.probe("http://127.0.0.1:1/", "none")
    assert result.outcome.kind == "probe_invalid"
    assert result.bug is None


async def test_a_cancelled_probe_is_cancelled_and_leaves_no_socket(lab):
    server = await lab.serve(lambda seen: seen.hang())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lab.probe(server.url, "models"), name="to be cancelled")
        await lab.until(lambda: len(server.requests) == 1)
        task.cancel()
        rest = await server.requests[0].reader.read()
    assert task.cancelled()
    assert rest == b""


async def test_a_chatty_answer_does_not_make_a_long_transcript(lab):
    headers = {f"x_{number}": "y" * 1000 for number in range(60)}
    server = await lab.serve(lambda seen: seen.answer(500, "z" * 100_000, **headers))
    result = await lab.probe(server.url, "models")
    assert len(result.transcript) <= 200
    assert max(map(len, result.transcript)) <= 500


def test_the_cost_is_usage_times_price_and_unknown_when_either_is():
    outcome = Outcome(kind="success", prompt_tokens=1000, completion_tokens=500)
    assert cost_of(outcome, Pricing(prompt=2.0, completion=8.0)) == pytest.approx(0.006)
    assert cost_of(outcome, Pricing(prompt=0.0, completion=0.0)) == 0.0
    assert cost_of(outcome, Pricing(prompt=2.0)) is None
    assert cost_of(Outcome(kind="success", prompt_tokens=1), Pricing(prompt=2.0, completion=8.0)) is None


@pytest.mark.parametrize(
    ("facts", "speed"),
    [
        ({"latency": 0.5, "completion_tokens": 20}, 40.0),
        ({"latency": 0.5, "completion_tokens": 0}, 0.0),
        ({"latency": 0.5}, None),
        ({"completion_tokens": 20}, None),
        ({"latency": 0.0, "completion_tokens": 20}, None),
        ({"kind": "malformed", "latency": 0.5, "completion_tokens": 20}, None),
    ],
)
async def test_tokens_a_second_are_of_good_answers_whose_usage_and_time_are_known(lab, facts, speed):
    outcome = Outcome(**({"kind": "success"} | facts))
    _, kinds = lab.counted(outcome, paid=True)
    result = await probe(
        lab.endpoint("http://127.0.0.1:1"),
        lab.settings("completion"),
        None,
        connections=lab.connections,
        kinds=kinds,
    )
    assert result.tokens_per_second == speed
    assert result.facts()["tokens_per_second"] == speed


@pytest.mark.parametrize(
    ("limit", "late", "overslept"), [(0.02, 0.04, False), (0.02, 0.2, True), (0.6, 0.0, False), (1.0, 0.3, True)]
)
async def test_a_timeout_that_fires_much_too_late_is_marked_as_our_own(lab, limit, late, overslept):
    passed = [0.0]

    async def hangs(client):
        passed[0] += limit + late
        await asyncio.Event().wait()

    result = await probe(
        lab.endpoint("http://127.0.0.1:1"),
        lab.settings("models", timeout=limit),
        None,
        connections=lab.connections,
        clock=lambda: passed[0],
        kinds={"models": Check(run=hangs, shallow=True)},
    )
    assert (result.outcome.kind, result.overslept) == ("timeout", overslept)


async def test_an_answer_that_is_read_late_is_an_answer(lab):
    passed = [0.0]

    async def answers(client):
        passed[0] += 60.0
        return Outcome(kind="success")

    result = await probe(
        lab.endpoint("http://127.0.0.1:1"),
        lab.settings("models"),
        None,
        connections=lab.connections,
        clock=lambda: passed[0],
        kinds={"models": Check(run=answers, shallow=True)},
    )
    assert (result.outcome.kind, result.overslept) == ("success", False)
