"""The service as it is installed by the README, on a real systemd."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CHECKOUT = "/root/balancer"  # where a user has it; the service itself cannot look there
INSTALL_MAX = 100.0  # s; pip fetches a dozen packages, on two cores that others use too
PROVIDER_PORT = 9000  # inside, where nobody else has any
HIDDEN = ("/root", "/home", "/tmp", "/var/tmp", "/run/user")  # by ProtectHome= and PrivateTmp=
UNIT = "balancer.service"
CERTIFICATES = "/etc/ssl/certs"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/test.conf"

CONFIG = f"""
providers:
  here: {{base_url: "http://127.0.0.1:{PROVIDER_PORT}/v1", credential: {{credential: key_here}}}}
models:
  acme/large:
    endpoints:
      - {{provider: here, model: large}}
probe: {{interval: 1s, timeout: 1s}}
"""


def _module(name: str) -> ModuleType:
    # Beside the tests and no test: it is run as a program too, and imported by nobody else.
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


machine_module = _module("machine")


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def blocks() -> list[list[str]]:
    """The README's commands, block by block: install, keys, look, upgrade, remove."""
    found = re.search(r"(?ms)^## Install as a service\n(.*?)^## ", (ROOT / "README.md").read_text())
    assert found is not None
    return [text.strip().splitlines() for text in re.findall(r"(?ms)^```sh\n(.*?)^```", found[1])]


def python(machine: Any) -> str:
    """The Python that a user of that machine would take: Debian's, else the one of the tests.

    Shape: one that lives in a home is no place for a service, which would not see it.
    """
    debian = "/usr/bin/python3"
    able = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)"
    if machine.run(debian, "-c", able, check=False).returncode == 0:
        return debian
    own = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    hidden = [home for home in HIDDEN if own.is_relative_to(home)]
    if hidden != []:
        raise machine_module.MachineError(f"needs Debian's python3-venv (.ci/run brings it); {own} is hidden")
    return str(own)


class Readme:
    """Types the README's commands into a machine, in the folder of the project."""

    def __init__(self, machine: Any, python: str) -> None:
        self._machine = machine
        self._python = python

    def type(self, line: str, *, text: str | None = None) -> str:
        """One command as it stands there; what it printed.

        Shape: pip has the network outside, which the machine has not. `apt-get` is left out: what it brings is
        there already (`.ci/run` installs it).
        """
        if line.startswith("apt-get "):
            return ""
        path = os.pathsep.join([str(Path(self._python).parent), machine_module.PATH])
        done = self._machine.run(
            *("bash", "-ec", f"cd {CHECKOUT} && {line}"),
            text=text,
            environ={"PATH": path, "PIP_ROOT_USER_ACTION": "ignore"},
            check=False,
            online="/pip install" in line,
            timeout=INSTALL_MAX,
        )
        if done.returncode != 0:
            journal = self._machine.run("journalctl", "--unit", UNIT, "--no-pager", "--lines", "30").stdout
            pytest.fail(f"{line}\nended with {done.returncode}: {done.stdout}{done.stderr}\n{journal}")
        return str(done.stdout)


Machines = Callable[[Mapping[str, str]], AbstractContextManager[tuple[Any, Readme]]]


@pytest.fixture(scope="session")
def machines() -> Machines:
    """Boot a machine with this project in /root/balancer, and type the README into it: `with machines({}) as …`."""
    root = os.environ.get("BALANCER_TEST_ROOT", "/")

    @contextmanager
    def boot(binds: Mapping[str, str]) -> Iterator[tuple[Any, Readme]]:
        # pip there goes through this machine's network, so it must believe whom this machine believes.
        trust = {} if root == "/" else {CERTIFICATES: CERTIFICATES}
        try:
            with machine_module.boot(root=root, binds={**trust, **binds}) as machine:
                _copy_project(machine.path(CHECKOUT))
                yield machine, Readme(machine, python(machine))
        except machine_module.MachineError as error:
            if os.environ.get("CI"):
                pytest.fail(str(error))
            pytest.skip(str(error))

    return boot


