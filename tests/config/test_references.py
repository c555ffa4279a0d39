"""Where secrets are, and why they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balancer.config.references import SECRET_MAX, Vault
from balancer.config.secret import Secret
from balancer.config.shape import SecretShape


def held(vault: Vault, reference: SecretShape) -> str:
    secret = vault.get(reference)
    return secret.reveal() if isinstance(secret, Secret) else f"no: {secret}"


def test_a_variable_holds_a_secret_without_its_line_break(tmp_path: Path) -> None:
    vault = Vault({"KEY": "sk-1\r\n", "EMPTY": "\n", "TWO": "a\nb", "WIDE": "schlüssel"}, tmp_path)
    assert held(vault, SecretShape(env="KEY")) == "sk-1"
    assert held(vault, SecretShape(env="EMPTY")) == "no: EMPTY is empty"
    assert held(vault, SecretShape(env="ABSENT")) == "no: ABSENT is not set"
    assert held(vault, SecretShape(env="TWO")) == "no: TWO holds a character that no HTTP header may have"
    assert held(vault, SecretShape(env="WIDE")) == "no: WIDE holds a character that no HTTP header may have"


def test_a_file_is_found_beside_the_configuration_or_by_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-2\n")
    vault = Vault({}, tmp_path)
    assert held(vault, SecretShape(file="key")) == "sk-2"
    assert held(vault, SecretShape(file=str(tmp_path / "key"))) == "sk-2"


def test_a_file_that_holds_no_secret_says_why(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_text("x" * (SECRET_MAX + 1))
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "empty").write_text("\n")
    os.mkfifo(tmp_path / "pipe")
    vault = Vault({}, tmp_path)
    assert held(vault, SecretShape(file="absent")) == "no: credential file absent: No such file or directory"
    assert held(vault, SecretShape(file="folder")) == "no: credential file folder: not a regular file"
    assert held(vault, SecretShape(file="pipe")) == "no: credential file pipe: not a regular file"
    assert held(vault, SecretShape(file="long")) == "no: credential file long: longer than 65536 bytes"
    assert held(vault, SecretShape(file="bytes")) == "no: credential file bytes: not UTF-8"
    assert held(vault, SecretShape(file="empty")) == "no: credential file empty is empty"


def test_a_systemd_credential_is_a_file_in_the_directory_that_systemd_names(tmp_path: Path) -> None:
    (tmp_path / "ops-token").write_text("t-1\n")
    vault = Vault({"CREDENTIALS_DIRECTORY": str(tmp_path)}, Path("/"))
    assert held(vault, SecretShape(credential="ops-token")) == "t-1"
    absent = held(vault, SecretShape(credential="absent"))
    assert absent == "no: systemd credential absent: No such file or directory"
    bare = held(Vault({}, tmp_path), SecretShape(credential="ops-token"))
    assert bare == "no: systemd credential ops-token: CREDENTIALS_DIRECTORY is not set"


def test_a_secret_is_read_once_for_all_who_ask(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("first")
    vault = Vault({}, tmp_path)
    before = vault.get(SecretShape(file="key"))
    path.write_text("second")
    assert vault.get(SecretShape(file="key")) is before


@pytest.mark.parametrize("text", ["sk-1", "x" * 60_000])
def test_what_it_gives_never_prints(tmp_path: Path, text: str) -> None:
    assert text not in repr(Vault({"KEY": text}, tmp_path).get(SecretShape(env="KEY")))
