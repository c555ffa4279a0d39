"""The table of `balancer status --since`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from balancer.cli.past import page


def series(endpoint: str, **point: Any) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "model": endpoint.partition("@")[0],
        "ejections": 2,
        "outage_longest": 300.0,
        "points": [{"start": 0, "outcomes": {}, "uptime": {}, "latency": {}, **point}],
    }


BUSY = series(
    "acme/large@a",
    outcomes={
        "report": {
            "success": 9990, "timeout": 3, "server_error": 5, "reset": 1, "tls": 1, "rate_limited": 7,
            "cancelled": 4,
        },
        "probe": {"connect": 3},
    },
    uptime={"report": {"requests": 0.999, "minutes": 1.0, "minutes_counted": 60}, "probe": {"requests": 0.0}},
    latency={"report": {"p50": 0.52, "p75": 0.7, "p90": 1.4, "p99": 9.0}},
)  # fmt: skip
IDLE = {
    **series(
        "acme/large@b",
        outcomes={"probe": {"success": 4, "connect": 1}, "report": {"caller_error": 9}},
        uptime={"probe": {"requests": 0.8, "minutes": None, "minutes_counted": 0}},
    ),
    "ejections": 0,
    "outage_longest": 0.0,
}
GONE = {**series("acme/small@a"), "points": [], "ejections": 0, "outage_longest": 0.0}


def test_each_model_has_a_table_out_of_reports_where_any_counted_else_out_of_probes() -> None:
    assert page({"series": [BUSY, IDLE, GONE]}).splitlines() == [
        "acme/large",
        "ENDPOINT   OF         UPTIME   BY MINUTE   CALLS       p50     p90   EJECTED   LONGEST OUT   FAILURES",
        (
            "a          reports   99.90 %    100.00 %   10011   0.520 s   1.4 s         2         5 min   "
            "7 rate_limited, 5 server_error, 3 timeout, 2 others"
        ),
        "b          probes    80.00 %           —       5         —       —         0             —   1 connect",
        "",
        "acme/small",
        "ENDPOINT   OF       UPTIME   BY MINUTE   CALLS   p50   p90   EJECTED   LONGEST OUT   FAILURES",
        "a          probes        —           —       0     —     —         0             —   —",
    ]


def test_where_nothing_was_kept_that_is_said() -> None:
    assert page({"series": []}) == "nothing was kept of that time"


def test_an_outcome_that_only_a_newer_daemon_knows_is_no_failure() -> None:
    text = page({"series": [series("m@a", outcomes={"report": {"success": 1, "melted": 2}})]})
    assert text.splitlines()[2].split()[-2:] == ["min", "—"]


class Daemon(BaseHTTPRequestHandler):
    """Answers as a daemon would."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        refused = {"error": {"code": 503, "message": "no history is kept", "metadata": {}}}
        body = json.dumps(refused if "model=off" in self.path else {"series": [BUSY]}).encode()
        self.send_response(503 if "model=off" in self.path else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *told: object) -> None:
        """Say nothing."""


@pytest.fixture
def daemon() -> Iterator[tuple[str, list[str]]]:
    """An address, and what was asked there."""
    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Told", (Daemon,), {"asked": asked}))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


async def test_the_verb_asks_for_all_in_one_step(command: Any, daemon: tuple[str, list[str]]) -> None:
    url, asked = daemon
    ran = await command("status", "acme/large", "--since", "24h", "--url", url)
    assert (ran.status, ran.out, ran.err) == (0, page({"series": [BUSY]}) + "\n", "")
    assert asked == ["/v1/history?since=24h&step=whole&model=acme/large"]
    told = await command("status", "--since", "24h", "--url", url, "--json")
    assert json.loads(told.out) == {"series": [BUSY]}


async def test_a_daemon_without_a_history_says_why(command: Any, daemon: tuple[str, list[str]]) -> None:
    ran = await command("status", "off", "--since", "24h", "--url", daemon[0])
    assert (ran.status, ran.out, ran.err) == (1, "", "balancer: no history is kept\n")
