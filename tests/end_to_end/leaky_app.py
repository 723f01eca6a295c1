"""An app that repeats in its answers whatever secret it was sent: as it came, and encoded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

from tests.loopback import Quiet, serving

RECORDS = [{"id": f"c{n}", "email": f"c{n}@example.org"} for n in range(3)]


@dataclass
class LeakyApp:
    """Where it is, which secrets it knows, and how it answers next."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """Those of them that it repeats: what it may know of the one who asks."""
    tokens: tuple[str, str] = ("", "")
    """What the token endpoint gives out: an access token and a refresh token."""
    failure: int = 0
    """A status to answer in place of records; 1 for a body that's cut off."""
    is_odd: bool = False
    """Whether one of the records doesn't fit, with the app's error for a value."""
    seen: set[str] = field(default_factory=set)
    """Which of the secrets have really come with a request."""


@contextmanager
def leaky_app(secrets: list[str]) -> Iterator[LeakyApp]:
    """Serve on a free port until the block ends."""
    app = LeakyApp(secrets=secrets, told=list(secrets))

    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802
            self.note()
            if app.failure:
                return self.say(app.failure, self.leak())
            odd = [{"id": "odd", "email": {"error": "none"}}] if app.is_odd else []
            return self.say(200, {"items": RECORDS + odd})

        def do_PUT(self) -> None:  # noqa: N802
            self.do_GET()

        def do_POST(self) -> None:  # noqa: N802
            """The token endpoint, and the one that revokes."""
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.note()
            sent = [value for values in form.values() for value in values]
            app.seen |= {secret for secret in app.secrets if secret in sent}
            if app.failure:
                leak = self.leak()
                said = {"error": "invalid_grant", "error_description": leak["message"], **leak}
                return self.say(app.failure, {**said, "error": "invalid_grant"})
            given = {"access_token": app.tokens[0], "refresh_token": app.tokens[1]}
            return self.say(200, {**given, "token_type": "Bearer", "expires_in": 3600})

        def note(self) -> None:
            """Which secrets came along, in the query, in a header, or in basic authentication."""
            query = parse_qs(urlsplit(self.path).query)
            sent = [value for values in query.values() for value in values]
            for header in self.headers.values():
                text = header.encode("latin-1").decode("utf-8", "replace")
                sent += [text, *_basic(header)]
            app.seen |= {secret for secret in app.secrets if any(secret in text for text in sent)}

        def leak(self) -> dict[str, str]:
            spelt = [f"{self.requestline} {dict(self.headers)}"]
            for secret in app.told:
                pair = base64.b64encode(f"acme:{secret}".encode()).decode()
                spelt += [secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)]
                spelt += [pair, base64.b64encode(secret.encode()).decode()]
            # The message is cut after some hundred letters: each secret has its turn in front.
            app.told = [*app.told[1:], *app.told[:1]]
            said = " ".join(spelt[1:] + spelt[:1])
            return {"message": said, "error": said, "detail": said}

        def say(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(200 if status == 1 else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Echo", quote(" ".join(app.told)))
            self.send_header("Location", f"/elsewhere?{urlsplit(self.path).query}")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if status == 1 else content)
            self.close_connection = True

    with serving(Handler) as app.url:
        yield app


def _basic(header: str) -> list[str]:
    scheme, _, text = header.partition(" ")
    if scheme != "Basic":
        return []
    return [base64.b64decode(text).decode("utf-8", "replace")]
