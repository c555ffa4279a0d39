"""The metrics room: one view of the table, and what the rims measured, as Prometheus text.

Two rules a reader of the series may rely on: what is not known has no sample (never NaN, never a made-up 0), and
a counter whose labels are a closed set exists at 0 from the start, so that `rate` sees its first step.
"""

from balancer.metrics.instruments import PHASES, REPORT_RESULTS, Metrics

__all__ = ["PHASES", "REPORT_RESULTS", "Metrics"]
