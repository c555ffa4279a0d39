"""The runbook's own commands, on the installed service whose tokens and keys are systemd's credentials."""

from __future__ import annotations

import re

import pytest

GUARDED = """
auth: {tokens: [{name: proxy, scopes: [read], token: {credential: key_here}}]}
providers: {here: {base_url: "http://127.0.0.1:9000/v1", credential: {credential: key_here}}}
models: {acme/large: {endpoints: [{provider: here, model: "${UPSTREAM_MODEL}"}]}}
probe: {interval: 1s, timeout: 1s}
"""


@pytest.fixture(scope="module")
def first_minute(project):
    """The blocks of its first section: look, probe, and with the daemon's keys."""
    runbook = (project / "deploy" / "prometheus" / "README.md").read_text()
    found = re.search(r"(?ms)^## The first minute\n(.*?)^## ", runbook)
    assert found is not None
    look, probe, keys = re.findall(r"(?ms)^```sh\n(.*?)^```", found[1])
    return [
        text.replace("MODEL@TAG", "acme/large@here")
        .replace("ENDPOINT", "acme/large@here")
        .replace("MODEL", "acme/large")
        for text in (look, probe, keys)
    ]


@pytest.fixture
def guarded(service):
    """The service with tokens, its configuration in need of a credential and of a variable."""
    service.machine.write("/etc/balancer/environment", "UPSTREAM_MODEL=large\n")
    service.configure(GUARDED)
    service.machine.systemctl("restart", "balancer.service")
    service.machine.until(lambda: service.keys_seen() != [], "the provider was probed")
    yield service
    service.machine.run("rm", "/etc/balancer/environment")


def typed(service, text, *, check=True):
    """Type lines as root, each of which must succeed; what they print."""
    done = service.machine.run("bash", "-euc", text, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_first_look_needs_no_token_and_no_path(guarded, first_minute):
    look, probe, _ = first_minute
    assert guarded.ask("/v1/models")[0] == 401
    said = typed(guarded, f"{look}{probe}")
    assert "acme/large" in said
    assert "answer    here of acme/large" in said
    assert '"ready":true' in said
    assert '"outcome":"success"' in said


def test_the_check_and_the_probe_have_the_keys_of_the_unit(guarded, first_minute):
    _, _, keys = first_minute
    said = typed(guarded, keys)
    assert "/etc/balancer/balancer.yaml: good; 1 model, 1 endpoint at 1 provider\n" in said
    assert re.search(r"\b200\b", said)
    assert "sk-here" not in said
    guarded.configure(f"{GUARDED}wieght: 1\n")
    guarded.machine.systemctl("stop", "balancer.service", "balancer.socket")
    assert "wieght: unknown key" in typed(guarded, keys, check=False)
    plain = guarded.balancer("check", "-c", "/etc/balancer/balancer.yaml", check=False)
    assert "${UPSTREAM_MODEL} is not set" in plain.stdout  # so it takes more than that
