"""The store room: what outlives the process, on a disk that may be full, slow, read-only, garbage or gone.

One rule holds for all of it: a decision, a probe and the stop wait for no disk, and none of its faults ends the
daemon.
"""

from balancer.store.directory import Directory, InUse
from balancer.store.frame import StateFileError
from balancer.store.history import History
from balancer.store.keeper import Keeper, Parts

__all__ = ["Directory", "History", "InUse", "Keeper", "Parts", "StateFileError"]
