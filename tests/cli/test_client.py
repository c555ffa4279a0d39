"""How a verb finds a daemon, and whom it believes over TLS."""

import argparse
import asyncio
import json
import re
import socket
import ssl
import struct

import pytest
import trustme

from balancer.cli.client import Unreachable, address


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("", "http://127.0.0.1:8790"),
        ("listen: 127.0.0.1:1\n", "http://127.0.0.1:1"),
        ("listen: ['[::1]:1', 'unix:/run/b.sock']\n", "http://[::1]:1"),
        ("listen: {address: 'unix:/run/b.sock', mode: '0660'}\n", "unix:/run/b.sock"),
        ("listen: :1\ninsecure: true\n", "http://127.0.0.1:1"),
        ("listen: '[::]:1'\ninsecure: true\n", "http://[::1]:1"),
        (
            "listen: {address: 'balancer.example:1', reuse_port: true}\ninsecure: true\n",
            "http://balancer.example:1",
        ),
        ("listen: balancer.example:1\ninsecure: true\ntls: {cert_file: c.pem}\n", "https://balancer.example:1"),
        ("listen: :1\ninsecure: true\ntls: {cert_file: c.pem}\n", "https://localhost:1"),
        ("listen: '[::]:1'\ninsecure: true\ntls: {cert_file: c.pem}\n", "https://localhost:1"),
        ("listen: [127.0.0.1:1, 'unix:/run/b.sock']\ntls: {cert_file: c.pem}\n", "unix:/run/b.sock"),
        ("tls: {cert_file: c.pem}\n", "https://127.0.0.1:8790"),
    ],
)
def test_the_configuration_says_where_the_daemon_is(tmp_path, config, written, found):
    file = tmp_path / "balancer.yaml"
    file.write_text(written + config)
    assert address(argparse.Namespace(url=None, config=str(file))) == found


def test_a_configuration_that_does_not_say_it_is_named(tmp_path):
    file = tmp_path / "balancer.yaml"
    file.write_text("listen: nowhere\n")
    with pytest.raises(Unreachable, match="does not say where the daemon listens"):
        address(argparse.Namespace(url=None, config=str(file)))


async def test_over_tls_files_say_whom_to_believe_and_what_to_show(command, tmp_path):
    ours, others, clients = trustme.CA(), trustme.CA(), trustme.CA()
    for name, pem in (
        ("ours.pem", ours.cert_pem.bytes()),
        ("others.pem", others.cert_pem.bytes()),
        ("client.pem", clients.issue_cert("ops@example.com").private_key_and_cert_chain_pem.bytes()),
    ):
        (tmp_path / name).write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(context)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"endpoints": []}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"

    async def ask(**files):
        environ = {f"BALANCER_{key.upper()}": str(tmp_path / name) for key, name in files.items()}
        return await command("status", "--json", "--url", url, environ=environ)

    def said(ran):
        assert ran.status == 1
        return json.loads(ran.out)["error"]["message"]

    assert json.loads((await ask(ca_file="ours.pem")).out)["endpoints"] == []
    mistrust = f"no daemon answers at {url} (its certificate is not believed: "
    assert said(await ask()).startswith(mistrust)
    assert said(await ask(ca_file="others.pem")).startswith(mistrust)
    gone = f"BALANCER_CA_FILE {tmp_path}/gone.pem cannot be used: No such file or directory"
    assert said(await ask(ca_file="gone.pem")) == gone
    wrong = said(await ask(ca_file="ours.pem", client_cert="ours.pem"))
    assert wrong.startswith(f"BALANCER_CLIENT_CERT {tmp_path}/ours.pem cannot be used: ")
    clients.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    assert "a certificate, which BALANCER_CLIENT_CERT names" in said(await ask(ca_file="ours.pem"))
    assert json.loads((await ask(ca_file="ours.pem", client_cert="client.pem")).out)["endpoints"] == []
    server.close()


async def test_plain_http_to_a_listener_with_tls_is_told_what_to_try(command, tmp_path):
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem")

    async def closing(reader, writer):
        writer.close()

    async def alerting(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x15\x03\x01\x00\x02\x02\x46\n")
        writer.close()

    for serve, tls in ((closing, context), (closing, None), (alerting, None)):
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ran = await command("status", "--url", url)
        assert (ran.status, ran.out) == (1, "")
        assert re.fullmatch(
            f"balancer: something is at {url}, but gives no answer in HTTP \\([^)\n]+\\); "
            "where it speaks TLS, try https://\n",
            ran.err,
        )
        server.close()


async def test_an_answer_in_http_that_is_cut_is_not_taken_for_tls(command):
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        wire = writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()  # with a reset

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ran = await command("status", "--url", url)
    assert ran.err.startswith(f"balancer: no daemon answers at {url} (")
    assert "https" not in ran.err
    server.close()


async def test_check_reads_the_files_of_tls(command, config, tmp_path):
    (tmp_path / "balancer.yaml").write_text("tls: {cert_file: cert.pem}\n" + config)
    ran = await command("check")
    assert (ran.status, ran.out) == (
        1,
        "cert.pem: tls.cert_file: No such file or directory; give a PEM file that this user can read\n",
    )
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    assert (await command("check")).status == 0
