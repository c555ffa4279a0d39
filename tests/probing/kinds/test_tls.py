"""Shaking hands, and nothing else."""

import ssl
import time
from pathlib import Path

import pytest

from balancer.probing import Connections, probe

EXPIRED = Path(__file__).parents[1] / "expired.pem"  # certificate and key for 127.0.0.1, good in January of 2020


async def silent(reader, writer):
    await reader.read()


async def test_a_handshake_is_a_shallow_success_that_tells_what_was_agreed_upon(lab):
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.read())

    server = await lab.serve_raw(listen, tls=True)
    result = await lab.probe(server.url, "tls", secret="key", wall=lambda: expires(lab) - 12.0 * 86_400)
    await lab.until(lambda: len(heard) == 1)
    assert heard == [b""]
    assert (result.outcome.kind, result.outcome.shallow, result.outcome.latency) == ("success", True, None)
    protocol, _, rest = result.outcome.detail.partition(" ")
    assert protocol in ("TLSv1.2", "TLSv1.3")
    assert rest.endswith("; the certificate ends in 12 days")
    assert set(result.phases) == {"connect", "tls"}
    assert lab.connections.idle == 0


def expires(lab):
    """When the laboratory's certificate ends, as the one who trusts it reads it."""
    (certificate,) = lab.trusting.get_ca_certs()
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


@pytest.mark.parametrize("kind", ["tls", "models"])
async def test_the_certificates_end_is_a_fact_of_every_kind_that_shakes_hands(lab, kind):
    server = await lab.serve(lambda seen: seen.answer(200, []), tls=True)
    result = await lab.probe(server.url, kind)
    assert result.outcome.kind == "success"
    assert result.certificate_expires == result.facts()["certificate_expires"] == expires(lab)


async def test_a_kept_connection_still_knows_its_certificate(lab):
    server = await lab.serve(lambda seen: seen.answer(200, []), tls=True)
    results = [await lab.probe(server.url, "models") for _ in range(2)]
    assert server.connections == 1
    assert "tls" not in results[1].phases
    assert results[1].certificate_expires == expires(lab)


async def test_without_tls_there_is_no_certificate(lab):
    server = await lab.serve(lambda seen: seen.answer(200, []))
    assert (await lab.probe(server.url, "models")).certificate_expires is None
    assert (await lab.probe(server.url.replace("http:", "https:"), "tcp")).certificate_expires is None


async def test_a_certificate_for_another_name_is_a_failure(lab):
    server = await lab.serve_raw(silent, tls=True)
    # A name, as it is no whole address, and one that the resolver reads as 127.0.0.1.
    result = await lab.probe(f"https://127.1:{server.port}", "tls")
    assert result.outcome.kind == "tls"
    assert "mismatch" in result.outcome.detail
    assert result.certificate_expires is None


async def test_a_certificate_of_a_stranger_is_a_failure(lab):
    server = await lab.serve_raw(silent, tls=True)
    strangers = Connections(clock=time.monotonic, tls=ssl.create_default_context())
    result = await probe(lab.endpoint(server.url), lab.settings("tls"), None, connections=strangers)
    assert (result.outcome.kind, result.outcome.shallow) == ("tls", True)
    assert "self-signed certificate" in result.outcome.detail


async def test_only_the_authority_of_the_configuration_is_believed(lab):
    server = await lab.serve_raw(silent, tls=True)
    strangers = Connections(clock=time.monotonic)
    result = await probe(
        lab.endpoint(server.url), lab.settings("tls", ca_file=str(lab.pem)), None, connections=strangers
    )
    assert result.outcome.kind == "success"
    other = ssl.get_default_verify_paths().cafile
    if other is not None:  # a machine has authorities, and none of them signed the laboratory's certificate
        assert (await lab.probe(server.url, "tls", ca_file=other)).outcome.kind == "tls"


async def test_an_expired_certificate_is_a_failure(lab):
    server = await lab.serve_raw(silent, tls=True, asking=lambda context: context.load_cert_chain(EXPIRED))
    result = await lab.probe(server.url, "tls", ca_file=str(EXPIRED))
    assert (result.outcome.kind, result.outcome.detail) == ("tls", "TLS failed: certificate has expired")
    assert result.certificate_expires is None


async def test_a_server_that_speaks_only_an_outdated_protocol_is_a_failure(lab):
    async def outdated(reader, writer):
        await reader.read(1000)
        writer.write(bytes((21, 3, 1, 0, 2, 2, 70)))  # a fatal alert: protocol version
        await writer.drain()

    server = await lab.serve_raw(outdated)
    result = await lab.probe(f"https://127.0.0.1:{server.port}", "tls")
    assert result.outcome.kind == "tls"
    assert "protocol version" in result.outcome.detail.lower().replace("_", " ")


async def test_a_plain_address_is_a_wrong_recipe(lab):
    result = await lab.probe("http://127.0.0.1:1/v1", "tls")
    assert (result.outcome.kind, result.phases) == ("probe_invalid", {})
