"""The table of `balancer status --since`."""

from __future__ import annotations

from typing import Any

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
