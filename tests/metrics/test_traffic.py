"""What comes in at the API, in families."""

from balancer.metrics.text import exposition
from balancer.metrics.traffic import traffic_families


def test_what_comes_in_is_written_down() -> None:
    families = traffic_families(
        connections=3,
        evicted=2,
        timeouts={"header": 1, "body": 0},
        unauthorized={"no_token": 4},
        body_bytes=65_536,
        bodies_refused=5,
    )
    lines = exposition(families, openmetrics=False).decode().splitlines()
    assert [each for each in lines if not each.startswith("#")] == [
        "balancer_http_connections 3",
        "balancer_http_connections_evicted_total 2",
        'balancer_http_timeouts_total{phase="header"} 1',
        'balancer_http_timeouts_total{phase="body"} 0',
        'balancer_http_unauthorized_total{reason="no_token"} 4',
        "balancer_http_body_bytes 65536",
        "balancer_http_bodies_refused_total 5",
    ]
