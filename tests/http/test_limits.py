"""The limits are those of the contract, and fit each other."""

import resource
from collections.abc import Iterator

import pytest

from balancer.http.limits import (
    BODY_MAX,
    CHAT_BODY_MAX,
    LIMITS,
    REPORTS_BODY_MAX,
    Limits,
    connections_max,
    file_max,
    handshakes_max,
    streams_max,
)

TIMES = [
    name for name in LIMITS.__slots__ if name not in ("connections", "handshakes", "streams", "spare", "bodies")
]


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


@pytest.fixture
def files() -> Iterator[object]:
    """Set how many files may be open, by `files(number)`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda number: resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("number", "connections", "handshakes", "streams", "file"),
    [
        (20_000, 4000, 256, 100, 20_000 - 16),
        (1024, 204, 51, 100, 1024 - 16),
        (100, 20, 5, 10, 100 - 12),
        (4, 1, 1, 1, 4),
    ],
)
def test_clients_leave_files_to_probes_and_to_ourselves(
    files: object, number: int, connections: int, handshakes: int, streams: int, file: int
) -> None:
    files(number)  # type: ignore[operator]
    found = (connections_max(LIMITS), handshakes_max(LIMITS), streams_max(LIMITS), file_max(LIMITS))
    assert found == (connections, handshakes, streams, file)


def test_fewer_may_be_allowed() -> None:
    few = Limits(connections=7, handshakes=2, streams=3, spare=0)
    assert (connections_max(few), handshakes_max(few), streams_max(few)) == (7, 2, 3)
    assert file_max(few) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
