"""The table from exceptions to kinds."""

import errno
import socket
import ssl

import h11
import pytest

from balancer.probing.failure import Failure, of


@pytest.mark.parametrize(
    ("problem", "phase", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connect", "connect"),
        (OSError(errno.EHOSTUNREACH, "no route to host"), "connect", "connect"),
        (OSError(errno.ENETUNREACH, "network unreachable"), "connect", "local"),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), "connect", "local"),
        (OSError(errno.EMFILE, "too many open files"), "connect", "local"),
        (OSError(errno.EMFILE, "too many open files"), "resolve", "local"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "connect", "timeout"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "transfer", "timeout"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "resolve", "local"),
        (socket.gaierror(socket.EAI_SYSTEM, "system error"), "resolve", "local"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "resolve", "dns"),
        (socket.gaierror(socket.EAI_FAIL, "failed"), "resolve", "dns"),
        (UnicodeError("label too long"), "resolve", "dns"),
        (ssl.SSLError(1, "wrong version number"), "tls", "tls"),
        (ssl.SSLError(1, "alert certificate required"), "first_byte", "tls"),
        (ConnectionResetError(), "tls", "reset"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "first_byte", "reset"),
        (BrokenPipeError(errno.EPIPE, "broken pipe"), "first_byte", "reset"),
    ],
)
def test_what_a_network_can_do_has_one_kind(problem, phase, kind):
    failure = of(problem, phase=phase)
    assert failure is not None
    assert failure.kind == kind
    assert failure.detail


def test_a_broken_connection_is_stream_once_the_answer_began():
    failure = of(ConnectionResetError(errno.ECONNRESET, "reset"), phase="transfer", answered=True)
    assert failure is not None
    assert failure.kind == "stream"


def test_a_failure_stays_itself():
    failure = Failure("empty", "nothing", status=200)
    assert of(failure, phase=None) is failure


@pytest.mark.parametrize(
    ("problem", "phase"),
    [
        (ValueError("?"), "transfer"),
        (h11.LocalProtocolError("?"), "first_byte"),
        (UnicodeError("?"), "transfer"),
        (FileNotFoundError(errno.ENOENT, "no certificates"), None),
    ],
)
def test_what_a_network_cannot_do_is_a_bug(problem, phase):
    assert of(problem, phase=phase) is None
