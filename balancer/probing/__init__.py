"""Active checks of endpoints: our own small HTTP/1.1 client, kinds and dialects of probes, and their schedule."""

from __future__ import annotations

from balancer.probing.budget import Budgets, BudgetsKept, BudgetSpent, Spent
from balancer.probing.budget import kept as budgets_kept
from balancer.probing.connection import Connections
from balancer.probing.kinds import KINDS, Check
from balancer.probing.probe import ProbeResult, cost_of, probe
from balancer.probing.schedule import LEFT_OUT, LeftOut, Scheduler

__all__ = [
    "KINDS",
    "LEFT_OUT",
    "BudgetSpent",
    "Budgets",
    "BudgetsKept",
    "Check",
    "Connections",
    "LeftOut",
    "ProbeResult",
    "Scheduler",
    "Spent",
    "budgets_kept",
    "cost_of",
    "probe",
]
