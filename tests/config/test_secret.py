"""A secret leaves only by its one door."""

from __future__ import annotations

import pickle

import pytest

from balancer.config import Secret

SECRET = Secret("sk-live-123456")


def test_it_never_prints() -> None:
    for text in (str(SECRET), repr(SECRET), f"{SECRET}", f"{SECRET:>40}", repr([SECRET]), SECRET.fingerprint):
        assert "123456" not in text


def test_it_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="a secret is not pickled"):
        pickle.dumps(SECRET)


def test_equal_secrets_are_equal_and_have_one_fingerprint() -> None:
    other = Secret("sk-live-123456")
    assert (other == SECRET, SECRET.fingerprint == other.fingerprint, len({SECRET, other})) == (True, True, 1)
    assert Secret("x") != SECRET
    assert SECRET.matches("sk-live-123456")
    assert not SECRET.matches("sk-live-12345")
    assert SECRET.reveal() == "sk-live-123456"
