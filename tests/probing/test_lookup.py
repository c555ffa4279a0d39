"""Names become addresses."""

import ipaddress
import socket

import pytest

from balancer.probing.failure import Failure
from balancer.probing.lookup import literal, resolved
from balancer.probing.trace import Trace


def known(host, family):
    """What this machine says of a name: one without IPv6 may know no such address of itself."""
    try:
        return {entry[4][0] for entry in socket.getaddrinfo(host, 80, family=family)}
    except socket.gaierror:
        return set()


@pytest.mark.parametrize(("version", "family"), [("4", socket.AF_INET), ("6", socket.AF_INET6)])
async def test_a_name_is_resolved_as_the_wanted_version(version, family):
    trace = Trace(clock=lambda: 0.0, credential=None)
    expected = known("localhost", family)
    if expected:
        assert set(await resolved("localhost", 80, socket.getaddrinfo, trace, ip_version=version)) == expected
        return
    with pytest.raises(Failure) as caught:
        await resolved("localhost", 80, socket.getaddrinfo, trace, ip_version=version)
    assert caught.value.detail.endswith(f"(as IPv{version}, by probe.ip_version)")


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", None)])
def test_a_literal_address_needs_no_lookup(host, address):
    assert literal(host) == (None if address is None else ipaddress.ip_address(address))


async def test_each_address_is_told_once_in_the_resolvers_order():
    asked = []

    def lookup(host, port, *, family, type):  # noqa: A002  # getaddrinfo's own word
        asked.append((host, port, family, type))
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]

    trace = Trace(clock=lambda: 0.0, credential=None)
    assert await resolved("name.test", 443, lookup, trace, ip_version="4") == ["10.0.0.2", "10.0.0.1"]
    assert asked == [("name.test", 443, socket.AF_INET, socket.SOCK_STREAM)]
    assert trace.phase == "resolve"


async def test_a_name_without_an_address_is_dns():
    with pytest.raises(Failure) as caught:
        await resolved("name.test", 80, lambda *_, **__: [], Trace(clock=lambda: 0.0, credential=None))
    assert caught.value.kind == "dns"
