"""The client of a probe: kept connections and their one retry, encodings, targets, and who gets the credential."""

import asyncio
import gzip
import zlib

import pytest

from balancer.config.secret import Absent, Secret


async def listing(seen):
    await seen.answer(200, {"data": []})


async def test_a_kept_connection_is_used_again_and_has_no_connect_phase(lab):
    server = await lab.serve(listing)
    first = await lab.probe(server.url, "models")
    second = await lab.probe(server.url, "models")
    assert server.connections == 1
    assert len(server.requests) == 2
    assert "connect" in first.phases
    assert set(second.phases) == {"request", "first_byte", "transfer"}
    assert second.address == "127.0.0.1"
    assert lab.connections.idle == 1


async def test_a_kept_tls_connection_is_used_again(lab):
    server = await lab.serve(listing, tls=True)
    for _ in range(3):
        result = await lab.probe(server.url, "models")
        assert result.outcome.kind == "success"
    assert server.connections == 1
    assert "tls" not in result.phases


async def test_without_reuse_every_probe_connects_and_says_close(lab):
    server = await lab.serve(listing)
    for _ in range(2):
        assert (await lab.probe(server.url, "models", reuse=False)).outcome.kind == "success"
    assert server.connections == 2
    assert server.requests[0].headers["connection"] == "close"
    assert lab.connections.idle == 0


async def test_each_endpoint_keeps_its_own_connection(lab):
    server = await lab.serve(listing)
    for name in ("a", "b", "a", "b"):
        await lab.probe(server.url, "models", endpoint={"id": f"author/model@{name}"})
    assert server.connections == 2


async def test_a_connection_that_the_server_says_it_closes_is_not_kept(lab):
    server = await lab.serve(lambda seen: seen.answer(200, {"data": []}, connection="close"))
    assert (await lab.probe(server.url, "models")).outcome.kind == "success"
    assert lab.connections.idle == 0


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(lab):
    async def once(seen):
        await listing(seen)
        seen.writer.close()

    server = await lab.serve(once)
    for _ in range(3):
        assert (await lab.probe(server.url, "models")).outcome.kind == "success"
    assert server.connections == 3


@pytest.mark.parametrize(
    "unasked",
    [
        lambda lab: lab.answer(503, "Shutting down"),
        lambda lab: lab.answer(200, {"data": []}),  # the answer once more, and late
    ],
)
@pytest.mark.parametrize("tls", [False, True])
async def test_what_came_on_an_idle_connection_is_not_taken_for_the_next_answer(lab, unasked, tls):
    heard = asyncio.Event()

    async def talks_on(seen):
        if seen.connection == 1:
            await listing(seen)
            await heard.wait()
            await seen.send(unasked(lab))
        else:
            await seen.answer(500, "the true answer")

    server = await lab.serve(talks_on, tls=tls)
    assert (await lab.probe(server.url, "models")).outcome.kind == "success"
    heard.set()
    await asyncio.sleep(0.05)  # the server's turn
    result = await lab.probe(server.url, "models")
    assert (result.outcome.kind, server.connections) == ("server_error", 2)
    assert "the true answer" in result.outcome.detail


async def test_a_kept_connection_that_breaks_on_the_request_is_retried_once_on_a_fresh_one(lab):
    async def hang_up_on_the_second(seen):
        if seen.connection == 1 and len(server.requests) == 2:
            seen.reset()
        else:
            await listing(seen)

    server = await lab.serve(hang_up_on_the_second)
    await lab.probe(server.url, "models")
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "success"
    assert server.connections == 2
    assert len(server.requests) == 3
    assert "connect" in result.phases
    assert any("trying once more on a fresh connection" in line for line in result.transcript)


def forgets(server_of):
    """A server that the network forgets the way to, after one answer; a fresh connection finds it."""

    async def behaviour(seen):
        if seen.connection == 1 and len(server_of().requests) > 1:
            await seen.hang()
        await listing(seen)

    return behaviour


async def test_a_kept_connection_that_stays_silent_leaves_time_for_a_fresh_one(lab):
    server = await lab.serve(forgets(lambda: server))
    await lab.probe(server.url, "models")
    result = await lab.probe(server.url, "models", timeout=1.0)
    assert (result.outcome.kind, server.connections) == ("success", 2)
    assert {"connect", "first_byte"} <= set(result.phases)
    assert result.phases["first_byte"] < 0.5 < result.ended - result.began
    assert any("no answer on the kept connection after 0.50 s" in line for line in result.transcript)


