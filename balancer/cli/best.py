"""`balancer best MODEL`: what the daemon would answer now, and why; it leases nothing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from balancer.cli import client, table


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `best`."""
    verb.add_argument("model", metavar="MODEL", help="id or alias")
    verb.add_argument("--prompt-tokens", type=client.tokens, metavar="N", help="length of the prompt")
    verb.add_argument("--max-tokens", type=client.tokens, metavar="N", help="length of the answer")
    verb.add_argument("--require", metavar="tools,…", help="parameters that the request uses")
    verb.add_argument("--only", metavar="SLUG,…", help="only these providers")
    verb.add_argument("--ignore", metavar="SLUG,…", help="not these providers")
    verb.add_argument("--exclude", metavar="ID,…", help="endpoints already tried")
    verb.add_argument("--explain", action="store_true", help="a line for every endpoint of the model")
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Ask and print."""
    query = {
        "model": asked.model,
        "prompt_tokens": asked.prompt_tokens,
        "max_tokens": asked.max_tokens,
        "require": asked.require,
        "only": asked.only,
        "ignore": asked.ignore,
        "exclude": asked.exclude,
        "explain": "true",  # an explained decision leases nothing
    }
    try:
        answer = client.ask(client.address(asked), "/v1/best-provider", needs="explain", query=query)
    except client.Refused as refusal:
        status = client.complain(refusal, as_json=asked.json)
        explained = refusal.error.get("metadata", {}).get("explain")
        if asked.explain and explained and not asked.json:
            print(_considered(explained["considered"]))
        return status
    except client.Unreachable as error:
        return client.complain(error, as_json=asked.json)
    explained = answer["explain"] if asked.explain else answer.pop("explain")
    if asked.json:
        print(json.dumps(answer))
        return 0
    notes = [word for word in ("panic", "trial") if answer[word]]
    print(f"{answer['model']}   {answer['strategy']}" + "".join(f"   {note.upper()}" for note in notes))
    rows = [_endpoint("now", answer["selected"])]
    rows += [_endpoint(f"then {place}", each) for place, each in enumerate(answer["fallbacks"], start=1)]
    print(table.render(["", "ENDPOINT", "STATE", "BASE URL"], rows))
    if asked.explain:
        print("\n" + _considered(explained["considered"]))
    return 0


def _endpoint(place: str, selected: dict[str, Any]) -> list[str]:
    return [place, selected["tag"], table.state(selected["state"]), selected["base_url"]]


def _considered(lines: list[dict[str, Any]]) -> str:
    rows = [
        [
            each["id"].rpartition("@")[2],
            table.state(each["state"]),
            table.NONE if each["score"] is None else f"{each['score']:.3f}",
            table.percent(each["share"]),
            each["why"],
        ]
        for each in lines
    ]
    return table.render(["ENDPOINT", "STATE", "SCORE", "SHARE", "WHY"], rows, right=(2, 3))
