"""balancer: which provider now, which next if it fails, and why.

The public door for a Python proxy that holds the core in its own process; the daemon is `balancer run`.
"""

from importlib.metadata import version as _version

from balancer.config import load_config
from balancer.core.balancer import Balancer
from balancer.core.model import Decision, NoEndpoint, Preferences, Request
from balancer.core.outcome import Outcome

__version__ = _version("balancer")

__all__ = ["Balancer", "Decision", "NoEndpoint", "Outcome", "Preferences", "Request", "__version__", "load_config"]
