"""A store of secrets that speaks HTTP, as a company may have one: entries in memory, a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.loopback import Quiet, serving


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

    class Handler(Quiet):
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

    with serving(Handler) as address:
        state.url = f"{address}/secrets"
        yield state
