"""The units as systemd's own tools judge them, without a machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
EXPOSURE_MAX = 12  # tenths: what Debian's redis-server has, the best of its kind; a bare unit has 96


@pytest.fixture
def units(needs, tmp_path):
    """A folder with the units, whose program is one that exists here."""
    needs("systemd-analyze")
    program = shutil.which("true")
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        text = re.sub(r"(?m)^(Exec\w+=[-+!@:]*)/opt/balancer/bin/\S+", rf"\1{program}", path.read_text())
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(folder, *words):
    """What systemd-analyze says of the units in a folder, and its exit status."""
    paths = sorted(str(path) for path in folder.iterdir() if path.suffix in (".service", ".socket"))
    argv = ["systemd-analyze", "--no-pager", *words, *paths]
    environ = {**os.environ, "SYSTEMD_LOG_LEVEL": "info", "SYSTEMD_LOG_TARGET": "console"}
    done = subprocess.run(
        argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, env=environ
    )
    return done.returncode, done.stdout


# An unknown key or value is only "ignored" for systemd, with exit status 0: so any word is a failure here.
def test_verify_has_nothing_to_say(units):
    assert analyze(units, "verify", "--man=no", "--recursive-errors=yes") == (0, "")


@pytest.mark.parametrize("line", ["WatchdogSecs=20s", "Type=notify-later", "ExecReload=/no/such/program"])
def test_verify_would_tell_a_slip(units, line):
    path = units / "balancer.service"
    path.write_text(path.read_text().replace("[Service]\n", f"[Service]\n{line}\n"))
    assert analyze(units, "verify", "--man=no", "--recursive-errors=yes") != (0, "")


def test_the_exposure_is_that_of_the_best(units):
    (units / "balancer.socket").unlink()  # only services are judged
    status, said = analyze(units, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}")
    assert status == 0, said
    assert "Overall exposure level for balancer.service: 1.1 OK" in said


def test_a_unit_without_the_filter_of_system_calls_would_not_pass(units):
    (units / "balancer.socket").unlink()
    path = units / "balancer.service"
    path.write_text(re.sub(r"(?m)^SystemCallFilter=.*\n", "", path.read_text()))
    assert analyze(units, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}")[0] != 0
