"""The ticker, and what is said of it."""

from math import inf

import pytest

from balancer import Balancer
from balancer.config import parse_config
from balancer.daemon.pulse import OVERDUE_MAX, STALL, Pulse
from balancer.service.log import silent

TEXT = """\
providers: {one: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/large: {endpoints: [{provider: one, model: large}]}}
"""


def pulse(balancer, **overdue):
    return Pulse(
        balancer,
        overdue={name: lambda _, seconds=seconds: seconds for name, seconds in overdue.items()},
        stretch=lambda: 1.0,
        lagged=lambda _: None,
        ticked=lambda: None,
        log=silent(),
    )


def test_before_the_first_tick_nothing_is_late():
    made = pulse(Balancer(parse_config(TEXT, source="test")))
    assert made.unwell(1e9) == []
    assert made.lag(1e9) == 0.0
    made.notice_stall(1e9)
    assert made.stalled == -inf


@pytest.mark.parametrize(("seconds", "late"), [(-5.0, False), (OVERDUE_MAX, False), (OVERDUE_MAX + 2, True)])
def test_a_schedule_that_is_behind_is_named(seconds, late):
    made = pulse(Balancer(parse_config(TEXT, source="test")), probes=seconds, lookouts=0.0)
    assert made.unwell(0.0) == (["probes has not run for 12 s"] if late else [])
    assert OVERDUE_MAX > STALL
