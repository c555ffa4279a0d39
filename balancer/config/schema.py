"""The JSON Schema of the file, for editors and checks outside of this program.

It is made of the same structs that the file is decoded into. A schema sees one value at a time: rules
between keys, and what a regular expression cannot say, are told by `load_config` alone. Text may come from a
variable, so beside every pattern and list of words a text with `${` in it is allowed.

One file of several need not be whole: in its schema no mapping that another file may complete requires anything.
What stands in a list is whole there too.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from balancer.config.shape import FileShape
from balancer.config.units import DURATION_PATTERN, SIZE_PATTERN, Duration

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE: Final = r"\$\{"


def json_schema(*, fragment: bool = False) -> dict[str, Any]:
    """Describe `balancer.yaml`, or a fragment of `balancer.d`, as JSON Schema 2020-12: with defaults."""
    (top,), definitions = msgspec.json.schema_components(
        [FileShape], schema_hook=_unit, ref_template="#/$defs/{name}"
    )
    name = top["$ref"].rpartition("/")[2]
    definitions["SecretShape"].update(minProperties=1, maxProperties=1)  # one of its keys, and only one
    whole = {
        "$schema": DIALECT,
        **definitions.pop(name),
        "title": "balancer.d/*.yaml" if fragment else "balancer.yaml",
        "$defs": {_short(key): value for key, value in definitions.items()},
    }
    allowed: dict[str, Any] = _rewritten(whole)
    if fragment:
        _open(allowed, allowed["$defs"])
    return allowed


def _open(part: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Let a mapping lack what another file may have, and every mapping in it that is not in a list."""
    part.pop("required", None)
    if "additionalProperties" in part and "properties" not in part:
        part.pop("minProperties", None)
    inside = [part.get("additionalProperties"), *part.get("properties", {}).values(), *part.get("anyOf", ())]
    for each in inside:
        if isinstance(each, dict):
            _open(each, definitions)
    name = str(part.get("$ref", "")).rpartition("/")[2]
    if name:
        _open(definitions[name], definitions)


def _unit(kind: type) -> dict[str, Any]:
    example = "30s" if kind is Duration else "1MB"
    return {
        "type": "string",
        "pattern": DURATION_PATTERN if kind is Duration else SIZE_PATTERN,
        "examples": [example],
    }


def _short(name: str) -> str:
    return name.removesuffix("Shape").lower()


def _rewritten(part: Any) -> Any:
    """Shorten the names of definitions, and let variables stand for text."""
    if isinstance(part, list):
        return [_rewritten(one) for one in part]
    if not isinstance(part, dict):
        return part
    made = {key: value if key == "propertyNames" else _rewritten(value) for key, value in part.items()}
    if "$ref" in made and isinstance(made["$ref"], str):
        head, _, name = made["$ref"].rpartition("/")
        made["$ref"] = f"{head}/{_short(name)}"
    if "title" in made and str(made["title"]).endswith("Shape"):
        del made["title"]
    if isinstance(made.get("pattern"), str):
        made["pattern"] = f"(?:{made['pattern']})|{_VARIABLE}"
    if isinstance(made.get("enum"), list):
        words = made.pop("enum")
        made.pop("type", None)
        made["anyOf"] = [{"enum": words}, {"type": "string", "pattern": _VARIABLE}]
    return made
