"""The HTTP room: questions and reports come in as JSON, decisions and pictures of the table go out.

`server` is the door; `routes` is the table of everything that can be asked; `openapi` says the same to machines.
"""

from balancer.http.access import reporters
from balancer.http.hands import Hands, Healthy, Ready, Reloaded, Unprobed, Unreloadable, no_history
from balancer.http.limits import Limits
from balancer.http.server import Server
from balancer.http.sockets import refuse_wide
from balancer.http.tls import PreparedTls, prepare_tls

__all__ = [
    "Hands",
    "Healthy",
    "Limits",
    "PreparedTls",
    "Ready",
    "Reloaded",
    "Server",
    "Unprobed",
    "Unreloadable",
    "no_history",
    "prepare_tls",
    "refuse_wide",
    "reporters",
]
