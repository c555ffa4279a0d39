"""`balancer probe` against servers that a test holds in its hand; the rest of the verb is in `test_verbs`."""

import asyncio
import json
import re
import ssl
import time
from pathlib import Path

import pytest

PEM = Path(__file__).parents[1] / "probing" / "self_signed.pem"
CONFIG = """
providers:
  near: {{base_url: "https://127.0.0.1:{port}/v1"}}
  idle: {{base_url: "http://127.0.0.1:1/v1"}}
models:
  acme/large:
    endpoints:
      - {{provider: near, model: large, probe: {{kind: tls, ca_file: {pem}}}}}
      - {{provider: idle, model: large, probe: {{kind: {idle}}}}}
"""


@pytest.fixture
async def tls_port():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)

    async def hold(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_the_days_of_a_certificate_are_a_column_where_one_was_met(command, tmp_path, tls_port):
    (tmp_path / "balancer.yaml").write_text(CONFIG.format(port=tls_port, pem=PEM, idle="none"))
    ran = await command("probe", "--all")
    assert (ran.status, ran.err) == (0, "")
    header, near, idle = ran.out.splitlines()
    assert header.split()[-3:] == ["COST", "CERTIFICATE", "DETAIL"]
    assert near.split()[:3] == ["acme/large@near", "tls", "success"]
    found = re.search(r"— +(\d+) days +TLSv1\.\d \S+; the certificate ends in (\d+) days$", near)
    assert found is not None, near
    assert found[1] == found[2]
    assert idle.split()[:4] == ["acme/large@idle", "—", "not", "probed"]
    assert re.search(r"not probed +(— +)+probe\.kind is none$", idle) is not None
    assert idle.index("probe.kind") == near.index("TLSv1") == header.index("DETAIL")
    facts = json.loads((await command("probe", "acme/large@near", "--json")).out)["probes"][0]
    assert round((facts["certificate_expires"] - time.time()) / 86_400) == int(found[1])


async def test_without_a_certificate_there_is_no_such_column(command, tmp_path, tls_port):
    (tmp_path / "balancer.yaml").write_text(CONFIG.format(port=tls_port, pem=PEM, idle="tcp"))
    ran = await command("probe", "acme/large@idle")
    assert ran.status == 1
    assert ran.out.splitlines()[0].split()[-2:] == ["COST", "DETAIL"]
