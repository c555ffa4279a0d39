"""A secret leaves only by its one door."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

from balancer.config import Sealed, Secret

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


SEALED = Sealed("ops-token-123456")


def test_what_is_sealed_can_be_compared_and_never_read() -> None:
    assert Sealed("ops-token-123456") == SEALED
    assert len({SEALED, Sealed("ops-token-123456")}) == 1
    for other in ("ops-token-12345", "ops-token-1234567", "", "Ops-token-123456", "\udcff"):
        assert Sealed(other) != SEALED
    assert SEALED != "ops-token-123456"
    assert not hasattr(SEALED, "reveal")
    for text in (str(SEALED), repr(SEALED), f"{SEALED}", f"{SEALED!r:>40}", repr([SEALED])):
        assert "123456" not in text
    with pytest.raises(TypeError, match="a secret is not pickled"):
        pickle.dumps(SEALED)


def test_the_digest_of_one_process_says_nothing_in_another() -> None:
    asked = "from balancer.config import Sealed; print(hash(Sealed('ops-token-123456')))"
    told = {
        subprocess.run(
            [sys.executable, "-c", asked],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        ).stdout
        for _ in range(2)
    }
    assert len(told) == 2
