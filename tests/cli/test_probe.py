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


async def test_what_is_probed_besides_endpoints_is_probed_by_its_id_and_with_all(command, tmp_path, models_server):
    text = f"""
providers: {{near: {{base_url: "{models_server}/v1", status_page: {{url: "{models_server}/v1/models"}}}}}}
models: {{acme/large: {{endpoints: [{{provider: near, model: large}}]}}}}
self_check: {{targets: ["tcp://{models_server.removeprefix("http://")}"]}}
"""
    (tmp_path / "balancer.yaml").write_text(text)
    ran = await command("probe", "--all")
    assert ran.status == 1
    rows = [line.split()[:3] for line in ran.out.splitlines()[1:]]
    target = f"self:tcp://{models_server.removeprefix('http://')}"
    assert rows == [
        ["acme/large@near", "models", "success"],
        ["status_page:near", "status_page", "malformed"],
        [target, "self", "success"],
    ]
    one = await command("probe", target)
    assert (one.status, len(one.out.splitlines())) == (0, 2)
    near = await command("probe", "status_page:neer")
    assert near.err == "balancer: no endpoint 'status_page:neer'; did you mean status_page:near?\n"
