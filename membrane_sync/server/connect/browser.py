"""Which browser asks: a cookie that no script can read, and forms that only its pages can send."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import Request
from starlette.responses import Response

COOKIE = "membrane_browser"
_LENGTH = 43


def browser_of(request: Request, *, secure: bool) -> str:
    """The secret that the browser's cookie holds; empty if it has none."""
    found = request.cookies.get(_name(secure), "")
    return found if len(found) == _LENGTH and found.isascii() else ""


def new_browser() -> str:
    """A secret for a browser that has none yet."""
    return secrets.token_urlsafe(32)


def remember(response: Response, browser: str, *, secure: bool) -> None:
    """Give the browser its cookie; it comes back from the app's pages, too, as Lax ones do."""
    response.set_cookie(
        _name(secure), browser, path="/", secure=secure, httponly=True, samesite="lax"
    )


def csrf_of(browser: str, id: str) -> str:
    """What proves that a form for this request is from a page that we gave to this browser."""
    return hmac.new(browser.encode(), f"csrf:{id}".encode(), hashlib.sha256).hexdigest()


def is_own_form(browser: str, id: str, csrf: str) -> bool:
    """Whether a form was sent by one of our pages, in this browser."""
    expected = csrf_of(browser, id).encode()
    return bool(browser) and hmac.compare_digest(expected, csrf.encode())


def _name(secure: bool) -> str:
    """The prefix keeps other hosts of the domain from planting a cookie of theirs."""
    return f"__Host-{COOKIE}" if secure else COOKIE
