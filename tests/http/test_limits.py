"""The limits are those of the contract, and fit each other."""

import resource

from balancer.http.limits import BODY_MAX, CHAT_BODY_MAX, LIMITS, REPORTS_BODY_MAX, Limits, connections_max

TIMES = [name for name in LIMITS.__slots__ if name not in ("connections", "bodies")]


def test_bodies_are_as_large_as_the_contract_says() -> None:
    assert CHAT_BODY_MAX == 32 * 2**20
    assert REPORTS_BODY_MAX == 8 * 2**20
    assert BODY_MAX < REPORTS_BODY_MAX


def test_every_patience_ends_and_an_idle_connection_has_the_longest() -> None:
    patience = {name: getattr(LIMITS, name) for name in TIMES}
    assert all(0 < each < 120 for each in patience.values())
    assert max(patience.values()) == LIMITS.idle


def test_bodies_have_room_for_some_of_the_largest() -> None:
    assert LIMITS.bodies >= 4 * CHAT_BODY_MAX


def test_connections_leave_files_to_probes_and_to_ourselves() -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_max(Limits(connections=7)) == 7
    assert connections_max(Limits(connections=10**9)) == (10**9 if files < 0 else int(0.2 * files))
