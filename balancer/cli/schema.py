"""`balancer schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import argparse
import json

from balancer.config import json_schema


def options(verb: argparse.ArgumentParser) -> None:
    """`schema` takes no options of its own; `--json` is accepted because every reading verb takes it."""
    verb.add_argument("--json", action="store_true", help="accepted; a schema is JSON anyway")


def run(_asked: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0
