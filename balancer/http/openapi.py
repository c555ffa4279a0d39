"""OpenAPI 3.1: the API told to machines, made from the same values that decode and encode it.

Theory of operation: schemas come from the structs that requests are decoded into and answers are encoded from;
query parameters from the vocabulary that reads them. Only what a struct cannot say is written here: which
statuses a route answers with, and bodies that are open by nature (a chat completion). A test asks every route
and holds the answers against this page, and holds this page against the table of routes.

What this module does not know: whether a server needs tokens; every scope is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

import msgspec

from balancer.core.history import Past
from balancer.core.model import STATES
from balancer.core.outcome import KINDS
from balancer.http import best, chat, operating, parameters, pictures, providers, reading, reports
from balancer.http.answers import ErrorAnswer, encode
from balancer.http.events import Event
from balancer.http.hands import Healthy, Ready, Reloaded
from balancer.http.question import PARAMETERS

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

_TYPES: Final = (
    best.Answer, ErrorAnswer, Event,
    reports.Report, reports.Batch, reports.Tally,
    reading.ConfigAnswer, providers.ProviderList,
    pictures.EndpointList, pictures.EndpointDetail, pictures.ModelList, pictures.ModelDetail,
    operating.Drain, operating.Drained, operating.Resume, operating.Resumed, operating.Probe,
    Healthy, Ready, Reloaded, Past,
)  # fmt: skip


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(name=name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `good` is the schema (by media type) of 200; `refusals` are the statuses of the envelope.

    `malformed` tells of 400, which every route answers with.
    """

    told: str
    good: Mapping[str, Any]
    refusals: tuple[int, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    malformed: str = "Refused."
    scope: str | None = "read"
    more: Mapping[str, Any] = field(default_factory=dict)


def _json(name: str) -> dict[str, Any]:
    return {_JSON: _ref(name)}


_BODY: Final = (408, 413, 415, 417, 503)
_REFUSED: Final = (404, 429, 503, 403)
_MALFORMED: Final = (
    "Malformed: every problem in one message, in the same words for GET, POST and the embedded call. "
    "An empty list is no wish; a provider in both `only` and `ignore` is ignored."
)

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/best-provider"): Operation(
        told="Which endpoint now, and which next if it fails.",
        good=_json("Answer"),
        refusals=_REFUSED,
        parameters=(*parameters.QUESTION, parameters.SESSION),
        malformed=_MALFORMED,
        headers=parameters.BEST_HEADERS,
    ),
    ("HEAD", "/v1/best-provider"): Operation(
        told="The same in headers only; leases nothing.",
        good={},
        refusals=_REFUSED,
        parameters=(*parameters.QUESTION, parameters.SESSION),
        malformed=_MALFORMED,
        headers=parameters.BEST_HEADERS,
    ),
    ("POST", "/v1/best-provider"): Operation(
        told="The same for an OpenAI chat-completions body of up to 32 MiB; its content is never kept.",
        good=_json("Answer"),
        refusals=(*_REFUSED, *_BODY),
        parameters=(parameters.REFUSE_WITH, parameters.SESSION),
        malformed=_MALFORMED,
        body=_json("ChatCompletion"),
        headers=parameters.BEST_HEADERS,
    ),
    ("POST", "/v1/reports"): Operation(
        told=(
            f"Outcomes of real requests: one, many, or one a line; up to {reports.BATCH_MAX} in 8 MiB. "
            "422 when every one was rejected, with the tally in `metadata`."
        ),
        good=_json("Tally"),
        refusals=(422, *_BODY),
        body={
            _JSON: {"anyOf": [_ref("Report"), _ref("Batch")]},
            "application/x-ndjson": {"type": "string", "description": "One report a line."},
        },
        scope="report",
    ),
    ("GET", "/v1/models"): Operation(told="Every model.", good=_json("ModelList")),
    ("GET", "/v1/model"): Operation(
        told="One model, by id or alias.", good=_json("ModelDetail"), refusals=(404,), parameters=(parameters.ID,)
    ),
    ("GET", "/v1/providers"): Operation(told="Every provider.", good=_json("ProviderList")),
    ("GET", "/v1/endpoints"): Operation(
        told="Endpoints with state, ratios and latency.",
        good=_json("EndpointList"),
        refusals=(404,),
        parameters=parameters.ENDPOINTS,
    ),
    ("GET", "/v1/endpoint"): Operation(
        told="One endpoint with everything that is known about it.",
        good=_json("EndpointDetail"),
        refusals=(404,),
        parameters=(parameters.ID,),
    ),
    ("GET", "/v1/history"): Operation(
        told=(
            "What became of calls, step by step of time, and every transition; 503 while no history can be read. "
            "Of the last seconds nothing is told yet."
        ),
        good=_json("Past"),
        refusals=(404, 503),
        parameters=parameters.HISTORY,
    ),
    ("GET", "/v1/events"): Operation(
        told=(
            "Server-sent events, each change of state. `data` is the schema Event; an event `gap` with "
            '`{"missed": n}` says that some are no longer remembered.'
        ),
        good={"text/event-stream": {"type": "string"}},
        refusals=(503,),
        parameters=(parameters.LAST_EVENT,),
    ),
    ("GET", "/v1/config"): Operation(
        told="The configuration in force; secrets are never shown.", good=_json("ConfigAnswer")
    ),
    ("POST", "/v1/drain"): Operation(
        told="No more traffic to an endpoint, tag, provider or model.",
        good=_json("Drained"),
        refusals=(404, *_BODY),
        body=_json("Drain"),
        scope="admin",
    ),
    ("POST", "/v1/resume"): Operation(
        told="Traffic to it again, and a provider's refusals forgotten.",
        good=_json("Resumed"),
        refusals=(404, *_BODY),
        body=_json("Resume"),
        scope="admin",
    ),
    ("POST", "/v1/probe"): Operation(
        told="Probe one endpoint now and tell what came of it; 409 when it cannot be probed.",
        good=_json("Probed"),
        refusals=(404, 409, *_BODY),
        body=_json("Probe"),
        scope="admin",
    ),
    ("POST", "/-/reload"): Operation(
        told=(
            "Read the configuration anew and tell what changed; 422 with `metadata.problems` when it is refused, "
            "409 without a file."
        ),
        good=_json("Reloaded"),
        refusals=(409, 422, *_BODY),
        scope="admin",
    ),
    ("GET", "/-/healthy"): Operation(
        told="Whether the process is alive.",
        good=_json("Healthy"),
        scope=None,
        more={"503": {"description": "Not healthy.", "content": {_JSON: {"schema": _ref("NotHealthy")}}}},
    ),
    ("GET", "/-/ready"): Operation(
        told="Whether traffic may come.",
        good=_json("Ready"),
        scope=None,
        more={"503": {"description": "Not ready.", "content": {_JSON: {"schema": _ref("NotReady")}}}},
    ),
    ("GET", "/metrics"): Operation(
        told="Prometheus text or OpenMetrics.",
        good={"text/plain": {"type": "string"}, "application/openmetrics-text": {"type": "string"}},
    ),
    ("GET", "/openapi.json"): Operation(told="This document.", good={_JSON: {"type": "object"}}),
}