@pytest.mark.parametrize("ends", ["reset", "closed", "408", "silent"])
@pytest.mark.parametrize(
    "probed", [{"kind": "completion"}, {"kind": "http", "method": "POST"}, {"kind": "http", "method": "PUT"}]
)
async def test_what_costs_money_or_acts_is_sent_once_and_on_a_fresh_connection(lab, probed, ends):
    async def works_on_it_and_breaks(seen):
        if seen.method == "GET":
            await listing(seen)
        elif ends == "silent":
            await seen.hang()
        elif ends == "408":
            await seen.answer(408, connection="close")
        elif ends == "closed":
            seen.writer.close()
        else:
            seen.reset()

    server = await lab.serve(works_on_it_and_breaks)
    assert (await lab.probe(server.url, "models")).outcome.kind == "success"
    settings = dict(probed)
    result = await lab.probe(server.url, settings.pop("kind"), timeout=0.4, **settings)
    assert result.outcome.kind == {"408": "server_error", "silent": "timeout"}.get(ends, "reset")
    assert [seen.connection for seen in server.requests] == [1, 2]
    assert result.sent == 1


async def test_what_was_answered_well_leaves_its_connection_to_requests_that_may_be_repeated(lab):
    server = await lab.serve(listing)
    connected = []
    for method in ("POST", "GET", "GET", "PUT", "GET", "POST"):
        result = await lab.probe(server.url, "http", url="/x", method=method)
        connected.append(server.connections)
        assert result.sent == (method != "GET")
    assert connected == [1, 1, 1, 2, 2, 3]
    assert lab.connections.idle == 1


@pytest.mark.parametrize(("took", "connections"), [(0.3, 1), (0.6, 2)])
async def test_a_slow_server_is_waited_for_on_a_connection_that_leaves_the_time(lab, took, connections):
    async def slow(seen):
        await asyncio.sleep(took)
        await listing(seen)

    server = await lab.serve(slow)
    for _ in range(2):
        assert (await lab.probe(server.url, "models", timeout=1.0)).outcome.kind == "success"
    assert (len(server.requests), server.connections) == (2, connections)


async def test_a_forgotten_connection_is_no_timeout_although_it_once_was_slow(lab):
    async def slow_and_then_forgotten(seen):
        if len(server.requests) == 1:
            await asyncio.sleep(0.6)
        elif seen.connection == 1:
            await seen.hang()
        await listing(seen)

    server = await lab.serve(slow_and_then_forgotten)
    for _ in range(2):
        assert (await lab.probe(server.url, "models", timeout=1.0)).outcome.kind == "success"


async def test_a_goodbye_408_on_a_kept_connection_is_retried_too(lab):
    async def goodbye(seen):
        if seen.connection == 1 and len(server.requests) == 2:
            await seen.answer(408, b"", connection="close")
        else:
            await listing(seen)

    server = await lab.serve(goodbye)
    await lab.probe(server.url, "models")
    assert (await lab.probe(server.url, "models")).outcome.kind == "success"
    assert server.connections == 2


async def test_a_fresh_connection_that_breaks_is_not_retried(lab):
    async def reset_all_but_the_first(seen):
        if len(server.requests) == 1:
            await listing(seen)
        else:
            seen.reset()

    server = await lab.serve(reset_all_but_the_first)
    await lab.probe(server.url, "models")
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "reset"
    assert len(server.requests) == 3


async def test_a_cut_answer_on_a_kept_connection_is_not_retried(lab):
    async def cut_the_second(seen):
        if len(server.requests) == 1:
            await listing(seen)
        else:
            await seen.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[")
            seen.writer.close()

    server = await lab.serve(cut_the_second)
    await lab.probe(server.url, "models")
    assert (await lab.probe(server.url, "models")).outcome.kind == "stream"
    assert len(server.requests) == 2


async def test_an_error_keeps_the_connection_as_a_success_does(lab):
    server = await lab.serve(lambda seen: seen.answer(500, "no"))
    for _ in range(2):
        await lab.probe(server.url, "models")
    assert server.connections == 1


async def test_plain_bodies_are_asked_for_and_compressed_ones_are_read(lab):
    def bare(data):
        return zlib.compress(data)[2:-4]  # as servers send it that take the word for the format

    def in_two_members(data):
        return gzip.compress(data[:5]) + gzip.compress(data[5:])

    compressors = [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare), ("gzip", in_two_members)]
    for name, compress in compressors:
        server = await lab.serve(
            lambda seen, n=name, c=compress: seen.answer(200, c(b'{"data": []}'), content_encoding=n)
        )
        assert (await lab.probe(server.url, "models")).outcome.kind == "success"
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_endless_informational_answers_are_nonsense(lab):
    async def talk(_reader, writer):
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
            await writer.drain()

    server = await lab.serve_raw(talk)
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "malformed"
    assert "more than 20 informational answers" in result.outcome.detail


