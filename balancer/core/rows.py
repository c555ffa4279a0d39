"""Which rows a configuration needs: by key, so that what did not change keeps its evidence.

What this module does not know: everything of a table that is not in its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from balancer.core.history import OUT
from balancer.core.model import Catalog, enforced
from balancer.core.row import Row
from balancer.core.standing import standing
from balancer.core.telling import Teller


def follow(
    before: Catalog, after: Catalog, known: Mapping[str, Row], *, teller: Teller, random: Random, now: float
) -> tuple[dict[str, Row], set[str]]:
    """Build the rows of a configuration from those of the one before, and tell what comes and goes, or is out now.

    Shape: the rows, and the keys of those that are no longer what they were.
    """
    respan = after.health.windows != before.health.windows
    rows: dict[str, Row] = {}
    for key, endpoint in after.endpoints.items():
        row = known.get(key)
        if row is None or row.endpoint.identity != endpoint.identity:
            reason = "configured" if row is None else "address, model or credential changed"
            row = Row(endpoint, after.health, random=random, now=now)
            row.shown = row.state(now)  # of the others, what only time has changed is still to be told
            teller.endpoint(now, "endpoint.added", key, reason, row)
            if endpoint.misconfigured is not None:
                teller.endpoint(now, "endpoint.misconfigured", key, endpoint.misconfigured, row)
        else:
            row.configure(endpoint)
            if respan:
                row.forget_windows(after.health)
        rows[key] = row
    for key in known:
        if key not in rows:
            teller.endpoint(now, "endpoint.removed", key, "no longer configured", None)
    for row in rows.values():
        _enforce(row, after, teller, now)
    return rows, {key for key, row in known.items() if rows.get(key) is not row}


def _enforce(row: Row, after: Catalog, teller: Teller, now: float) -> None:
    """Say whether health chooses there, and tell it of who is out by health: an outage begins or ends with it."""
    chooses = enforced(after.models[row.endpoint.model], after.health)
    if chooses is row.enforced:
        return
    row.enforced = chooses
    if row.endpoint.misconfigured is None and row.state(now) in OUT:  # without its key it is out either way
        event = "endpoint.enforced" if chooses else "endpoint.watched"
        found = standing(row, now, after.health)
        teller.endpoint(now, event, row.endpoint.id, found.reason, row, next_at=found.next_at, enforced=chooses)
