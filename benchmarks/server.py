"""An app on loopback that lists records by page from a change cursor; pages are rendered before.

    python benchmarks/server.py RECORDS      # prints its port, then serves until it's killed

`POST /change?count=N` touches N records. It knows nothing of membrane_sync.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000


class App:
    """Records in the order of their change number."""

    def __init__(self, count: int) -> None:
        self.records = {number: self.record(number, number + 1) for number in range(count)}
        self.clock = count
        self.render()

    def record(self, number: int, version: int) -> dict[str, object]:
        """About 300 bytes of JSON."""
        return {
            "id": f"r{number:07d}",
            "version": version,
            "email": f"person.{number}@customer.example",
            "first_name": f"First{number % 997}",
            "last_name": f"Last{number % 1009}",
            "address": {"city": f"City {number % 101}", "country": "XX", "street": "1 Long Street"},
            "score": (number + version) % 100,
            "signed_up": "2026-03-04T05:06:07Z",
            "tags": ["alpha", "beta"],
        }

    def change(self, count: int) -> None:
        """Touch the first `count` records."""
        for number in range(count):
            self.clock += 1
            self.records[number] = self.record(number, self.clock)
        self.render()

    def render(self) -> None:
        """All pages of the whole list, ready to send."""
        ordered = sorted(self.records.values(), key=lambda record: record["version"])  # type: ignore[arg-type,return-value]
        self.versions = [record["version"] for record in ordered]
        self.texts = [json.dumps(record) for record in ordered]

    def page(self, since: int) -> bytes:
        """The page after `since`, and where the next one starts."""
        from bisect import bisect_right

        first = bisect_right(self.versions, since)  # type: ignore[type-var]
        texts = self.texts[first : first + PAGE]
        more = first + PAGE < len(self.texts)
        following = self.versions[first + PAGE - 1] if more else None
        return f'{{"items": [{",".join(texts)}], "next": {json.dumps(following)}}}'.encode()


def handler(app: App) -> type[BaseHTTPRequestHandler]:
    """A request handler for the app."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            since = int(query.get("after", query.get("since", ["0"]))[0])
            self.answer(app.page(since))

        def do_POST(self) -> None:
            app.change(int(parse_qs(urlsplit(self.path).query)["count"][0]))
            self.answer(b"{}")

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(App(int(sys.argv[1]))))
    print(server.server_port, flush=True)
    server.serve_forever()
