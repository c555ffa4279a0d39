"""`balancer check`: every problem of a configuration on its own line, or one line when it is good.

Its files are counted where there are several: one whose name does not count is missed there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sized

from balancer.config import ConfigError, load_config


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    verb.add_argument(
        "-c", "--config", default="balancer.yaml", help="configuration: a file or directory (balancer.yaml)"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object")


def run(asked: argparse.Namespace) -> int:
    """Check the file; 1 when it has problems."""
    try:
        config = load_config(asked.config, environ=os.environ)
        if config.tls is not None:
            from balancer.http import prepare_tls  # slow to import, and few configurations need it

            prepare_tls(config.tls)
    except ConfigError as error:
        if asked.json:
            problems = [
                {
                    "file": each.file,
                    "line": each.line,
                    "path": each.path,
                    "found": each.found,
                    "allowed": each.allowed,
                }
                for each in error.problems
            ]
            print(json.dumps({"good": False, "problems": problems}))
        else:
            print(error)
        return 1
    unusable = {
        endpoint.id: endpoint.misconfigured
        for endpoint in config.endpoints.values()
        if endpoint.misconfigured is not None
    }
    if asked.json:
        counts = {
            "providers": len(config.providers),
            "models": len(config.models),
            "endpoints": len(config.endpoints),
        }
        print(json.dumps({"good": True, "files": config.files, **counts, "misconfigured": unusable}))
        return 0
    in_files = f" in {len(config.files)} files" if len(config.files) > 1 else ""
    line = (
        f"{asked.config}: good; {_count(config.models, 'model')}, {_count(config.endpoints, 'endpoint')} "
        f"at {_count(config.providers, 'provider')}{in_files}"
    )
    if unusable:
        reasons = ", ".join(dict.fromkeys(unusable.values()))
        line += f"; {_count(unusable, 'endpoint')} cannot be used here: {reasons}"
    print(line)
    return 0


def _count(things: Sized, word: str) -> str:
    return f"{len(things)} {word}" if len(things) == 1 else f"{len(things)} {word}s"
