"""What is asked of SQLite.

Theory of operation: a `CROSS JOIN` is done in the order in which it is written. For one endpoint or some, each
minute (or hour) of the span is searched for; for all, the span is read through. Places are named; their values are
never put into the text.

What this module does not know: what comes of the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Tier = Literal["minutes", "hours"]

_SPAN: Final = """
WITH RECURSIVE span (at) AS (SELECT :first UNION ALL SELECT at + :each FROM span WHERE at + :each < :last)
"""
_SUMS: Final = """
{span}
SELECT slot, endpoints.id, sources.name, kinds.name, bucket, count, prompt, completion, cost FROM (
  SELECT (t.start - :origin) / :step AS slot, t.endpoint AS endpoint, t.source AS source, t.kind AS kind,
    t.bucket AS bucket, sum(t.count) AS count, sum(t.prompt_tokens) AS prompt,
    sum(t.completion_tokens) AS completion, sum(t.cost) AS cost
  FROM {rows} {within}
  GROUP BY 1, 2, 3, 4, 5
) CROSS JOIN endpoints ON endpoints.id = endpoint CROSS JOIN sources ON sources.id = source
  CROSS JOIN kinds ON kinds.id = kind
"""
# A minute is judged by all of its outcomes; what is asked for is how many of a step were judged, and were good.
_MINUTES: Final = """
{span}
SELECT slot, endpoint, sources.name, sum(total >= :counted_min),
  sum(total >= :counted_min AND good >= :good_share * total)
FROM (
  SELECT (t.start - :origin) / :step AS slot, t.endpoint AS endpoint, t.source AS source,
    ifnull(sum(t.count) FILTER (WHERE kinds.counts = 'success'), 0) AS good,
    ifnull(sum(t.count) FILTER (WHERE kinds.counts IN ('success', 'failure')), 0) AS total
  FROM {rows} CROSS JOIN kinds ON kinds.id = t.kind {within}
  GROUP BY t.start, t.endpoint, t.source
) CROSS JOIN sources ON sources.id = source
GROUP BY 1, 2, 3
"""
_MINUTES_OF_HOURS: Final = """
{span}
SELECT (t.start - :origin) / :step AS slot, t.endpoint, sources.name, sum(t.counted), sum(t.good)
FROM {rows} CROSS JOIN sources ON sources.id = t.source {within}
GROUP BY 1, 2, 3
"""


def _made(text: str, table: str, *, some: bool) -> str:
    if not some:
        return text.format(span="", rows=f"{table} AS t", within="WHERE t.start >= :first AND t.start < :last")
    among = "t.endpoint IN (SELECT value FROM json_each(:endpoints))"
    return text.format(span=_SPAN, rows=f"span CROSS JOIN {table} AS t ON t.start = span.at AND {among}", within="")


SUMS: Final[Mapping[tuple[Tier, bool], str]] = {
    ("minutes", some): _made(_SUMS, "minutes", some=some) for some in (True, False)
} | {("hours", some): _made(_SUMS, "hours", some=some) for some in (True, False)}
"""Counts by step, endpoint, source, kind and latency bucket; by tier, and whether some endpoints are asked for."""

MINUTES: Final[Mapping[tuple[Tier, bool], str]] = {
    ("minutes", some): _made(_MINUTES, "minutes", some=some) for some in (True, False)
} | {("hours", some): _made(_MINUTES_OF_HOURS, "uptimes", some=some) for some in (True, False)}
"""Minutes that could be judged, and those that were good, by step, endpoint and source."""

_WITHIN: Final = """
FROM transitions LEFT JOIN endpoints ON endpoints.id = endpoint
WHERE at >= :since AND at < :until AND (
  NOT :some OR endpoint IN (SELECT value FROM json_each(:endpoints)) OR (endpoint IS NULL AND model = :model)
)
"""
OLDEST: Final[Mapping[Tier, str]] = {
    "minutes": "SELECT min(start) FROM minutes",
    "hours": "SELECT min(start) FROM hours",
}
ACTIVE: Final = "SELECT DISTINCT endpoint FROM hours WHERE start >= :first AND start < :last"
"""Who has counts in a span; every minute's are in its hour too."""

COUNT: Final = f"SELECT count(*) {_WITHIN}"
MOMENTS: Final = f"""
SELECT at, event, endpoints.name, model, provider, reporter, state, reason, next_at, enforced
{_WITHIN} AND transitions.id >= :first AND transitions.id <= :last ORDER BY transitions.id DESC LIMIT :most
"""

# What was told first comes first, whatever the clock said: one that was ahead and is set right would otherwise put
# an end before its beginning. By themselves `min` and `max` would walk along the ids; the index by time has both.
WITHIN: Final = """
SELECT
  ifnull((SELECT min(id) FROM transitions INDEXED BY transitions_by_time WHERE at >= :since), max(id) + 1),
  (SELECT max(id) FROM transitions INDEXED BY transitions_by_time WHERE at < :until)
FROM transitions
"""
"""The first transition from `since` on, and the last before `until`."""

# Where health is only watched nobody was out. Rows of a start without an endpoint end every outage, and so does the
# removal of an endpoint its own: it has no state any more.
CHANGES: Final = """
SELECT endpoint, at, CASE WHEN enforced THEN state END,
  event = 'endpoint.ejected' AND enforced AND at >= :since AND at < :until
FROM transitions
WHERE id >= :first AND id <= :last AND (
  (
    (state IS NOT NULL OR event = 'endpoint.removed')
    AND (NOT :some OR endpoint IN (SELECT value FROM json_each(:endpoints)))
  )
  OR (endpoint IS NULL AND event = 'daemon.started')
)
ORDER BY id
"""
STARTED: Final = """
SELECT max(id) FROM transitions WHERE endpoint IS NULL AND event = 'daemon.started' AND id < :first
"""
BEFORE: Final = """
SELECT t.endpoint, t.at, CASE WHEN t.enforced THEN t.state END
FROM json_each(:endpoints) AS asked CROSS JOIN transitions AS t ON t.id = (
  SELECT id FROM transitions
  WHERE endpoint = asked.value AND id > :started AND id < :first
    AND (state IS NOT NULL OR event = 'endpoint.removed')
  ORDER BY id DESC LIMIT 1
)
"""
