"""balancer: which provider now, which next if it fails, and why.

The public door for a Python proxy that holds the core in its own process; the daemon is `balancer run`.
"""

from importlib.metadata import version as _version

from balancer.config import ConfigError, load_config
from balancer.core.balancer import Balancer
from balancer.core.model import Decision, NoEndpoint
from balancer.core.outcome import Outcome, classify, retry_after
from balancer.core.request import Cutoffs, Preferences, Request
from balancer.embedding import request_from_chat

__version__ = _version("balancer")

__all__ = [
    "Balancer",
    "ConfigError",
    "Cutoffs",
    "Decision",
    "NoEndpoint",
    "Outcome",
    "Preferences",
    "Request",
    "__version__",
    "classify",
    "load_config",
    "request_from_chat",
    "retry_after",
]
