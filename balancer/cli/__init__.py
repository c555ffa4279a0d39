"""The command `balancer`: one verb a file, and each loads only what it needs.

Exit status: 0 good, 1 a problem was found, 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from errno import ENOSPC
from importlib import import_module
from io import TextIOWrapper

VERBS = {
    "run": "run the daemon in the foreground",
    "demo": "show the daemon at work on mock providers with faults; no keys, no network",
    "check": "validate the configuration; every problem on its own line",
    "best": "ask the running daemon for the best provider of a model (leases nothing)",
    "status": "table of the running daemon's endpoints: state, errors, latency, why, what is next",
    "probe": "probe endpoints once now, without a daemon",
    "drain": "take an endpoint, tag, provider or model out of service",
    "resume": "put a drained target back into service",
    "reload": "reload the running daemon's configuration; non-zero when it is refused",
    "simulate": "compare policies, our own among them, in a recorded or invented world",
    "schema": "print the JSON Schema of the configuration",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status is the answer."""
    _fill_standard_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show × still gets the table
    parser = argparse.ArgumentParser(
        prog="balancer", description="Which LLM provider now, which next if it fails, and why."
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, story in VERBS.items():
        # A verb's own options are added only when it is called: importing all of them costs a third of a second.
        verb = verbs.add_parser(name, help=story, description=story[0].upper() + story[1:] + ".")
        if name in words:
            import_module(f"balancer.cli.{name}").options(verb)
    asked = parser.parse_args(words)
    if asked.version:
        from balancer import __version__

        print(f"balancer {__version__}")
        return 0
    if asked.verb is None:
        parser.print_help()
        return 2
    verb_module = import_module(f"balancer.cli.{asked.verb}")
    try:
        status: int = verb_module.run(asked)
        sys.stdout.flush()  # here, where what goes wrong can still be told
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away: that is its right, and Python need not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("balancer: the output has no room", file=sys.stderr)
        return 1
    return status


def _fill_standard_streams() -> None:
    """Put /dev/null where standard input, output or error is closed (`2>&-`).

    The next file would get that number, and be read and written as if it were the stream; uvloop refuses to close
    one of these three at all. Python has `None` for such a stream.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", errors="backslashreplace"))
