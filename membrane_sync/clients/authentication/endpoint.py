"""The provider's endpoints: where they may be, and what their refusals mean, in words that help."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from membrane_sync.clients.rate_headers import retry_after
from membrane_sync.clients.words import Words
from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    Fatal,
    MembraneError,
    NotAuthorized,
    RateLimited,
    UnexpectedAnswer,
)

with warnings.catch_warnings():
    # It prefers the continuation of httpx, which has the same API; see docs/decisions.
    import authlib.deprecate  # noqa: F401

    warnings.filterwarnings("ignore", "The httpx module is deprecated")
    from authlib.integrations.httpx_client import OAuthError

__all__ = ["TIMEOUT_SECONDS", "OAuthError", "asking", "endpoint", "passable"]

TIMEOUT_SECONDS = 30.0

_DEAD = {
    "invalid_grant",
    "bad_refresh_token",
    "invalid_refresh_token",
    "token_revoked",
    "token_expired",
    "account_inactive",
}
"""What providers call a refresh token that's of no use any more."""
_CLIENT = {"invalid_client", "unauthorized_client", "incorrect_client_credentials"}
_DECLARED = {
    "invalid_request",
    "invalid_scope",
    "unsupported_grant_type",
    "unsupported_response_type",
    "invalid_target",
    "redirect_uri_mismatch",
}
_PASSING = {"temporarily_unavailable", "server_error", "slow_down"}


def endpoint(url: str, key: str, app: str) -> str:
    """The address, if one may be called there; raises Fatal where it's missing or no http(s)."""
    if not url:
        raise Fatal(f"{app}: authentication gives no {key}", hint=f"give {key} in connector.yaml")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise Fatal(
            f"{app}: authentication's {key} is no address that begins with https://",
            hint="look at its formula, and at the connection's input that it uses",
        )
    return url


def passable(response: httpx.Response, app: str, what: str = "token endpoint") -> httpx.Response:
    """The answer, if it's about the request; raises where it says that now isn't the time.

    `what` names who answered.
    """
    status, said = response.status_code, f"{app}: the {what} "
    if status == 429:
        wait = retry_after(dict(response.headers.items()))
        raise RateLimited(f"{said}asks to wait (429)", retry_after=wait)
    if status >= 500 or status == 408:
        raise AppUnavailable(f"{said}answered {status}")
    if 300 <= status < 400:
        raise UnexpectedAnswer(
            f"{said}answered {status}", hint="redirects aren't followed: use the address it names"
        )
    if status >= 400 and "error" not in _body(response):
        raise NotAuthorized(f"{said}answered {status}", hint=_HINT)
    return response


@contextmanager
def asking(words: Words, app: str, what: str, *, renewing: bool = False) -> Iterator[None]:
    """Tell what goes wrong inside by what to do next; no error has a secret, nor a cause.

    `what` names who was asked. `renewing`: a refused grant means that it's dead for good.
    """
    said = f"{app}: the {what} "
    try:
        yield
    except OAuthError as error:
        raise _refused(error, said, words, renewing=renewing) from None
    except httpx.TimeoutException:
        raise AppUnavailable(f"{said}gave no answer in time") from None
    except httpx.HTTPStatusError as error:
        raise AppUnavailable(f"{said}answered {error.response.status_code}") from None
    except httpx.HTTPError as error:
        reason = str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
        hint = "is the address right, and the app running?"
        raise AppUnavailable(f"{said}can't be reached: {reason}", hint=hint) from None
    except ValueError:
        raise AppUnavailable(f"{said}answered something that is no token") from None


_HINT = "compare the integration's client id and secret, and its redirect URL, with the app's"


def _refused(error: OAuthError, said: str, words: Words, *, renewing: bool) -> MembraneError:
    code = error.error if isinstance(error.error, str) else ""
    code = code if re.fullmatch(r"[\w.-]{1,60}", code) else "an error"
    said += f"refused: {code}{words.reason({'message': error.description})}"
    if code in _PASSING:
        return AppUnavailable(said)
    if code in _CLIENT:
        hint = "set client_id and client_secret in the integration's parameters as the app has them"
        return Fatal(said, hint=hint)
    if code in _DECLARED:
        return Fatal(said, hint="compare the connector's `oauth2`, scopes first, with the app's")
    if code in _DEAD:
        if renewing:
            return Defunct(said, hint="connect again: membrane connect")
        return NotAuthorized(said, hint="what proves it was used already, or ran out: start anew")
    return NotAuthorized(said, hint="connect again: membrane connect")


def _body(response: httpx.Response) -> dict[str, object]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
