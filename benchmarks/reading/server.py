"""The app that benchmarks/reading reads: records of about 500 bytes, sorted by their last change.

`GET /records?since=&after=&limit=` answers records changed at `since` or later; `POST /change`
changes each hundredth. Pages are rendered as they're asked for, so that memory stays flat.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("Ann", "Bob", "Çelik", "Dörte", "Eve", "Farid", "Gina", "Hugo")
TEMPLATE = (
    '{"id":"%016x","updated_at":"%s","email":"user%d@example.com","first_name":"%s",'
    '"last_name":"Miller-%d","score":%d,"rating":%s,"active":%s,'
    '"signed_up":"2024-05-01T10:00:00+02:00","phone":"+1 555 %07d","revision":%d,'
    '"company":{"id":%d,"name":"Company %d Limited","size":"11-50"},'
    '"address":{"street":"Main Street %d","city":"Springfield","zip":"%05d","country":"US"},'
    '"tags":["alpha","beta","gamma"],"notes":"Lorem ipsum dolor sit amet, consetetur sadip"}'
)


def moment(order: int) -> str:
    """The time of the change with this place in the order of all changes."""
    at = FIRST + timedelta(milliseconds=order)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def order_of(text: str) -> int:
    """The place of a time in the order of changes."""
    elapsed = datetime.fromisoformat(text) - FIRST
    return elapsed // timedelta(milliseconds=1)


def record(number: int, order: int, revision: int) -> str:
    """The JSON of a record."""
    word = WORDS[number % len(WORDS)]
    scrambled = number * 0x9E3779B97F4A7C15 % 2**64
    return TEMPLATE % (
        scrambled, moment(order), number, word, number % 977, number * 3, number / 8,
        "true" if number % 2 else "false", number % 10**7, revision, number % 500, number % 500,
        number % 211, number % 10**5,
    )  # fmt: skip


class App:
    """`records` of them; each round of changes touches every hundredth."""

    def __init__(self, records: int) -> None:
        self.records = records
        self.rounds = 0

    def change(self) -> None:
        """Change every hundredth record."""
        self.rounds += 1

    def total(self) -> int:
        """How many places the order of changes has."""
        return self.records + self.rounds * (self.records // 100)

    def page(self, first: int, limit: int) -> tuple[list[str], int | None]:
        """Records from a place in the order on, and the place after them."""
        found: list[str] = []
        place = first
        while place < self.total() and len(found) < limit:
            text = self._at(place)
            place += 1
            if text is not None:
                found.append(text)
        return found, place if place < self.total() else None

    def _at(self, place: int) -> str | None:
        """What stands at a place; nothing, if that record changed again later."""
        step = self.records // 100
        if place < self.records:
            stale = self.rounds and place % 100 == 0 and place // 100 < step
            return None if stale else record(place, place, 0)
        revision, index = divmod(place - self.records, step)
        return record(index * 100, place, revision + 1) if revision + 1 == self.rounds else None


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, kept alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    app: App

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        since = query.get("since")
        first = int(query.get("after") or (order_of(since) if since else 0))
        items, after = self.app.page(first, int(query.get("limit", 100)))
        following = "null" if after is None else str(after)
        self._answer(f'{{"items":[{",".join(items)}],"next":{following}}}'.encode())

    def do_POST(self) -> None:
        self.app.change()
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a log would be part of what is measured."""


if __name__ == "__main__":
    Handler.app = App(int(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
