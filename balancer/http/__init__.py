"""The HTTP room: questions and reports come in as JSON, decisions and pictures of the table go out.

`server` is the door; `routes` is the table of everything that can be asked; `openapi` says the same to machines.
"""

from balancer.http.access import reporters
from balancer.http.hands import Hands, Healthy, Ready, Reloaded, Unprobed, no_history
from balancer.http.server import Server

__all__ = ["Hands", "Healthy", "Ready", "Reloaded", "Server", "Unprobed", "no_history", "reporters"]