@lru_cache(maxsize=1)
def document() -> bytes:
    """The document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation)
    return encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "balancer",
                "version": version("balancer"),
                "description": (
                    "Which LLM provider now, which next if it fails, and why. Times are seconds, ratios 0 to 1. "
                    "Every GET answers HEAD too. Every error has the schema ErrorAnswer, unknown paths and wrong "
                    "methods included."
                ),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": _schemas(),
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "Needed where tokens are set."}
                },
            },
        }
    )


def _operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": f"{method.lower()}{path}".translate(str.maketrans("/-.", "___")),
        "summary": operation.told,
        "responses": _responses(method, operation),
    }
    if operation.parameters:
        shown["parameters"] = operation.parameters
    if operation.body:
        content = {media: {"schema": schema} for media, schema in operation.body.items()}
        shown["requestBody"] = {"required": True, "content": content}
    if operation.scope is not None:
        shown["security"] = [{}, {"bearer": []}]
        shown["description"] = f"Scope: {operation.scope}."
    return shown


def _responses(method: str, operation: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Good."}
    if operation.headers:
        good["headers"] = operation.headers
    if operation.good:
        good["content"] = {media: {"schema": schema} for media, schema in operation.good.items()}
    statuses = {400, 431, 500, *operation.refusals} | ({401, 403} if operation.scope is not None else set())
    responses: dict[str, Any] = {"200": good}
    for status in sorted(statuses):
        refusal: dict[str, Any] = {"description": operation.malformed if status == 400 else "Refused."}
        if method != "HEAD":
            refusal["content"] = {_JSON: {"schema": _ref("ErrorAnswer")}}
        if status in (429, 503):
            refusal["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
        responses[str(status)] = refusal
    return {**responses, **operation.more}


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    for name in reports.UNUSED:
        schemas["Report"]["properties"][name]["description"] = "Accepted, not used by this version."
    report = schemas["Report"]
    report["oneOf"] = [  # a null counts as not given
        {"required": [one], "properties": {one: {"not": {"type": "null"}}, other: {"type": "null"}}}
        for one, other in (("status", "error"), ("error", "status"))
    ]
    for name in ("Healthy", "Ready"):
        said = schemas[name]
        schemas[f"Not{name}"] = {
            "type": "object",
            "properties": {**said["properties"], "error": _ref("ErrorBody")},
            "required": [*said["required"], "error"],
        }
    schemas["Probed"] = {
        "type": "object",
        "description": "Times in seconds, `certificate_expires` in Unix time, `cost` in USD; null is unknown.",
        "properties": {
            **{key: {"type": "string"} for key in ("endpoint", "kind", "detail")},
            "outcome": {"enum": list(KINDS)},
            "status": {"type": ["integer", "null"]},
            "address": {"type": ["string", "null"]},
            "duration": {"type": "number"},
            "phases": {"type": "object", "additionalProperties": {"type": "number"}},
            **{
                key: {"type": ["number", "null"]}
                for key in ("ttft", "tokens_per_second", "cost", "certificate_expires")
            },
            "state": {"enum": list(STATES)},
        },
        "required": ["endpoint", "kind", "outcome"],
    }
    schemas["ChatCompletion"] = _chat()
    return schemas


def _chat() -> dict[str, Any]:
    own = {name: _nullable(each.schema) for name, each in PARAMETERS.items()}
    texts: dict[str, Any] = {"type": ["string", "null"]}
    return {
        "type": "object",
        "description": (
            "A chat-completions body; keys that are not named here are the provider's business. A conversation is "
            "the first of `session_id`, `x-session-id`, `prompt_cache_key` and a digest of the first messages."
        ),
        "anyOf": [{"required": ["model"]}, {"required": ["models"]}],
        "properties": {
            "model": own["model"],
            "models": own["models"],
            "session_id": own["session_id"],
            "prompt_cache_key": {"description": "The provider's; also a conversation's key."},
            "service_tier": {"description": "`priority` or `fast`, `flex`; all else asks for no tier."},
            "route": {
                "enum": [*chat.ROUTES, None],
                "deprecated": True,
                "description": "Use `provider.sort.partition`.",
            },
            "messages": {"type": ["array", "null"], "items": {"type": "object", "properties": {"role": texts}}},
            "max_tokens": own["max_tokens"],
            "max_completion_tokens": own["max_tokens"],
            "modalities": own["output_modalities"],
            "provider": {"type": ["object", "null"], "properties": _wishes(own)},
            "balancer": {
                "type": ["object", "null"],
                "properties": {name: own[name] for name in chat.EXTRAS},
                "additionalProperties": False,
            },
        },
    }


def _wishes(own: Mapping[str, Any]) -> dict[str, Any]:
    """OpenRouter's `provider` object: what a query says with dots is an object in it."""
    wishes: dict[str, Any] = {"require_parameters": own["require_parameters"]}
    nested: dict[str, dict[str, Any]] = {"sort": {"by": own["sort"], "partition": own["partition"]}}
    for name, parameter in PARAMETERS.items():
        outer, _, inner = name.partition(".")
        if inner:  # OpenRouter takes the text of a price too
            text = [{"type": "string"}] if outer == "max_price" else []
            nested.setdefault(outer, {})[inner] = {"anyOf": [own[name], *text]}
        elif parameter.field.startswith("provider."):
            wishes[name] = own[name]
    for name, properties in nested.items():
        several = {"type": "object", "properties": properties, "additionalProperties": False}
        wishes[name] = {"anyOf": [wishes.get(name, {"type": "null"}), several]}
    return wishes


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
