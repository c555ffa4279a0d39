"""The installed service on a real systemd: it starts, reloads, restarts, dies and stops as its unit says."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

STOP_MAX = 3.0  # s; the promise
RATE = 50  # requests a second over a restart
DRAINED = 600  # s
RELOADS = 20
MODELS = 300  # so many take a tenth of a second to read: who did not wait for that would be seen
WATCHDOG = 2  # s; the unit's is 20
UNIT = "balancer.service"
SOCKET_DROP_IN = "/etc/systemd/system/balancer.socket.d/test.conf"
MOVED = "127.0.0.1:8791"
DRAIN = ("/opt/balancer/bin/balancer", "drain", "acme/large@here", "--url")
MOVES = 2  # there and back; the socket and the service were in each other's way more often than not
# A line of a .pth file is run by every Python that starts there: on a signal its main thread, which has the loop,
# stands still, while all other threads go on.
STANDS_STILL = 'import signal; signal.signal(signal.SIGUSR2, lambda *_: __import__("time").sleep(600))\n'
UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
HANGING = """
providers:
  here: {base_url: "http://127.0.0.1:9000/v1", credential: {credential: key_here}}
  mute: {base_url: "http://127.0.0.1:9001/v1"}
  keyless: {base_url: "http://127.0.0.1:9000/v1", credential: {credential: key_nowhere}}
  nameless: {base_url: "http://no.such.name.invalid/v1"}
models:
  acme/large:
    endpoints:
      - {provider: here, model: large}
      - {provider: mute, model: large, probe: {interval: 30s, timeout: 10s}}
      - {provider: keyless, model: large}
      - {provider: nameless, model: large, probe: {interval: 30s, timeout: 10s}}
