"""An API on loopback, an app behind it that notes what it gets, and tokens of all kinds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from joserfc import jwt
from joserfc.jwk import Key, OctKey
from joserfc.jws import JWSRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from membrane_sync.testing.simulator.server import address, bound
from tests.end_to_end.helpers import Workspace, new_workspace

WORKSPACE = "ws-4711"
API_KEY = "api-key-" + "k" * 32
OLD_KEY = "old-key-" + "o" * 32
SECRET = "workspace-secret-" + "s" * 32
OLD_SECRET = "old-workspace-secret-" + "s" * 32
TOKEN = "planted-token-4711"
PIN = "planted-pin-0815"

SETTINGS = {
    "MEMBRANE_API_KEYS": f"{API_KEY}, {OLD_KEY}",
    "MEMBRANE_WORKSPACE_KEY": WORKSPACE,
    "MEMBRANE_WORKSPACE_SECRETS": f"{SECRET},{OLD_SECRET}",
    "MEMBRANE_PRIVATE_HOSTS": "127.0.0.1",
}

CONNECTOR = """
name: Echo
base_url: {$var: $.input.url}
headers: {X-Version: "7"}
query: {account: "42"}
input_schema:
  type: object
  properties:
    url: {type: string}
    pin: {type: string, isSensitive: true}
  required: [url]
authentication:
  type: bearer
  token: {$var: $.credentials.token}
  input_schema:
    type: object
    properties: {token: {type: string, isSensitive: true}}
    required: [token]
test: {path: /me}
"""


def project_with_echo(root: Path) -> Workspace:
    """A project with an app that takes whatever it's sent, as `echo`."""
    workspace = new_workspace(root)
    workspace.write("connectors/echo/connector.yaml", CONNECTOR)
    workspace.write("mappings/integrations/echo/integration.yaml", "connector: echo\n")
    return workspace


@dataclass(frozen=True)
class Seen:
    """A request as the app got it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class EchoApp:
    """The app: takes `token` at /me, and does as its paths say."""

    token: str = TOKEN
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def app(self) -> Starlette:
        async def answer(request: Request) -> Response:
            raw = request.scope["raw_path"].decode().partition("?")[0]
            body = await request.body()
            query = request.scope["query_string"].decode()
            self.seen.append(Seen(request.method, raw, query, dict(request.headers), body))
            return self._answer(request, body)

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", answer, methods=methods)])

    def _answer(self, request: Request, body: bytes) -> Response:
        path = request.url.path.rpartition("/v1")[2]
        sent = request.headers.get("authorization", "")
        if path == "/me":
            good = sent == f"Bearer {self.token}"
            return JSONResponse({"me": good}, 200 if good else 401)
        if path == "/redirect":
            return RedirectResponse(request.query_params["to"] + f"?access_token={self.token}", 302)
        if path == "/debug":
            return JSONResponse({"headers": dict(request.headers), "pin": PIN})
        if path.startswith("/status/"):
            return JSONResponse({"error": "as you wish"}, int(path.rpartition("/")[2]))
        if path.startswith("/bytes/"):
            return Response(b"x" * int(path.rpartition("/")[2]))
        echoed = {"X-Echo": sent, "Set-Cookie": "app=1", "X-App": "echo"}
        return Response(body or b'{"echo": true}', headers=echoed, media_type="application/json")


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The ASGI app on a free port; gives its URL."""
    listening = bound()
    config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        _wait_for(server)
        yield address(listening)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=10)
        listening.close()


def _wait_for(server: uvicorn.Server) -> None:
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)


@contextmanager
def echo_app() -> Iterator[EchoApp]:
    """The app on a port of its own."""
    echo = EchoApp()
    with serving(echo.app()) as echo.url:
        yield echo


def claims(tenant: str | None = "acme", **more: Any) -> dict[str, Any]:
    """Claims that are good for an hour; None leaves one out."""
    given = {"iss": WORKSPACE, "tenantKey": tenant, "exp": int(time.time()) + 3600, **more}
    return {name: value for name, value in given.items() if value is not None}


def token(
    tenant: str | None = "acme",
    *,
    key: Key | None = None,
    algorithm: str = "HS256",
    header: Mapping[str, Any] | None = None,
    **more: Any,
) -> str:
    """A token as the product would sign it."""
    signing = key or OctKey.import_key(SECRET)
    registry = JWSRegistry(algorithms=[algorithm])
    named = {"alg": algorithm, **(header or {})}
    return jwt.encode(named, claims(tenant, **more), signing, registry=registry)


def by_hand(header: Mapping[str, Any], payload: Mapping[str, Any], secret: bytes | None) -> str:
    """A token that no library would make; without a secret it has no signature."""
    text = b".".join(_part(json.dumps(part).encode()) for part in (header, payload))
    signature = hmac.digest(secret, text, hashlib.sha256) if secret is not None else b""
    return (text + b"." + _part(signature)).decode()


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Caller:
    """Calls an API as somebody."""

    def __init__(self, url: str, credential: str = "", tenant: str = "") -> None:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        if tenant:
            headers["X-Membrane-Tenant"] = tenant
        self.client = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.client.request(method, path, json=body, **options)
