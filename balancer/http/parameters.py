"""What a request may say beside its body, and what an answer says in its headers, as OpenAPI tells it.

What this module does not know: which route it is for; `openapi` puts it all together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from balancer.core.model import STATES
from balancer.http import history
from balancer.http.question import PARAMETERS


def in_query(name: str, schema: Mapping[str, Any], told: str, *, required: bool = False) -> dict[str, Any]:
    """A parameter of a query."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": told}


ID: Final = in_query("id", {"type": "string"}, "The id.", required=True)
REFUSE_WITH: Final = in_query("refuse_with", PARAMETERS["refuse_with"].schema, PARAMETERS["refuse_with"].told)
QUESTION: Final = tuple(
    {
        **in_query(name, each.schema, each.told),
        **({"style": "form", "explode": False} if each.many else {}),
    }
    for name, each in PARAMETERS.items()
)
SESSION: Final = {
    "name": "x-session-id",
    "in": "header",
    "required": False,
    "schema": PARAMETERS["session_id"].schema,
    "description": "Key of a conversation, where no `session_id` is given.",
}
ENDPOINTS: Final = (
    in_query("model", {"type": "string"}, "Only of this model (id or alias)."),
    in_query("provider", {"type": "string"}, "Only of this provider or tag."),
    in_query("state", {"type": "string", "enum": list(STATES)}, "Only in this state."),
)
_MOMENT: Final = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_MOMENTS: Final = "A span before now (`24h`), an RFC 3339 moment (UTC where no zone is given), or Unix seconds."
HISTORY: Final = (
    in_query("endpoint", {"type": "string"}, "Only this endpoint; one that was removed is told while it is kept."),
    in_query("model", {"type": "string"}, "Only the endpoints of this model (id or alias); not beside `endpoint`."),
    in_query("since", _MOMENT, f"{_MOMENTS} Default: {history.SINCE}."),
    in_query("until", _MOMENT, f"{_MOMENTS} Default: now."),
    in_query(
        "step",
        {"type": "string"},
        f"A duration of whole minutes (`5m`), or `whole` for all in one. Default: one that makes "
        f"{history.STEP_POINTS} points or fewer, and `whole` where all endpoints are asked for.",
    ),
)
LAST_EVENT: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Go on after this event; without it, only news is sent.",
}
BEST_HEADERS: Final = {
    f"X-Balancer-{name}": {
        "schema": {"type": "string"},
        "required": name != "Retry-Budget",
        "description": told,
    }
    for name, told in {
        "Endpoint": "Id of the selected endpoint.",
        "Provider": "Its provider.",
        "Model": "The provider's own name of the model.",
        "Base-Url": "Where to call it.",
        "Host": "Host and port of that address.",
        "Fallbacks": "Ids of the fallbacks in order, comma-separated; as many whole ids as fit 2048 characters.",
        "Decision": "Id of the decision, for the report.",
        "Retry-Budget": "`exhausted`, or absent: when it is, better fail than try again.",
    }.items()
}
