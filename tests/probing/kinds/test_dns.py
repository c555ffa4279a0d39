"""Resolving a name, and nothing else."""

import pytest


async def test_a_name_with_an_address_is_a_shallow_success_that_names_it(lab):
    result = await lab.probe("https://localhost:1/v1", "dns")
    assert (result.outcome.kind, result.outcome.shallow) == ("success", True)
    assert result.outcome.detail.startswith("localhost is ")
    assert "127.0.0.1" in result.outcome.detail
    assert result.transcript[-1] == f"* success: {result.outcome.detail}"
    assert set(result.phases) == {"resolve"}
    assert result.address is None


async def test_an_unknown_name_is_dns_unless_the_resolver_itself_is_away(lab):
    result = await lab.probe("https://nonexistent.invalid/v1", "dns")
    assert result.outcome.kind in ("dns", "local")
    assert set(result.phases) == {"resolve"}


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]:8443"])
async def test_an_address_is_nothing_to_resolve(lab, host):
    result = await lab.probe(f"https://{host}/v1", "dns")
    assert result.outcome.kind == "probe_invalid"
    assert "nothing to resolve" in result.outcome.detail
    assert result.phases == {}
