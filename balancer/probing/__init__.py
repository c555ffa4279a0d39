"""Active checks of endpoints: our own small HTTP/1.1 client, kinds and dialects of probes, and their schedule."""

from __future__ import annotations

from balancer.probing.budget import BudgetSpent, Spent
from balancer.probing.connection import Connections
from balancer.probing.kinds import KINDS, Check
from balancer.probing.probe import ProbeResult, cost_of, probe
from balancer.probing.schedule import LEFT_OUT, LeftOut, Scheduler

__all__ = [
    "KINDS",
    "LEFT_OUT",
    "BudgetSpent",
    "Check",
    "Connections",
    "LeftOut",
    "ProbeResult",
    "Scheduler",
    "Spent",
    "cost_of",
    "probe",
]
