"""`balancer best MODEL`: what the daemon would answer now, and why; it leases nothing.

Theory of operation: the daemon is always asked to explain, because an explained decision changes nothing. With
`--explain` the whole story is one block on standard output that stands on its own in a ticket: what was understood,
the answer or the refusal, and a line for every endpoint in the order in which it would be tried. Without it an
answer is a short table, and a refusal goes to standard error.

What this module does not know: why an endpoint stands where it does. It prints the daemon's words.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any, Final

from balancer.cli import client, table
from balancer.core.request import SORTS

WIDTH: Final = (120, 24)  # of what is no terminal and has no COLUMNS: a ticket shows so much without breaking lines
WHY_MIN: Final = 28  # characters; with less room, reasons stand below their endpoints
GAP: Final = 3  # between two columns of `table.render`
LABEL: Final = 10  # characters before what a line of the story says

_PASSED_ON: Final = (
    "model", "models", "prompt_tokens", "max_tokens", "require", "only", "ignore", "order", "exclude", "sort",
)  # fmt: skip


def options(verb: argparse.ArgumentParser) -> None:
    """Add the options of `best`."""
    verb.add_argument("model", metavar="MODEL", help="id or alias, with suffixes (:nitro, :floor, :exacto)")
    verb.add_argument("--models", metavar="MODEL,…", help="models to fall back to, in this order")
    verb.add_argument("--prompt-tokens", type=client.tokens, metavar="N", help="length of the prompt")
    verb.add_argument("--max-tokens", type=client.tokens, metavar="N", help="length of the answer")
    verb.add_argument("--require", metavar="tools,…", help="parameters that the request uses")
    verb.add_argument("--only", metavar="SLUG,…", help="only these providers")
    verb.add_argument("--ignore", metavar="SLUG,…", help="not these providers")
    verb.add_argument("--order", metavar="SLUG,…", help="these providers first, in this order")
    verb.add_argument("--exclude", metavar="ID,…", help="endpoints already tried")
    verb.add_argument("--sort", choices=SORTS, help="the best of this first, instead of the strategy")
    verb.add_argument("--session", metavar="ID", help="key of a conversation, which stays with its provider")
    verb.add_argument("--explain", action="store_true", help="a line for every endpoint of the asked models")
    client.options(verb)


def run(asked: argparse.Namespace) -> int:
    """Ask and print."""
    query = {name: getattr(asked, name) for name in _PASSED_ON}
    query |= {"session_id": asked.session, "explain": "true"}
    try:
        answer = client.ask(client.address(asked), "/v1/best-provider", needs="explain", query=query)
    except client.Refused as refusal:
        return _refused(refusal, asked)
    except client.Unreachable as error:
        return client.complain(error, as_json=asked.json)
    explained = answer["explain"]
    if asked.json:
        shown = answer if asked.explain else {key: value for key, value in answer.items() if key != "explain"}
        print(json.dumps(shown))
    elif asked.explain:
        tried = [answer["selected"]["id"], *(each["id"] for each in answer["fallbacks"])]
        print("\n".join([_question(explained), *_answer(answer), *_considered(explained["considered"], tried)]))
    else:
        print(_short(answer, explained["considered"]))
    return 0


# ---- an answer -----------------------------------------------------------------------------------------


def _short(answer: Mapping[str, Any], considered: Sequence[Mapping[str, Any]]) -> str:
    several = len({_split(each["id"])[0] for each in considered}) > 1
    rows = [
        [
            f"then {place}" if place else "now",
            each["id"] if several else each["tag"],
            table.state(each["state"]),
            each["base_url"],
        ]
        for place, each in enumerate([answer["selected"], *answer["fallbacks"]])
    ]
    header = "   ".join([answer["model"], answer["strategy"], *(note.upper() for note in _notes(answer))])
    return f"{header}\n" + table.render(["", "ENDPOINT", "STATE", "BASE URL"], rows)


def _notes(answer: Mapping[str, Any]) -> list[str]:
    notes = [word for word in ("sticky", "panic", "trial") if answer[word]]
    return [*notes, "retry budget exhausted"] if answer["retry_budget"]["exhausted"] else notes


def _answer(answer: Mapping[str, Any]) -> Iterator[str]:
    selected, timeouts = answer["selected"], answer["selected"]["timeouts"]
    told = [f"{selected['tag']} of {answer['model']}", selected["state"], f"strategy {answer['strategy']}"]
    yield _line("answer", ", ".join([*told, *(note.upper() for note in _notes(answer))]))
    key = "without a key" if selected["credential"] is None else f"key in {selected['credential']}"
    yield _line("call", f"{selected['model']} at {selected['base_url']} ({selected['api']}), {key}")
    spans = ("connect", "first_token", "total")
    yield _line(
        "timeouts", ", ".join(f"{name.replace('_', ' ')} {table.seconds(timeouts[name])}" for name in spans)
    )
    age = answer["evidence_age"]
    facts = [
        "no evidence yet" if age is None else f"evidence {table.seconds(age)} old",
        f"valid for {table.seconds(answer['valid_for'])}",
        f"{table.percent(answer['retry_budget']['share'])} of the last minute's requests are retries",
        f"configuration {answer['config_generation']}",
    ]
    yield _line("facts", ", ".join(facts))


# ---- a refusal -----------------------------------------------------------------------------------------


def _refused(refusal: client.Refused, asked: argparse.Namespace) -> int:
    metadata = refusal.error.get("metadata", {})
    explained = metadata.get("explain") if asked.explain else metadata.pop("explain", None)
    if asked.json:
        return client.complain(refusal, as_json=True)
    availability = refusal.error.get("availability")
    if availability is None or explained is None:  # not even a question
        return client.complain(refusal, as_json=False)
    story = list(_refusal(availability))
    if asked.explain:
        said = _line("refused", f"{refusal.status} {availability['code']}: {refusal}")
        print("\n".join([_question(explained), said, *story, *_considered(explained["considered"], ())]))
        return 1
    client.complain(refusal, as_json=False)
    print("\n".join([_line("code", availability["code"]), *story]), file=sys.stderr)
    return 1


def _refusal(availability: Mapping[str, Any]) -> Iterator[str]:
    constraint = availability.get("constraint")
    if constraint is not None:
        yield _line("because", f"{constraint['field']}: {constraint['detail']}")
    if availability["excluded_by"]:
        yield _line("excluded", f"by {', '.join(availability['excluded_by'])}")
    if availability.get("close_models"):
        yield _line("close", ", ".join(availability["close_models"]))
    wait = availability.get("retry_after")
    yield _line("retryable", "no" if wait is None else f"in {table.seconds(wait)}")


# ---- what both have --------------------------------------------------------------------------------------


def _question(explained: Mapping[str, Any]) -> str:
    """What was understood, in one line, however long, and in the query's words, so that it can be asked again."""
    said = " ".join(f"{name}={_value(each)}" for name, each in _flat(explained["understood"]))
    return f"{'asked':<{LABEL}}{table.printable(said)}"


