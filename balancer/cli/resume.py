"""`balancer resume TARGET`: end a drain, and forget that the provider refused us."""

from __future__ import annotations

import argparse

from balancer.cli import client
from balancer.cli.drain import operate


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `resume`."""
    verb.add_argument("target", metavar="TARGET", help="exactly the target that was drained")
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Resume and tell which endpoints it meant."""
    return operate(asked, "/v1/resume", {"target": asked.target}, "resumed")