probe: {interval: 1s, timeout: 1s}
"""


def generation(service):
    """Which configuration is in force."""
    return service.ask("/-/ready")[1]["config_generation"]


def endpoint(service, name="here"):
    """What is known of an endpoint."""
    return service.ask(f"/v1/endpoint?id=acme/large@{name}")[1]


def events(service, cursor, name):
    """The daemon's events of one name after a place in the journal.

    Shape: sorted out here, as journalctl 252 skips the first entry after a cursor that it does not match itself.
    """
    return [entry for entry in service.said("--after-cursor", cursor) if entry.get("BALANCER_EVENT") == name]


def assert_each_reload_is_in_force(service):
    """Reload again and again a configuration that takes a while to read; what was in force when each returned."""
    more = "{endpoints: [{provider: here, model: large, probe: {kind: none}}]}"
    models = "".join(f"  acme/m{number}: {more}\n" for number in range(MODELS))
    config = service.machine.path("/etc/balancer/balancer.yaml").read_text()
    service.configure(config.replace("models:\n", f"models:\n{models}"))
    pid, before = service.pid(), generation(service)
    said = service.machine.run(*service.client("reload", str(RELOADS)), timeout=60.0).stdout
    assert json.loads(said) == [[before + turn, turn] for turn in range(1, RELOADS + 1)]
    assert service.pid() == pid


@contextmanager
def without_the_socket_unit(service):
    """Let the daemon bind its own address, as on a machine where the socket unit is masked."""
    machine = service.machine
    machine.systemctl("stop", UNIT, "balancer.socket")
    machine.run("mv", "/etc/systemd/system/balancer.socket", "/srv/balancer.socket")
    machine.systemctl("mask", "balancer.socket")
    try:
        yield
    finally:
        machine.systemctl("stop", UNIT)
        machine.systemctl("unmask", "balancer.socket")
        machine.run("mv", "/srv/balancer.socket", "/etc/systemd/system/balancer.socket")
        machine.systemctl("daemon-reload")


def test_systemd_itself_has_nothing_to_say_of_the_installed_units(service):
    """As `test_units.py`, by the systemd of the machine, with the true program in its place."""
    units = ["/etc/systemd/system/balancer.service", "/etc/systemd/system/balancer.socket"]
    said = service.machine.run("systemd-analyze", "--no-pager", "verify", "--man=no", *units)
    assert said.stdout + said.stderr == ""


# ---- start -------------------------------------------------------------------------------------------


def test_it_is_started_when_it_answers_and_says_in_numbers_how_it_is(service):
    assert service.shown("ActiveState") == "active"
    assert service.shown("Type") == "notify"
    status, answer = service.ask("/-/ready")
    assert (status, answer["ready"]) == (200, True)
    service.machine.until(lambda: endpoint(service)["state"] == "healthy", "the provider was probed")
    service.machine.until(
        lambda: re.search(r"\d", service.shown("StatusText")) is not None, "a status with numbers"
    )
    assert "1" in service.machine.systemctl("status", UNIT, "--no-pager").stdout


def test_a_start_waits_for_ready_where_no_socket_unit_holds_the_address(service):
    with without_the_socket_unit(service):
        service.machine.systemctl("start", UNIT)
        # It was bound when `start` returned: an unbound port would have refused.
        assert service.ask("/-/ready")[0] == 200
        addresses = [entry["MESSAGE"] for entry in service.said("BALANCER_EVENT=daemon.ready")]
        assert "127.0.0.1:8790" in addresses[-1]


def test_no_missing_key_and_no_silent_provider_keeps_the_start_waiting(service):
    service.configure(HANGING)
    began = time.monotonic()
    service.machine.systemctl("restart", UNIT)
    assert time.monotonic() - began < 8.0  # a probe of the silent one takes 10 s
    assert service.ask("/-/ready")[1]["first_picture"] is False
    reason = endpoint(service, "keyless")["reason"]
    assert reason == "systemd credential key_nowhere: No such file or directory"
    service.machine.until(lambda: endpoint(service)["state"] == "healthy", "the good one is probed meanwhile")


def test_a_credential_reaches_the_provider_and_nobody_else(service):
    service.machine.until(lambda: endpoint(service)["state"] == "healthy", "the provider was probed")
    assert "Bearer sk-here-1-and-long-enough" in service.keys_seen()
    said = "".join(str(entry.get("MESSAGE")) for entry in service.said())
    assert "sk-here" not in said + json.dumps(service.ask("/v1/config")[1])
    environment = service.machine.run("cat", f"/proc/{service.pid()}/environ").stdout
    assert "sk-here" not in environment


def test_a_changed_key_is_read_by_a_restart(service):
    service.machine.write("/etc/balancer/credentials/here", "sk-here-2-and-long-enough\n", 0o600)
    try:
        service.machine.systemctl("restart", UNIT)
        service.machine.until(
            lambda: "Bearer sk-here-2-and-long-enough" in service.keys_seen(), "the new key is shown"
        )
    finally:
        service.machine.write("/etc/balancer/credentials/here", "sk-here-1-and-long-enough\n", 0o600)


def test_a_configuration_that_is_refused_at_the_start_is_told_and_not_tried_again(service):
    service.machine.systemctl("stop", UNIT, "balancer.socket")
    cursor = service.cursor()
    service.configure("providers: 7\n")
    assert service.machine.systemctl("start", UNIT, check=False).returncode == 1
    service.machine.until(lambda: service.shown("ActiveState") == "failed", "it has given up")
    assert (service.shown("ExecMainStatus"), service.shown("NRestarts")) == ("1", "0")
    said = "\n".join(str(entry["MESSAGE"]) for entry in service.said("--after-cursor", cursor))
    assert "balancer.yaml:1: providers: " in said


@contextmanager
def asking(service):
    """Somebody who asks all the time, until the end."""
    service.machine.run("systemd-run", "--collect", "--unit=asking", *service.client("load", "600", "20"))
    try:
        yield
    finally:
        service.machine.systemctl("stop", "asking")


def both(service, name):
    """A property of the two units."""
    return service.shown(name), service.shown(name, "balancer.socket")


@pytest.mark.parametrize("where", ["README.md", "deploy/prometheus/README.md"])
def test_what_was_refused_again_and_again_and_given_up_is_begun_by_our_own_words(service, project, where):
    text = " ".join((project / where).read_text().split())
    word = re.search(r"`(systemctl reset-failed [^`]+)` and (?:a (start)|`systemctl (restart) balancer`)", text)
    assert word is not None
    good = service.machine.path("/etc/balancer/balancer.yaml").read_text()
    service.machine.systemctl("stop", UNIT)
    service.override("[Unit]\nStartLimitBurst=3\n")
    service.configure("providers: 7\n")
    cursor = service.cursor()
    with asking(service):
        failed = ("failed", "failed")
        service.machine.until(lambda: both(service, "ActiveState") == failed, "both are given up", within=30.0)
        assert both(service, "Result") == ("exit-code", "service-start-limit-hit")
        said = [str(entry["MESSAGE"]) for entry in service.said("--after-cursor", cursor)]
        assert sum("balancer.yaml:1: providers: " in each for each in said) == 3
        service.configure(good)
        service.machine.run("bash", "-ec", f"{word[1]}; systemctl {word[2] or word[3]} balancer")
        for _ in range(2):
            assert service.ask("/-/ready")[0] == 200
            # Without its socket it would serve all the same, and the next restart would refuse.
            assert both(service, "ActiveState") == ("active", "active")
            service.machine.systemctl("restart", UNIT)


def test_what_dies_is_begun_again_without_an_end_also_where_somebody_waits(service):
    limits = [service.shown(name) for name in ("StartLimitBurst", "StartLimitIntervalUSec", "RestartUSec")]
    assert limits == ["20", "40s", "2s"]  # never more than 19 starts
    service.override("[Unit]\nStartLimitBurst=4\nStartLimitIntervalSec=6s\n")  # 3
    with asking(service):
        for _ in range(5):
            pid = service.pid()
            service.machine.systemctl("kill", "--signal=KILL", UNIT)
            service.machine.until(lambda pid=pid: service.pid() not in (0, pid), "it is back", within=30.0)
            service.machine.until(lambda: service.shown("ActiveState") == "active", "it is ready", within=30.0)
        assert both(service, "ActiveState") == ("active", "active")


# ---- reload ------------------------------------------------------------------------------------------


def test_a_reload_with_a_broken_file_fails_and_the_old_configuration_answers(service):
    pid, before = service.pid(), generation(service)
    service.configure("providers: {here: {base_url: 'http://127.0.0.1:9000', wieght: 1}}\nmodels: {}\n")
    cursor = service.cursor()
    assert service.machine.systemctl("reload", UNIT, check=False).returncode == 1
    assert (service.shown("ActiveState"), service.pid()) == ("active", pid)
    assert generation(service) == before
    assert service.ask("/v1/best-provider?model=acme/large")[1]["selected"]["provider"] == "here"
    said = "\n".join(str(entry["MESSAGE"]) for entry in service.said("--after-cursor", cursor))
    assert "wieght: unknown key" in said


def test_a_reload_that_returns_is_in_force_twenty_times_over(service):
    assert_each_reload_is_in_force(service)


def test_a_reload_needs_no_token_and_nobody_else_gets_in_without(service):
    config = service.machine.path("/etc/balancer/balancer.yaml").read_text()
    token = "auth: {tokens: [{name: proxy, scopes: [read], token: {credential: key_here}}]}\n"
    service.configure(config + token)
    service.machine.systemctl("reload", UNIT)
    assert service.ask("/-/reload", {})[0] == 401
    service.machine.systemctl("reload", UNIT)
    socket = "/run/balancer/control.sock"
    assert service.machine.run("stat", "--format=%a %F", socket).stdout == "600 socket\n"
    assert service.balancer("status", "--url", f"unix:{socket}").returncode == 0
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    refused = service.machine.run(
        *other, "/opt/balancer/bin/balancer", "status", "--url", f"unix:{socket}", check=False
    )
    assert "Permission denied" in refused.stderr


def test_systemd_can_reload_by_itself_and_waits_for_the_end_of_it(service):
    number = int(service.machine.systemctl("--version").stdout.split()[1])
    if number < 253:
        pytest.skip(f"systemd {number} has no Type=notify-reload; `newer.py` runs this on a newer one")
    service.override((UNITS / "notify-reload.conf").read_text())
    service.machine.systemctl("restart", UNIT)
    assert service.shown("Type") == "notify-reload"
    assert_each_reload_is_in_force(service)
    pid, before = service.pid(), generation(service)
    service.configure("providers: 7\n")
    service.machine.systemctl("reload", UNIT)  # the protocol has no word for "refused"
    assert (generation(service), service.pid()) == (before, pid)
    assert service.machine.systemctl("is-active", UNIT).stdout == "active\n"


# ---- restart -----------------------------------------------------------------------------------------


def test_a_restart_under_load_refuses_no_request(service):
    pid = service.pid()
    argv = service.machine.argv(*service.client("load", "5", str(RATE)))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=service.machine.environ()) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == "begun\n"
        time.sleep(1.0)  # the load goes on before, during and after the restart: this is the test's subject
        service.machine.systemctl("restart", UNIT)
        found = json.loads(load.stdout.read())
    assert service.pid() not in (0, pid)
    counts = found["counts"]
    closed = counts.pop("closed", 0)
    assert list(counts) == ["200"], found
    assert counts["200"] >= 4 * RATE
    assert closed <= 2, "each kept connection is closed once at the most"
    assert found["slowest"] < 10.0


def test_a_drain_survives_a_restart_and_is_as_much_shorter(service):
    service.balancer("drain", "here", "--for", f"{DRAINED}s", "--reason", "its disk is changed")
    before = endpoint(service)
    service.machine.systemctl("restart", UNIT)
    after = endpoint(service)
    assert (before["state"], after["state"]) == ("drained", "drained")
    assert "its disk is changed" in after["reason"]
    assert 0 < after["next_in"] < before["next_in"] <= DRAINED
    service.balancer("resume", "here")
    service.machine.systemctl("restart", UNIT)
    assert endpoint(service)["state"] != "drained"


def test_another_address_is_taken_by_the_readmes_words(service, project):
    text = " ".join((project / "README.md").read_text().split())
    command = re.search(r"another address is `systemctl edit balancer\.socket`, then `([^`]+)`", text)
    assert command is not None
    for _ in range(MOVES):
        service.machine.write(SOCKET_DROP_IN, f"[Socket]\nListenStream=\nListenStream={MOVED}\n")
        service.machine.systemctl("daemon-reload")  # as `edit` does
        service.machine.run("bash", "-ec", command[1])
        assert service.balancer("status", "--url", f"http://{MOVED}").returncode == 0
        service.machine.path(SOCKET_DROP_IN).unlink()
        service.machine.systemctl("daemon-reload")
        service.machine.run("bash", "-ec", command[1])
        assert service.ask("/-/ready")[0] == 200


def audited(service, path):
    """Drain as root and as another user through a unix socket; the token and the user that the audit names."""
    cursor = service.cursor()
    for user in ("0", "1234"):
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *DRAIN, f"unix:{path}"]
        service.machine.run(*words, environ={"BALANCER_TOKEN": "sk-here-1-and-long-enough"})
    service.machine.until(lambda: len(events(service, cursor, "operator.acted")) == 2, "both are told")
    told = events(service, cursor, "operator.acted")
    return [(entry.get("TOKEN"), entry["PEER"].partition(" pid ")[0]) for entry in told]


def test_on_a_unix_socket_the_audit_knows_root_and_else_names_of_tokens_alone(service):
    path = "/run/asked.sock"
    service.machine.write(SOCKET_DROP_IN, f"[Socket]\nListenStream=\nListenStream={path}\nSocketMode=0666\n")
    service.machine.systemctl("daemon-reload")
    service.machine.systemctl("stop", UNIT, "balancer.socket")
    nobody = "unix uid 65534"  # as SECURITY.md says
    try:
        service.machine.systemctl("start", "balancer.socket", UNIT)
        assert audited(service, path) == [(None, "unix uid 0"), (None, nobody)]
        config = service.machine.path("/etc/balancer/balancer.yaml").read_text()
        service.configure(
            f"{config}auth: {{tokens: [{{name: ops, scopes: [admin], token: {{credential: key_here}}}}]}}\n"
        )
        service.machine.systemctl("reload", UNIT)
        assert audited(service, path) == [("ops", "unix uid 0"), ("ops", nobody)]
    finally:
        service.machine.path(SOCKET_DROP_IN).unlink()
        service.machine.systemctl("daemon-reload")
        service.machine.systemctl("stop", UNIT, "balancer.socket")


# ---- trouble -----------------------------------------------------------------------------------------


@pytest.fixture(params=["STOP", "USR2"], ids=["the whole process", "the loop alone"])
def standstill(request, service):
    """A signal at which the daemon stands still."""
    (packages,) = service.machine.path("/opt/balancer/lib").glob("python3*/site-packages")
    hook = packages / "stands_still.pth"
    hook.write_text(STANDS_STILL)
    yield request.param
    hook.unlink()


def test_a_daemon_that_stands_still_is_killed_and_started_again(service, standstill):
    service.override(f"[Service]\nWatchdogSec={WATCHDOG}s\nRestartSec=100ms\n")
    service.machine.systemctl("restart", UNIT)
    pid, cursor = service.pid(), service.cursor()
    service.machine.systemctl("kill", "--kill-whom=main", f"--signal={standstill}", UNIT)
    began = time.monotonic()
    service.machine.until(lambda: service.pid() not in (0, pid), "another process runs", within=4 * WATCHDOG + 5)
    assert time.monotonic() - began >= WATCHDOG / 2  # it was the watchdog, and not a crash
    service.machine.until(lambda: service.shown("ActiveState") == "active", "it is ready again")
    assert service.shown("NRestarts") == "1"
    assert service.ask("/-/ready")[0] == 200
    said = "\n".join(str(entry["MESSAGE"]) for entry in service.said("--after-cursor", cursor))
    assert f"Watchdog timeout (limit {WATCHDOG}s)" in said
    assert "Current thread" in said  # where it stood, told by Python itself


def test_a_daemon_that_is_well_is_not_killed_by_the_watchdog(service):
    service.override(f"[Service]\nWatchdogSec={WATCHDOG}s\n")
    service.machine.systemctl("restart", UNIT)
    pid = service.pid()
    time.sleep(1.75 * WATCHDOG)  # the time in which it would be killed: this is the test's subject
    assert (service.pid(), service.shown("NRestarts")) == (pid, "0")


def test_a_daemon_that_is_killed_is_back_by_itself(service):
    pid = service.pid()
    service.machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", UNIT)
    # Who asks while nobody is there waits in the socket.
    status, answer = service.ask("/v1/best-provider?model=acme/large")
    assert status == 200, answer
    assert service.pid() not in (0, pid)
    assert service.shown("NRestarts") == "1"
    assert service.shown("ActiveState") == "active"


def test_the_sandbox_denies_nothing_that_the_daemon_does(service):
    # Without an error number a forbidden system call is the end, so none can hide in a caught exception.
    service.override("[Service]\nSystemCallErrorNumber=\n")
    cursor = service.cursor()
    service.configure(
        HANGING.replace("http://no.such", "https://no.such").replace("30s, timeout: 10s", "2s, timeout: 1s")
    )
    service.machine.systemctl("restart", UNIT)
    pid = service.pid()
    service.machine.until(lambda: service.ask("/-/ready")[1]["first_picture"], "all are probed", within=30.0)
    report = {"endpoint": "acme/large@here", "status": 200, "latency": 1.0}
    assert service.ask("/v1/reports", report)[0] == 200
    assert service.ask("/v1/probe", {"endpoint": "acme/large@here"})[0] == 200
    metrics = service.machine.run(*service.client("ask", "GET", "/metrics")).stdout
    assert metrics.startswith("200")
    for name in ("process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in metrics.replace("\\n", "\n")
    service.machine.systemctl("reload", UNIT)
    assert (service.pid(), service.shown("NRestarts")) == (pid, "0")
    service.machine.systemctl("stop", UNIT)
    assert (service.shown("Result"), service.shown("ExecMainStatus")) == ("success", "0")
    said = "\n".join(str(entry["MESSAGE"]) for entry in service.said("--after-cursor", cursor))
    for word in ("Operation not permitted", "Permission denied", "Read-only file system", "Cannot allocate"):
        assert word not in said


# ---- the journal -------------------------------------------------------------------------------------


def test_the_journal_holds_every_fact_as_a_field(service):
    cursor = service.cursor()
    service.balancer("drain", "here", "--reason", "a test of fields")
    service.balancer("resume", "here")
    # The log waits for no journal, so an entry may come a moment after the deed.
    service.machine.until(lambda: len(events(service, cursor, "operator.acted")) == 2, "both deeds are told")
    (entry,) = events(service, cursor, "endpoint.drained")
    found = {key: entry[key] for key in ("ENDPOINT", "MODEL", "STATE", "SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT")}
    assert found == {
        "ENDPOINT": "acme/large@here",
        "MODEL": "acme/large",
        "STATE": "drained",
        "SYSLOG_IDENTIFIER": "balancer",
        "_SYSTEMD_UNIT": UNIT,
    }
    assert entry["PRIORITY"] == "6"
    assert entry["MESSAGE"].startswith("endpoint.drained")
    assert "a test of fields" in entry["REASON"]
    assert [each["VERB"] for each in events(service, cursor, "operator.acted")] == ["drain", "resume"]


# ---- stop --------------------------------------------------------------------------------------------


def test_a_stop_is_quick_whatever_clients_hold_and_leaves_nothing(service):
    machine, cursor = service.machine, service.cursor()
    argv, pipe = machine.argv(*service.client("hold")), subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=machine.environ()) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "held\n"
        began = time.monotonic()
        machine.systemctl("stop", "balancer.socket", UNIT)
        took = time.monotonic() - began
    assert took < STOP_MAX
    assert service.shown("ActiveState") == "inactive"
    assert (service.shown("Result"), service.shown("ExecMainStatus")) == ("success", "0")
    assert service.shown("TasksCurrent") == "[not set]"
    assert not machine.path("/run/private/balancer").exists()
    assert not machine.path("/sys/fs/cgroup/system.slice/balancer.service").exists()
    said = "\n".join(str(entry["MESSAGE"]) for entry in service.said("--after-cursor", cursor))
    for word in ("timed out", "Killing", "left-over", "Failed"):
        assert word not in said
