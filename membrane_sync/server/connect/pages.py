"""The connect page as HTML: escaped by itself, and nothing in it from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from membrane_sync.connections.choices import Choice
from membrane_sync.connections.requests import Host, existing_connection
from membrane_sync.ports import ConnectionRequest, DeviceCode
from membrane_sync.project.addresses import with_answer
from membrane_sync.server.connect.words import ENDED, UNKNOWN, Words, problem_of

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # The page that opened this one as a popup has to hear from it.
    "Cross-Origin-Opener-Policy": "unsafe-none",
    # The link is a secret: no other site is told where a user comes from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
SOURCE = "membrane-sync"
"""How a page that opened a popup knows our messages from others."""


@dataclass(frozen=True)
class Form:
    """What a form shows beside its fields: what was typed in, and what is wrong."""

    choice: Choice | None
    csrf: str
    typed: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    status: int = 200


@dataclass(frozen=True)
class Pages:
    """The pages of one server."""

    host: Host

    @property
    def product(self) -> str:
        """How users know the product."""
        return self.host.settings.connect.product_name or "This product"

    @property
    def base(self) -> str:
        """The path that all of this server's pages are below."""
        return urlsplit(self.host.settings.connect.public_url).path

    def app(self, integration: str) -> str:
        """How users know the app."""
        connector = self.host.project.connector(integration)
        return self.host.project.integration(integration).name or connector.title

    def form(
        self, request: ConnectionRequest, token: str, choices: list[Choice], form: Form
    ) -> HTMLResponse:
        """The page where a user chooses, and fills in."""
        app = self.app(request.integration)
        existing = existing_connection(self.host, request)
        values = {
            "app": app,
            "name": request.name or (existing.name if existing else ""),
            "reconnects": existing is not None,
            "here": f"{self.base}/connect/{token}",
            "choices": choices,
            "choice": form.choice,
            "csrf": form.csrf,
            "typed": form.typed,
            "wrong": form.wrong,
            "problem": problem_of(_problem(form), app, self.product) if form.problem else None,
        }
        return self._page("form.html", form.status, values)

    def code(
        self, request: ConnectionRequest, token: str, csrf: str, code: DeviceCode
    ) -> HTMLResponse:
        """The code to enter at the app, until it's entered; looks again by itself."""
        values = {
            "app": self.app(request.integration),
            "here": f"{self.base}/connect/{token}",
            "csrf": csrf,
            "code": code,
            "address": code.verification_url.removeprefix("https://"),
            "seconds": ceil(code.interval),
        }
        return self._page("code.html", 200, values)

    def leaving(self, url: str, place: str) -> HTMLResponse:
        """Goes to another site, after a form: a redirect would be stopped by `form-action`."""
        return self._page("leaving.html", 200, {"app": "", "url": url, "place": place})

    def ended(self, request: ConnectionRequest) -> HTMLResponse:
        """How a request ended, for the one who ended it: goes back, or tells the opener."""
        app = self.app(request.integration)
        word = request.error if request.status == "error" else request.status
        words = ENDED.get(word) or problem_of(word, app, self.product)
        answer = answer_of(request)
        back = with_answer(request.redirect_uri, answer) if request.redirect_uri else ""
        values = {
            "app": app,
            "words": words.about(app, self.product),
            "sign": request.status,
            "url": back,
            "outcome": json.dumps({"source": SOURCE, **answer}) if request.origin else "",
            "origin": request.origin,
        }
        return self._page("ended.html", 200, values)

    def gone(self, request: ConnectionRequest, word: str) -> HTMLResponse:
        """The link is of no use any more."""
        app = self.app(request.integration)
        return self.message(ENDED[word], 410, app)

    def message(self, words: Words, status: int, app: str = "") -> HTMLResponse:
        """A page that only says something."""
        said = words.about(app or "The app", self.product)
        values = {"app": app, "words": said, "sign": "", "url": ""}
        return self._page("ended.html", status, values)

    def unknown(self) -> HTMLResponse:
        """There's no request with this link."""
        return self.message(UNKNOWN, 404)

    def _page(self, template: str, status: int, values: Mapping[str, Any]) -> HTMLResponse:
        known = {"product": self.product, "base": self.base, "outcome": "", "origin": ""}
        text = _environment().get_template(template).render({**known, **values})
        return HTMLResponse(text, status, HEADERS)


def _problem(form: Form) -> str:
    """The code of the words; what was typed in is checked in another way than a sign-in."""
    there = form.choice is not None and (form.choice.in_browser or form.choice.by_code)
    return "not_authorized_there" if there and form.problem == "not_authorized" else form.problem


def answer_of(request: ConnectionRequest) -> dict[str, str]:
    """What the product is told of how a request ended."""
    answer = {
        "status": request.status,
        "request": request.id,
        "integration": request.integration,
        "connection": request.connection if request.status == "success" else "",
        "error": request.error,
        "custom_state": request.custom_state,
    }
    return {name: value for name, value in answer.items() if value}


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("membrane_sync.server.connect"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
