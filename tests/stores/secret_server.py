"""A store of secrets that speaks HTTP, as a company may have one: entries in memory, a token."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class SecretServer:
    """What the server has, and what was asked of it."""

    url: str = ""
    token: str = "planted-vault-token"
    entries: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    """Statuses to answer instead, by method."""


@contextmanager
def secret_server() -> Iterator[SecretServer]:
    """Serve on a free port until the block ends."""
    state = SecretServer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.asked.append(f"{self.command} {self.path}")
            if self.headers.get("Authorization") != f"Bearer {state.token}":
                return self.say(403)
            if self.command in state.answers:
                return self.say(state.answers[self.command], b"planted-in-the-answer")
            if self.command == "PUT":
                state.entries[self.path] = body
            found = state.entries.get(self.path)
            if self.command == "DELETE":
                state.entries.pop(self.path, None)
            if found is None:
                return self.say(404)
            return self.say(200, found if self.command == "GET" else b"")

        def say(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/secrets"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
