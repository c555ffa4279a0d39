"""Whether anything answers at one target, asked in the way that its scheme says."""

import json

import pytest

from balancer.config import parse_config
from balancer.probing import probe


async def ask(lab, target, environ=None):
    """Check one target as a configuration names it."""
    tree = {
        "providers": {"a": {"base_url": "https://a.example"}},
        "models": {"x/y": {"endpoints": [{"provider": "a", "model": "m"}]}},
        "self_check": {"targets": [target], "timeout": "2s"},
    }
    config = parse_config(json.dumps(tree), source="t.yaml", environ={} if environ is None else environ)
    (look,) = config.lookouts.values()
    result = await probe(look.endpoint, look.settings, None, connections=lab.connections)
    assert result.bug is None
    assert result.outcome.shallow
    return result


@pytest.mark.parametrize("status", [200, 301, 404, 500, 503])
async def test_any_answer_of_a_server_shows_that_the_way_out_works(lab, status):
    server = await lab.serve(lambda seen: seen.answer(status))
    result = await ask(lab, f"http://127.0.0.1:{server.port}")
    assert (result.outcome.kind, result.outcome.status) == ("success", status)
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("HEAD", "/")
    assert "authorization" not in seen.headers


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_that_reached_nobody_is_no_answer(lab, status):
    server = await lab.serve(lambda seen: seen.answer(status))
    result = await ask(lab, f"http://127.0.0.1:{server.port}/generate_204")
    assert (result.outcome.kind, result.outcome.status) == ("connect", status)
    assert result.outcome.detail == f"a gateway answered {status}: it reached nobody"


async def test_each_check_opens_a_connection_of_its_own(lab):
    server = await lab.serve(lambda seen: seen.answer(204))
    for _ in range(2):
        assert "connect" in (await ask(lab, f"http://127.0.0.1:{server.port}/")).phases


async def test_a_port_is_enough(lab):
    server = await lab.serve(lambda seen: seen.answer(200))
    result = await ask(lab, f"tcp://127.0.0.1:{server.port}")
    assert (result.outcome.kind, set(result.phases)) == ("success", {"connect"})
    assert server.requests == []


async def test_a_closed_port_is_connect(lab, free_port):
    result = await ask(lab, f"tcp://127.0.0.1:{free_port()}")
    assert result.outcome.kind == "connect"


async def test_a_name_is_only_resolved(lab):
    result = await ask(lab, "dns://localhost")
    assert (result.outcome.kind, set(result.phases)) == ("success", {"resolve"})
    assert result.outcome.detail.startswith("localhost is ")
    gone = await ask(lab, "dns://nonexistent.invalid")
    assert gone.outcome.kind in ("dns", "local")


async def test_proxies_lead_to_urls_and_not_to_ports(lab, free_port):
    environ = {"HTTPS_PROXY": f"http://192.0.2.1:{free_port()}", "HTTP_PROXY": "socks5://192.0.2.1:1080"}
    result = await ask(lab, "http://192.0.2.9/", environ)
    assert result.outcome.kind == "probe_invalid"
    server = await lab.serve(lambda seen: seen.answer(200))
    assert (await ask(lab, f"tcp://127.0.0.1:{server.port}", environ)).outcome.kind == "success"
