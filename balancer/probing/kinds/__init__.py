"""What can be checked: one file per kind, chosen by `probe.kind`.

README says how to add one: "Adding a kind of probe".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from balancer.config.settings import ProbeKind
from balancer.probing.kinds.completion import COMPLETION
from balancer.probing.kinds.dns import DNS
from balancer.probing.kinds.http import HTTP
from balancer.probing.kinds.interface import Check
from balancer.probing.kinds.models import MODELS
from balancer.probing.kinds.self import SELF
from balancer.probing.kinds.status_page import STATUS_PAGE
from balancer.probing.kinds.tcp import TCP
from balancer.probing.kinds.tls import TLS
from balancer.probing.kinds.tools import TOOLS

KINDS: Final[Mapping[ProbeKind, Check]] = {
    "models": MODELS,
    "completion": COMPLETION,
    "tools": TOOLS,
    "http": HTTP,
    "tls": TLS,
    "tcp": TCP,
    "dns": DNS,
    "status_page": STATUS_PAGE,
    "self": SELF,
}

__all__ = ["KINDS", "Check"]
