"""`balancer resume TARGET [--reason TEXT]`: end a drain, and forget that the provider refused us."""

from __future__ import annotations

import argparse

from balancer.cli import client
from balancer.cli.drain import operate


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `resume`."""
    verb.add_argument("target", metavar="TARGET", help="exactly the target that was drained")
    verb.add_argument("--reason", metavar="TEXT", help="why, for those who read the log")
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Resume and tell which endpoints it meant."""
    body = {"target": asked.target} if asked.reason is None else {"target": asked.target, "reason": asked.reason}
    return operate(asked, "/v1/resume", body, "resumed")
