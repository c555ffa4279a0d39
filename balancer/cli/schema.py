"""`balancer schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import argparse
import json

from balancer.config import json_schema


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `schema`; `--json` is accepted because every reading verb takes it."""
    verb.add_argument("--fragment", action="store_true", help="of one file of several, which need not be whole")
    verb.add_argument("--json", action="store_true", help="accepted; a schema is JSON anyway")


def run(asked: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(fragment=asked.fragment), indent=2))
    return 0
