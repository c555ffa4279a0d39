"""Names become addresses."""

import asyncio
import ipaddress
import socket
import threading

import pytest

from balancer.probing.failure import Failure
from balancer.probing.lookup import CHECK_EVERY, DOUBTED, LATELY, Names, literal, resolved
from balancer.probing.trace import Trace


async def no_room():
    return False


def names(lookup=socket.getaddrinfo, clock=lambda: 0.0):
    return Names(lookup, clock=clock, make_room=no_room)


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
        assert set(await resolved("localhost", 80, names(), trace, ip_version=version)) == expected
        return
    with pytest.raises(Failure) as caught:
        await resolved("localhost", 80, names(), trace, ip_version=version)
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
    assert await resolved("name.test", 443, names(lookup), trace, ip_version="4") == ["10.0.0.2", "10.0.0.1"]
    assert asked == [("name.test", 443, socket.AF_INET, socket.SOCK_STREAM)]
    assert trace.phase == "resolve"


async def test_a_name_without_an_address_is_dns():
    with pytest.raises(Failure) as caught:
        await resolved("name.test", 80, names(lambda *_, **__: []), Trace(clock=lambda: 0.0, credential=None))
    assert caught.value.kind == "dns"


PUBLIC = "1.1.1.1"  # those for documentation are no public ones


class Resolver:
    """A resolver that knows names in `.good`, hangs at some, and has no answer for the rest; and a clock."""

    def __init__(self):
        self.now = 1000.0
        self.let_go = threading.Event()
        self.address = PUBLIC
        self.asked = []

    def __call__(self, host, port, *, family, type):  # noqa: A002  # getaddrinfo's own word
        self.asked.append(host)
        if host.endswith(".silent"):
            self.let_go.wait()
        if not host.endswith(".good") and host != "localhost":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, type, 6, "", (self.address, port))]

    def clock(self):
        return self.now


async def failed(known, host, seconds=None):
    """How a lookup fails: as which kind, or whom a lookup blames that nobody waits for any more."""
    trace = Trace(clock=lambda: 0.0, credential=None)
    try:
        async with asyncio.timeout(seconds):
            await resolved(host, 80, known, trace)
    except Failure as failure:
        return failure.kind
    except TimeoutError:
        return trace.unresolved
    raise AssertionError("it was resolved")


@pytest.mark.parametrize(
    ("before", "later", "blamed"),
    [
        ([], 0.0, "local"),
        (["one.good"], 0.0, "dns"),
        (["one.good"], LATELY, "dns"),
        (["one.good", "two.good", "two.good"], 0.0, "dns"),
        (["localhost"], 0.0, "local"),  # needs no name server
    ],
)
async def test_who_is_to_blame_that_nobody_answers_for_a_name_is_told_by_other_names(before, later, blamed):
    resolver = Resolver()
    known = names(resolver, resolver.clock)
    for host in before:
        await resolved(host, 80, known, Trace(clock=lambda: 0.0, credential=None))
    resolver.now += later
    try:
        # However long the probe waits: what nobody answers, and what ends in SERVFAIL.
        assert await failed(known, "one.silent", seconds=0.01) == blamed
        assert await failed(known, "one.broken") == blamed
    finally:
        resolver.let_go.set()


async def test_a_name_that_was_found_before_is_no_other_name():
    resolver = Resolver()
    known = names(resolver, resolver.clock)
    known.found("one.broken", [PUBLIC])
    known.found("one.broken", [PUBLIC])
    assert await failed(known, "one.broken") == "local"
    known.found("two.good", [PUBLIC])
    known.found("one.broken", [PUBLIC])
    known.found("one.broken", [PUBLIC])
    assert await failed(known, "one.broken") == "dns"


@pytest.mark.parametrize(
    ("address", "blamed"),
    [
        ("172.17.0.1", "local"),  # Docker's host.docker.internal
        ("192.168.1.20", "local"),
        ("127.0.1.1", "local"),  # Debian's line for the machine itself
        ("fd00::1", "local"),
        ("fe80::1%eth0", "local"),
        ("100.100.3.4", "local"),  # a private network of Tailscale's
        (PUBLIC, "dns"),
        ("2606:4700:4700::1111", "dns"),
    ],
)
async def test_a_name_with_private_addresses_shows_nothing_of_the_worlds_name_servers(address, blamed):
    resolver = Resolver()
    resolver.address = address
    known = names(resolver, resolver.clock)
    await resolved("two.good", 80, known, Trace(clock=lambda: 0.0, credential=None))
    assert await failed(known, "one.broken") == blamed
    resolver.now += LATELY + 1.0
    assert await failed(known, "one.broken") == blamed


@pytest.mark.parametrize(("host", "seconds"), [("one.broken", None), ("one.silent", 2 * DOUBTED)])
async def test_where_no_other_name_was_found_lately_the_last_one_is_looked_up_again(host, seconds):
    resolver = Resolver()
    known = names(resolver, resolver.clock)
    await resolved("two.good", 80, known, Trace(clock=lambda: 0.0, credential=None))
    resolver.now += 10 * LATELY
    try:
        assert await failed(known, host, seconds) == "dns"
        assert resolver.asked == ["two.good", host, "two.good"]
    finally:
        resolver.let_go.set()


@pytest.mark.parametrize("other", ["two.broken", "two.silent"])
async def test_where_the_other_name_is_not_found_either_it_is_our_resolver_and_few_ask(other):
    resolver = Resolver()
    known = names(resolver, resolver.clock)
    known.found(other, [PUBLIC])
    resolver.now += LATELY + 1.0
    try:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(failed(known, "one.broken", 0.5), name="asks") for _ in range(20)]
        assert {task.result() for task in asked} == {"local"}
        assert resolver.asked.count(other) == 1
        resolver.now += CHECK_EVERY
        assert await failed(known, "one.broken", 0.5) == "local"
        assert resolver.asked.count(other) == 2
    finally:
        resolver.let_go.set()


async def test_a_name_that_does_not_exist_is_dns_whatever_was_found():
    def unknown(host, port, *, family, type):  # noqa: A002
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert await failed(names(unknown), "gone.test") == "dns"
