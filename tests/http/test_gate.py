"""What is counted of all that comes in."""

from balancer.http.gate import Gate
from balancer.http.limits import Limits
from balancer.service.log import silent


def test_every_reason_is_there_before_it_happens_and_counted_when_it_does() -> None:
    gate = Gate(Limits(), silent())
    assert gate.counts()._asdict() == {
        "connections": 0,
        "evicted": 0,
        "timeouts": {"first_byte": 0, "header": 0, "body": 0, "answer": 0},
        "unauthorized": {"no_token": 0, "unknown_token": 0, "no_scope": 0, "web_page": 0},
        "body_bytes": 0,
        "bodies_refused": 0,
    }
    gate.lost_patience("body")
    gate.turned_away("no_scope")
    gate.bodies.begin().grow(10)
    counts = gate.counts()
    assert (counts.timeouts["body"], counts.unauthorized["no_scope"], counts.body_bytes) == (1, 1, 10)
