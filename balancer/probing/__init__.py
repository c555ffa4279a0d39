"""Active checks of endpoints: our own small HTTP/1.1 client, kinds and dialects of probes, and their schedule."""

from __future__ import annotations

from balancer.probing.connection import Connections
from balancer.probing.kinds import KINDS, Check
from balancer.probing.probe import ProbeResult, cost_of, probe
from balancer.probing.schedule import BudgetSpent, Scheduler, Spent

__all__ = ["KINDS", "BudgetSpent", "Check", "Connections", "ProbeResult", "Scheduler", "Spent", "cost_of", "probe"]
