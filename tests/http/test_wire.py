"""What the kernel holds of a connection, and how it ends one half of it."""

import socket

from balancer.http.wire import half_close, held


def test_what_was_sent_and_not_read_is_held() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert held(ours.fileno()) == 0
        theirs.sendall(b"hello")
        assert held(ours.fileno()) == 5
        ours.recv(3)
        assert held(ours.fileno()) == 2


def test_a_half_closed_connection_still_hears_and_its_file_stays_open() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        half_close(ours.fileno())
        assert theirs.recv(1) == b""
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        half_close(theirs.fileno())
        half_close(theirs.fileno())
        assert ours.recv(1) == b""
