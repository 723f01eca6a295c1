"""The product's own API over HTTP; each request says in a token for which tenant it is."""

from __future__ import annotations

import time
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from membrane_sync.clients.transport import http_client
from membrane_sync.errors import AppUnavailable, NotFound, UnexpectedAnswer
from membrane_sync.ports.product import ProductCall

SECONDS = 15.0
TOKEN_HEADER = "X-Membrane-Token"  # noqa: S105
TOKEN_SECONDS = 300
AUDIENCE = "product"
"""So that the token is good over there, and not in our own API."""
LARGEST = 1_000_000


class HttpProduct:
    """Implements `ports.product.ProductApi`; signs with a workspace secret, if there's one."""

    def __init__(self, workspace_key: str, secret: str) -> None:
        self._workspace = workspace_key
        self._secret = secret

    def send(self, call: ProductCall) -> Any:
        place = f"{call.method} {call.url.partition('?')[0]}"
        headers = {**self._signed(call), **call.headers}
        # Without a body there's none, not `null`.
        body = {} if call.body is None else {"json": call.body}
        try:
            with http_client(headers, timeout_seconds=SECONDS) as client:
                answer = client.request(call.method, call.url, params=dict(call.query), **body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AppUnavailable(
                f"the product didn't answer {place}: {type(error).__name__}"
            ) from None
        _refuse(answer, place)
        try:
            return answer.json() if answer.content and len(answer.content) <= LARGEST else None
        except (ValueError, RecursionError):
            return None

    def _signed(self, call: ProductCall) -> dict[str, str]:
        if not self._secret:
            return {}
        now, tenant = int(time.time()), call.tenant
        claims = {"iss": self._workspace, "aud": AUDIENCE, "sub": tenant.key, "iat": now}
        claims |= {"exp": now + TOKEN_SECONDS, "name": tenant.name, "fields": dict(tenant.fields)}
        key = OctKey.import_key(self._secret)
        return {TOKEN_HEADER: jwt.encode({"alg": "HS256"}, claims, key, algorithms=["HS256"])}


def _refuse(answer: httpx.Response, place: str) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise NotFound(f"the product answered {status} to {place}")
    if status == 429 or status >= 500:
        raise AppUnavailable(f"the product answered {status} to {place}")
    if not answer.is_success:
        raise UnexpectedAnswer(
            f"the product answered {status} to {place}",
            hint="is the internal event's request as your API wants it?",
        )
