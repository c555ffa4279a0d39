"""The past in SQLite: counts by minute and by hour, and every transition.

`history` is the door; `gathering` counts on the event loop, `keeper` owns the thread that writes, `reader` the one
that reads.
"""

from balancer.store.history.history import History

__all__ = ["History"]
