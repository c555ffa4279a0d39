"""`balancer drain TARGET [--for 10m] [--reason TEXT]`: no traffic to an endpoint, tag, provider or model."""

from __future__ import annotations

import argparse
import json

from balancer.cli import client


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `drain`."""
    verb.add_argument("target", metavar="TARGET", help="endpoint id, tag, provider or model")
    verb.add_argument("--for", dest="span", metavar="10m", help="end by itself after this time")
    verb.add_argument("--reason", metavar="TEXT", help="why, for those who look at the status")
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Drain and tell which endpoints it meant."""
    body = {"target": asked.target, "for": asked.span, "reason": asked.reason}
    return operate(asked, "/v1/drain", {key: value for key, value in body.items() if value is not None}, "drained")


def operate(asked: argparse.Namespace, path: str, body: dict[str, str], done: str) -> int:
    """Post an operator's word and print which endpoints it changed."""
    try:
        answer = client.ask(client.address(asked), path, needs="endpoints", body=body)
    except (client.Unreachable, client.Refused) as error:
        return client.complain(error, as_json=asked.json)
    if asked.json:
        print(json.dumps(answer))
        return 0
    endpoints = answer["endpoints"]
    print("\n".join(f"{done} {each}" for each in endpoints) if endpoints else f"nothing to be {done}")
    return 0
