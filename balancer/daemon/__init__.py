"""The daemon: builds everything, owns the tasks, and carries what happens from one rim to another."""

from balancer.daemon.daemon import Daemon

__all__ = ["Daemon"]
