"""A provider for the machine under test: lists models on one port, and on the next takes requests without a word.

It runs inside, where there is nothing but Python and loopback; `GET /seen` tells which keys were shown to it.
"""

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    """Answers with a list of models, or with the keys that were seen."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/seen":
            body = json.dumps(sorted(SEEN))
        else:
            SEEN.add(self.headers.get("Authorization", ""))
            body = json.dumps({"data": [{"id": "large"}]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


port = int(sys.argv[1])
mute = socket.create_server(("127.0.0.1", port + 1), backlog=100)  # accepted by the kernel, read by nobody
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
