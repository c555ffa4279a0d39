"""The demo: mock providers that fall ill by a timetable, the daemon on them, and traffic sent two ways.

No keys and no network: everything is on loopback. `run_demo` is all that the command line needs.

What this room does not know: how decisions are made; it sees the daemon from outside, over HTTP.
"""

from balancer.demo.run import run_demo

__all__ = ["run_demo"]
