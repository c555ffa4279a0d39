"""Where a secret is → the secret, or why it is not there.

A reason names the variable, file or credential and never what was in it. Line breaks at the end are not part
of a secret: editors and `echo` leave them there.

What this module does not know: which endpoints need it; an absent secret is a fact here, not a mistake.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import UnsetType

from balancer.config.secret import Secret
from balancer.config.vocabulary import SecretShape

SECRET_MAX: Final = 65_536  # bytes: the longest tokens are some kilobytes, and a header holds no more


class Vault:
    """Reads secrets once each, for one load of one configuration."""

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self._environ = environ
        self._directory = directory
        self._read: dict[SecretShape, Secret | str] = {}

    def get(self, reference: SecretShape) -> Secret | str:
        """Give the secret, or the reason why there is none."""
        held = self._read.get(reference)
        if held is None:
            held = self._read[reference] = self._resolve(reference)
        return held

    def _resolve(self, reference: SecretShape) -> Secret | str:
        if not isinstance(reference.env, UnsetType):
            text = self._environ.get(reference.env)
            if text is None:
                return f"{reference.env} is not set"
            return _secret(text, reference.env)
        if not isinstance(reference.file, UnsetType):
            return _from_file(self._directory / reference.file, f"credential file {reference.file}")
        assert not isinstance(reference.credential, UnsetType)
        name = f"systemd credential {reference.credential}"
        folder = self._environ.get("CREDENTIALS_DIRECTORY")
        if folder is None or folder == "":
            return f"{name}: CREDENTIALS_DIRECTORY is not set"
        return _from_file(Path(folder) / reference.credential, name)


def _from_file(path: Path, name: str) -> Secret | str:
    try:
        # Without O_NONBLOCK a pipe would make a reload wait for a writer that may never come.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return f"{name}: not a regular file"
            content = os.read(number, SECRET_MAX + 1)
        finally:
            os.close(number)
    except OSError as error:
        return f"{name}: {error.strerror}"
    if len(content) > SECRET_MAX:
        return f"{name}: longer than {SECRET_MAX} bytes"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"{name}: not UTF-8"
    return _secret(text, name)


def _secret(text: str, name: str) -> Secret | str:
    text = text.rstrip("\r\n")
    if text == "":
        return f"{name} is empty"
    if not text.isascii() or not text.isprintable():
        return f"{name} holds a character that no HTTP header may have"
    return Secret(text)
