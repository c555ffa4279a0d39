"""What a proxy needs beside the core to hold it in its own process: its clients' bodies as requests.

Why a helper: what a chat needs of an endpoint (its parameters, its modalities, a guess at its tokens, the
conversation that it belongs to) is pages of rules. With its own reading of them a proxy would be routed otherwise
than by the daemon; with this one `POST /v1/best-provider` and the embedded call cannot differ.

What this module does not know: the rules, which are the daemon's own.
"""

from __future__ import annotations

from balancer.core.request import Request


def request_from_chat(body: bytes | bytearray, *, session_id: str | None = None) -> Request:
    """Read an OpenAI chat-completions body as the daemon would; `session_id` is for a body without one.

    Shape: `provider`, `models`, `session_id` and a `balancer` object in the body count as they do over HTTP.
    Nothing of the messages is kept. Raises: ValueError with everything that is wrong, for the answer 400.
    """
    # Only here: the API's room brings aiohttp, and who imports the core alone shall not wait for it.
    from balancer.http.answers import Refused
    from balancer.http.chat import chat

    try:
        return chat(body, session_id or None).request
    except Refused as refusal:
        raise ValueError(refusal.message) from None
