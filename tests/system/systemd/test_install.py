"""The README's commands, typed as they stand there, on a machine where nothing was installed before."""

from __future__ import annotations

import pytest

from balancer.config import parse_config


@pytest.fixture(scope="module")
def typed(machines, installed, installation):
    """A second machine: what pip brought is there already, all else is typed."""
    with machines({str(installation): "/srv/installed"}) as (machine, readme):
        machine.run("cp", "--archive", "/srv/installed", "/opt/balancer")
        yield machine, readme


def test_it_is_installed_looked_at_upgraded_and_removed_without_a_trace(typed, blocks):
    machine, readme = typed
    before = {str(path) for path in files(machine)}
    install, keys, look, upgrade, remove = blocks

    for line in install:
        if "/opt/balancer" not in line:
            readme.type(line)
    assert machine.shown("balancer.service", "ActiveState") == "active"
    assert machine.systemctl("is-enabled", "balancer.socket", "balancer.service").stdout.split() == ["enabled"] * 2

    readme.type(keys[0], text="sk-pasted\n")
    readme.type(keys[1])
    key = machine.path("/etc/balancer/credentials/openai")
    assert (key.read_text(), oct(key.stat().st_mode & 0o777)) == ("sk-pasted\n", "0o600")

    assert "active (running)" in readme.type(look[0])
    assert look[1].endswith(" --follow")  # which never ends
    assert "daemon.ready" in readme.type(look[1].removesuffix(" --follow"))
    table = readme.type(look[2])
    assert "openai/gpt-4.1" in table
    assert "key_azure-eastus2: No such file or directory" in table
    assert "key_openai" not in table

    for line in upgrade:
        if "/opt/balancer" not in line:
            readme.type(line)
    assert machine.shown("balancer.service", "ActiveState") == "active"

    for unit in ("balancer.service", "balancer.socket"):  # as `systemctl edit` does
        machine.write(f"/etc/systemd/system/{unit}.d/override.conf", "[Unit]\nDescription=mine\n")
    for line in remove:
        readme.type(line)
    assert machine.systemctl("is-active", "balancer.socket", "balancer.service", check=False).returncode != 0
    left = {path for path in map(str, files(machine)) if path not in before}
    assert left == set()
    assert machine.systemctl("list-unit-files", "balancer*", "--no-legend", check=False).stdout == ""


def files(machine):
    """All that could have been left behind; `/opt/balancer` itself was put there by the test."""
    for folder in ("/etc", "/opt", "/var/lib", "/run/balancer", "/usr/local", "/usr/lib/systemd"):
        yield from machine.path(folder).rglob("*balancer*")


def test_the_shipped_configuration_is_good_and_keeps_keys_out(project):
    text = (project / "deploy/systemd/balancer.yaml").read_text()
    config = parse_config(text, source="balancer.yaml", environ={"CREDENTIALS_DIRECTORY": "/nowhere"})
    assert {each.misconfigured for each in config.endpoints.values()} == {
        "systemd credential key_openai: No such file or directory",
        "systemd credential key_azure-eastus2: No such file or directory",
    }
