"""The limits are those of the contract, and fit each other."""

from dataclasses import astuple

from balancer.http.limits import BODY_MAX, CHAT_BODY_MAX, LIMITS, REPORTS_BODY_MAX


def test_bodies_are_as_large_as_the_contract_says() -> None:
    assert CHAT_BODY_MAX == 32 * 2**20
    assert REPORTS_BODY_MAX == 8 * 2**20
    assert BODY_MAX < REPORTS_BODY_MAX


def test_every_patience_ends_and_an_idle_connection_has_the_longest() -> None:
    assert all(0 < each < 120 for each in astuple(LIMITS))
    assert max(astuple(LIMITS)) == LIMITS.idle
