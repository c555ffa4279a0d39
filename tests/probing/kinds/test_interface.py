"""What the kinds have in common."""

from typing import get_args

from balancer.config.settings import ProbeKind
from balancer.probing.kinds import KINDS
from balancer.probing.kinds.interface import good


def test_every_configurable_kind_but_none_can_be_run():
    assert set(KINDS) == set(get_args(ProbeKind)) - {"none"}


def test_what_makes_a_model_answer_is_deep_and_paid_and_nothing_else():
    assert {name for name, check in KINDS.items() if not check.shallow} == {"completion", "tools"}
    assert {name for name, check in KINDS.items() if check.paid} == {"completion", "tools"}


def test_good_statuses_are_the_2xx():
    assert [status for status in (199, 200, 204, 299, 300) if good(status)] == [200, 204, 299]