def _copy_project(place: Path) -> None:
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "tests")
    shutil.copytree(ROOT, place, ignore=ignored)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What becomes /opt/balancer: a folder outside, so that a second machine may have it too."""
    folder = tmp_path_factory.mktemp("opt-balancer")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def installed(machines: Machines, installation: Path, blocks: list[list[str]]) -> Iterator[tuple[Any, Readme]]:
    """A machine on which the README's first block was typed; once a session."""
    with machines({str(installation): "/opt/balancer"}) as (machine, readme):
        for line in blocks[0]:
            readme.type(line)
        yield machine, readme


class Service:
    """The installed service and who asks it."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.python = "/opt/balancer/bin/python"

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> tuple[int, Any]:
        """Ask through the socket unit's address; the status and the decoded answer."""
        verb = ("GET" if body is None else "POST") if method is None else method
        words = ["ask", verb, path, *(() if body is None else (json.dumps(body),))]
        status, _, text = self.machine.run(*self.client(*words)).stdout.partition("\n")
        return int(status), json.loads(text)

    def keys_seen(self) -> list[str]:
        """The `Authorization` headers that reached the provider."""
        seen: list[str] = json.loads(self.machine.run(*self.client("seen")).stdout)
        return seen

    def client(self, *words: str) -> list[str]:
        """The argv of a program of clients.py."""
        return [self.python, "/srv/clients.py", *words]

    def balancer(self, *words: str, check: bool = True) -> Any:
        """Run a verb as root."""
        return self.machine.run("/opt/balancer/bin/balancer", *words, check=check)

    def configure(self, text: str) -> None:
        """Write the configuration; whoever reads it is told by the caller."""
        self.machine.write("/etc/balancer/balancer.yaml", text)

    def override(self, text: str) -> None:
        """Change the unit for this test."""
        self.machine.write(DROP_IN, text)
        self.machine.systemctl("daemon-reload")

    def shown(self, name: str, unit: str = UNIT) -> str:
        """A property of the unit."""
        return str(self.machine.shown(unit, name))

    def pid(self) -> int:
        """The daemon's process id inside; 0 where it does not run."""
        return int(self.shown("MainPID"))

    def said(self, *words: str) -> list[dict[str, Any]]:
        """The journal of the unit, entry by entry."""
        self.machine.run("journalctl", "--sync")
        done = self.machine.run("journalctl", "--unit", UNIT, "--output", "json", "--no-pager", *words)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def cursor(self) -> str:
        """The end of the journal."""
        text: str = self.machine.run("journalctl", "--show-cursor", "--lines", "0", "--quiet").stdout
        return text.rpartition("cursor: ")[2].strip()


@pytest.fixture(scope="session")
def furnished(installed: tuple[Any, Readme]) -> Service:
    """The service with a provider and clients inside."""
    machine, _ = installed
    service = Service(machine)
    for name in ("provider", "clients"):
        machine.write(f"/srv/{name}.py", (HERE / f"{name}.py").read_text())
    words = ["--collect", "--unit=provider", service.python, "/srv/provider.py", str(PROVIDER_PORT)]
    machine.run("systemd-run", *words)
    machine.write("/etc/balancer/credentials/here", "sk-here-1-and-long-enough\n", 0o600)
    return service


@pytest.fixture
def service(furnished: Service) -> Iterator[Service]:
    """The service as it is installed, freshly started with one provider; afterwards nothing was wrong with it."""
    machine = furnished.machine
    if machine.path(DROP_IN).exists():
        machine.path(DROP_IN).unlink()
        machine.systemctl("daemon-reload")
    machine.systemctl("reset-failed", check=False)
    furnished.configure(CONFIG)
    machine.systemctl("stop", UNIT, "balancer.socket")
    machine.run("find", "-L", "/var/lib/balancer", "-type", "f", "-delete")  # nobody's drain is another test's
    cursor = furnished.cursor()
    machine.systemctl("start", "balancer.socket", UNIT)
    yield furnished
    texts = [str(entry.get("MESSAGE", "")) for entry in furnished.said("--after-cursor", cursor)]
    assert [text for text in texts if "Traceback" in text or "crashed" in text] == []
