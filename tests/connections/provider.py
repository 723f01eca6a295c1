"""A grant of the real OAuth provider, as a user gives it, and what the provider was asked."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from membrane_sync.apps.oidc_provider import CALLBACK, OidcProvider

CLIENT = "basic"
SCOPE = "openid offline_access api:read"
_VERIFIER = "a-verifier-of-the-tests-which-is-long-enough-for-pkce"


def grant(provider: OidcProvider, user: str) -> dict[str, Any]:
    """What the token endpoint gives for a user who logs in and agrees."""
    with httpx.Client(timeout=30) as browser:
        code = _authorized(browser, provider, user)
        answer = browser.post(
            provider.token_url,
            auth=(CLIENT, provider.secret(CLIENT)),
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "code_verifier": _VERIFIER,
            },
        )
    answer.raise_for_status()
    given: dict[str, Any] = answer.json()
    return given


def _authorized(browser: httpx.Client, provider: OidcProvider, user: str) -> str:
    digest = hashlib.sha256(_VERIFIER.encode()).digest()
    query = {
        "client_id": CLIENT,
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": SCOPE,
        "prompt": "consent",
        "state": uuid.uuid4().hex,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    answer = browser.get(f"{provider.authorize_url}?{urlencode(query)}")
    for _ in range(20):
        if answer.is_redirect:
            where = answer.headers["location"]
            if where.startswith(CALLBACK):
                return parse_qs(urlsplit(where).query)["code"][0]
            answer = browser.get(httpx.URL(provider.url).join(where))
        else:
            answer = browser.post(_action(answer), data=_filled_in(answer, user))
    raise AssertionError(f"the provider never came back: {answer.status_code}")


def _action(page: httpx.Response) -> httpx.URL:
    found = re.search(r'action="([^"]+)"', page.text)
    assert found, page.text
    return page.url.join(found.group(1))


def _filled_in(page: httpx.Response, user: str) -> dict[str, str]:
    found = re.search(r'name="prompt" value="(\w+)"', page.text)
    assert found, page.text
    typed = {"login": user, "password": "any"} if found.group(1) == "login" else {}
    return {"prompt": found.group(1), **typed}


def refreshes(provider: OidcProvider) -> list[int]:
    """The status of each refresh that the provider was asked for."""
    return [call["status"] for call in provider.calls() if call.get("grant") == "refresh_token"]


def works(provider: OidcProvider, access_token: str) -> bool:
    """Whether the provider's API takes the token."""
    bearer = {"Authorization": f"Bearer {access_token}"}
    return httpx.get(f"{provider.api_url}/records", headers=bearer, timeout=30).status_code == 200