def _flat(said: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in said.items():
        if isinstance(value, dict):
            yield from _flat(value, "" if name == "provider" else f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_value, value))
    if isinstance(value, str):
        return value if value and not any(map(str.isspace, value)) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _considered(lines: Sequence[Mapping[str, Any]], tried: Sequence[str]) -> list[str]:
    """The table, after an empty line: every endpoint, numbered as far as it would be tried."""
    if not lines:
        return []
    several = len({_split(each["id"])[0] for each in lines}) > 1
    header = ["#", "ENDPOINT", *(["MODEL"] if several else []), "STATE", "SCORE", "WEIGHT", "SHARE"]
    cells = [_cells(each, tried, several=several) for each in lines]
    plain = [*cells, header]
    room = _width() - sum(max(len(line[column]) for line in plain) + GAP for column in range(len(header)))
    at = header.index("STATE")
    for line in cells:
        line[at] = table.state(line[at])
    right = (0, *range(at + 1, len(header)))
    reasons = [table.printable(each["why"]) if each["why"] else table.NONE for each in lines]
    if room < WHY_MIN:
        return ["", *_below(table.render(header, cells, right=right).splitlines(), reasons)]
    rows: list[list[str]] = []
    for line, reason in zip(cells, reasons, strict=True):
        first, *more = wrap(reason, room, break_on_hyphens=False)
        rows += [[*line, first], *([*[""] * len(header), piece] for piece in more)]
    return ["", table.render([*header, "WHY"], rows, right=right)]


def _below(lines: Sequence[str], reasons: Sequence[str]) -> Iterator[str]:
    width = max(WHY_MIN, _width())
    indent = " " * (GAP + 1)
    yield lines[0]
    for line, reason in zip(lines[1:], reasons, strict=True):
        yield line
        yield from wrap(reason, width, break_on_hyphens=False, initial_indent=indent, subsequent_indent=indent)


def _cells(line: Mapping[str, Any], tried: Sequence[str], *, several: bool) -> list[str]:
    model, tag = _split(line["id"])
    return [
        str(tried.index(line["id"]) + 1) if line["id"] in tried else "",
        tag,
        *([model] if several else []),
        line["state"],
        table.NONE if line["score"] is None else f"{line['score']:.4g}",
        table.NONE if line["weight"] is None else f"{line['weight']:.3g}",
        table.percent(line["share"]),
    ]


def _split(key: str) -> tuple[str, str]:
    model, _, tag = key.partition("@")
    return model, tag


def _line(label: str, text: str) -> str:
    """Say one thing, broken so that it stays beside its label."""
    room = max(WHY_MIN, _width() - LABEL)
    pieces = wrap(table.printable(text), room, break_long_words=False, break_on_hyphens=False)
    return f"{label:<{LABEL}}" + f"\n{'':<{LABEL}}".join(pieces)


def _width() -> int:
    return get_terminal_size(WIDTH).columns
