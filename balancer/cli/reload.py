"""`balancer reload`: the running daemon reads its configuration anew; every problem is printed when it refuses."""

from __future__ import annotations

import argparse
import json

from balancer.cli import client


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `reload`."""
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Reload and wait for the verdict."""
    try:
        answer = client.ask(client.address(asked), "/-/reload", needs="config_generation", body={}, timeout=60.0)
    except client.Refused as refusal:
        status = client.complain(refusal, as_json=asked.json)
        if not asked.json:
            for problem in refusal.error.get("metadata", {}).get("problems", []):
                print(problem)
        return status
    except client.Unreachable as error:
        return client.complain(error, as_json=asked.json)
    waiting = answer["at_next_start"]
    line = f"reloaded; generation {answer['config_generation']}"
    line += f"; {', '.join(waiting)} changed and will be taken at the next start" if waiting else ""
    if asked.json:
        print(json.dumps(answer))
        return 0
    print(line)
    for sort, names in answer["changes"].items():
        for name in names:
            print(f"{sort:<8} {name}")
    return 0