@pytest.mark.parametrize("kind", ["models", "completion"])
async def test_an_answer_in_crumbs_leaves_the_loop_its_turns(lab, kind):
    crumbs = b"1\r\n \r\n" * 20_000 if kind == "models" else b"".join([b"7\r\ndata:\n\n\r\n"] * 20_000)

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + crumbs + b"0\r\n\r\n")
        await writer.drain()

    server = await lab.serve_raw(talk)
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(count(), name="count")
        await lab.probe(server.url, kind)
        counting.cancel()
    assert turns >= 20_000 / 50


async def test_a_compressed_bomb_is_stopped_at_the_limit(lab):
    bomb = gzip.compress(b" " * 50_000_000)
    server = await lab.serve(lambda seen: seen.answer(200, bomb, content_encoding="gzip"))
    result = await lab.probe(server.url, "models", size_max=100_000)
    assert result.outcome.kind == "probe_invalid"
    assert "probe.size_max" in result.outcome.detail


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", b"not gzip at all", "compressed body is broken"),
        ("gzip", gzip.compress(b'{"data": []}')[:-4], "ends early"),
        ("br", b"whatever", "content-encoding 'br' was not asked for"),
    ],
)
async def test_a_body_that_cannot_be_decoded_is_malformed(lab, encoding, body, words):
    server = await lab.serve(lambda seen: seen.answer(200, body, content_encoding=encoding))
    result = await lab.probe(server.url, "models")
    assert result.outcome.kind == "malformed"
    assert words in result.outcome.detail
    assert result.bug is None


async def test_chunked_answers_and_answers_that_end_with_the_connection_are_whole(lab):
    async def chunked(seen):
        await seen.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (b'{"da', b'ta": [', b"]}"):
            await seen.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await asyncio.sleep(0.01)
        await seen.send(b"0\r\n\r\n")

    async def closing(seen):
        await seen.send(b'HTTP/1.0 200 OK\r\n\r\n{"data": []}')
        seen.writer.close()

    for behaviour in (chunked, closing):
        server = await lab.serve(behaviour)
        assert (await lab.probe(server.url, "models")).outcome.kind == "success"


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("", "/models"),
        ("/", "/models"),
        ("/v1/", "/v1/models"),
        ("/openai/v1?api-version=2024-10-21", "/openai/v1/models?api-version=2024-10-21"),
        ("/openai/v1/?api-version=2024-10-21&x", "/openai/v1/models?api-version=2024-10-21&x"),
        ("/with space/ü", "/with%20space/%C3%BC/models"),
    ],
)
async def test_the_path_is_below_the_base_url_and_keeps_its_query(lab, base, target):
    server = await lab.serve(listing)
    await lab.probe(f"http://127.0.0.1:{server.port}{base}", "models")
    assert server.requests[0].target == target
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("/v1?api-version=1", "/health?deep=yes", "/v1/health?deep=yes&api-version=1"),
        ("/v1?api-version=1&x=2", "/health?api-version=3", "/v1/health?api-version=3&x=2"),
        ("/v1", "/health?deep=yes", "/v1/health?deep=yes"),
        ("/v1?x", "/health", "/v1/health?x"),
    ],
)
async def test_a_path_with_a_query_keeps_that_of_the_base_url_too(lab, base, path, target):
    server = await lab.serve(listing)
    await lab.probe(f"http://127.0.0.1:{server.port}{base}", "http", url=path)
    assert server.requests[0].target == target


@pytest.mark.parametrize("kind", ["models", "completion", "http"])
async def test_the_operators_headers_go_along_and_their_secrets_are_never_told(lab, kind):
    async def echo(seen):
        await seen.answer(401, f"you say {seen.headers['x-door']} and {seen.headers['openai-organization']}")

    server = await lab.serve(echo)
    sent = {"OpenAI-Organization": "org-1", "X-Door": Secret("hidden/word"), "User-Agent": "mine"}
    result = await lab.probe(server.url, kind, secret="key", send_headers=sent)
    seen = server.requests[0].headers
    assert (seen["openai-organization"], seen["x-door"], seen["user-agent"]) == ("org-1", "hidden/word", "mine")
    assert seen["authorization"] == "Bearer key"
    assert result.outcome.detail == "401 Because: you say *** and org-1"
    assert "> x-door: ***" in result.transcript
    assert "hidden" not in repr(result)


@pytest.mark.parametrize("value", [Absent("DOOR is not set"), "two\nlines", Secret("schlüssel"), " padded"])
async def test_a_header_without_a_value_that_can_be_sent_is_a_wrong_recipe(lab, value):
    server = await lab.serve(lambda seen: seen.answer(200, []))
    result = await lab.probe(server.url, "models", send_headers={"X-Door": value})
    assert (result.outcome.kind, server.requests, result.bug) == ("probe_invalid", [], None)
    assert "X-Door" in result.outcome.detail
    assert "schl" not in repr(result)


@pytest.mark.parametrize("tls", [False, True])
async def test_an_answer_to_a_request_that_is_still_being_sent_is_read(lab, tls):
    async def refuses_early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(lab.answer(413, "too large", connection="close"))
        await writer.drain()
        if server.tls:
            await reader.read()  # and more than it ever reads is under way
        writer.close()

    server = await lab.serve_raw(refuses_early, tls=tls)
    for size in (1000, 6_000_000):
        result = await lab.probe(server.url, "http", url="/x", method="POST", send_body="x" * size)
        assert (result.outcome.status, result.outcome.detail) == (413, "413 Because: too large")
        assert "request" in result.phases
    assert lab.connections.idle == 0


async def test_a_large_request_is_sent_whole_and_its_sending_is_timed_apart(lab):
    async def late(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)  # a slow uplink
        await reader.readexactly(6_000_000)
        writer.write(lab.answer(200, "ok"))
        await reader.read()

    server = await lab.serve_raw(late)
    result = await lab.probe(server.url, "http", url="/x", method="POST", send_body="x" * 6_000_000)
    assert result.outcome.kind == "success"
    assert result.phases["request"] >= 0.1 > result.phases["first_byte"]
    assert lab.connections.idle == 1


@pytest.mark.parametrize(("every", "connections"), [(1, 6), (2, 3), (3, 2), (10, 1)])
async def test_every_nth_probe_opens_a_connection_although_one_is_kept(lab, every, connections):
    server = await lab.serve(listing)
    for _ in range(6):
        assert (await lab.probe(server.url, "models", fresh_every=every)).outcome.kind == "success"
    assert server.connections == connections
    assert lab.connections.idle == (0 if every == 1 else 1)


async def test_the_requests_of_one_probe_count_once(lab):
    async def pages(seen):
        number = len(server.requests)
        await seen.answer(200, {"data": [{"id": f"m{number}"}], "has_more": number % 4 != 0, "last_id": "m"})

    server = await lab.serve(pages)
    for _ in range(4):
        assert (await lab.probe(server.url, "models", fresh_every=2)).outcome.kind == "success"
    assert (len(server.requests), server.connections) == (16, 2)
    assert [seen.connection for seen in server.requests] == [1] * 8 + [2] * 8


async def test_a_host_that_is_no_address_of_the_wanted_version_is_a_wrong_recipe(lab):
    server = await lab.serve(listing)
    assert (await lab.probe(server.url, "models", ip_version="4")).outcome.kind == "success"
    result = await lab.probe(server.url, "models", ip_version="6")
    assert (result.outcome.kind, len(server.requests)) == ("probe_invalid", 1)
    assert result.outcome.detail == "probe.ip_version is 6, and the host is 127.0.0.1"


async def test_a_redirect_to_another_host_is_not_followed_and_the_credential_stays_here(lab):
    other = await lab.serve(lambda seen: seen.answer(200, {}))
    for status in (301, 302, 303, 307, 308):
        server = await lab.serve(lambda seen, status=status: seen.answer(status, location=f"{other.url}/models"))
        for kind in ("models", "completion", "tools", "http"):
            result = await lab.probe(server.url, kind, secret="sk-of-this-host-only", reuse=False)
            assert result.outcome.kind == "server_error"
            assert f"{status} Because: not followed: {other.url}" in result.outcome.detail
            assert server.requests[-1].headers["authorization"] == "Bearer sk-of-this-host-only"
    assert other.connections == 0
