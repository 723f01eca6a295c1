"""The simulator as an ASGI app: who asks, quotas, faults, then the answer, and the log."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import replace
from hashlib import blake2b
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from membrane_sync.testing.simulator.access import CLIENT_ID, CLIENT_SECRET, Refused
from membrane_sync.testing.simulator.control import control_routes
from membrane_sync.testing.simulator.limits import Standing, announcement, refusal
from membrane_sync.testing.simulator.routes import Received, Reply, reply, route
from membrane_sync.testing.simulator.simulator import Simulator
from membrane_sync.testing.simulator.switches import Quota
from membrane_sync.testing.simulator.traffic import Entry

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_SERVER_ERRORS = (500, 502, 503, 504)
_HTML = b"<!doctype html><html><body><h1>We'll be back soon</h1></body></html>"


def asgi(simulator: Simulator) -> Starlette:
    """The ASGI app of a simulator."""
    door = _Door(simulator)
    return Starlette(
        routes=[
            Mount("/_control", routes=control_routes(simulator)),
            Route("/oauth/authorize", door.authorize),
            Route("/oauth/token", door.token, methods=["POST"]),
            Route("/{path:path}", door.answer, methods=METHODS),
        ],
        middleware=[Middleware(GZipMiddleware)] if simulator.wire.gzip else [],
    )


class _Door:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def answer(self, request: Request) -> Response:
        """One request of a client, from the door to the log."""
        simulator = self._simulator
        simulator.log.count += 1
        number = simulator.log.count
        query = dict(request.query_params)
        account = simulator.gate.account(request.headers, query)
        fault = simulator.dice.fault(number) or ""
        received = Received(
            method=request.method,
            path=request.url.path,
            url=str(request.url.replace(query="")).rstrip("?"),
            query=query,
            headers=request.headers,
            body=await request.body(),
            account=account or "",
            number=number,
            duplicate=fault == "duplicate",
        )
        if fault == "slow":
            await asyncio.sleep(simulator.dice.faults.slow_seconds)
        with simulator.lock:
            answer = self._reply(received, account, fault)
        shown = urlencode({k: v for k, v in query.items() if k != "api_key"})
        simulator.log.add(
            Entry(
                number,
                time.monotonic(),
                received.account,
                received.method,
                received.path,
                shown,
                answer.status,
                fault,
            )
        )
        return _response(answer, fault)

    def _reply(self, received: Received, account: str | None, fault: str) -> Reply:
        simulator = self._simulator
        if account is None or fault == "unauthorized":
            said = {"error": "unauthorized", "message": "the credentials are not valid"}
            return reply(401, said)
        admitted, standing = simulator.meter.admit(account)
        if not admitted and standing is not None:
            return self._refused(received, standing)
        if fault == "rate_limit":
            return self._refused(received, standing or Standing(_INVENTED, 0, 1.0))
        if fault == "error":
            status = _SERVER_ERRORS[simulator.dice.pick(received.number, len(_SERVER_ERRORS))]
            return reply(status, {"error": "server_error", "message": "something broke"})
        simulator.advance()
        answer = route(simulator, received)
        if fault == "html":
            return Reply(200, _HTML, {"Content-Type": "text/html"})
        if standing is not None and simulator.meter.limits.announced:
            spoken = announcement(simulator.meter.limits.dialect, standing)
            answer = replace(answer, headers={**answer.headers, **spoken})
        return _conditional(simulator, received, answer)

    def _refused(self, received: Received, standing: Standing) -> Reply:
        dialect = self._simulator.meter.limits.dialect
        if dialect == "shopify" and received.path == "/graphql":
            return reply(200, _throttled(standing))
        refused = refusal(dialect, standing)
        return replace(reply(refused.status, refused.body), headers=refused.headers)

    async def authorize(self, request: Request) -> Response:
        """The page where a person would say yes; here `account` says who did."""
        query = request.query_params
        account = query.get("account", self._simulator.access.accounts[0])
        target = query.get("redirect_uri", "")
        try:
            given = {"code": self._simulator.gate.code(account), "state": query.get("state", "")}
        except Refused as error:
            given = {"error": str(error), "state": query.get("state", "")}
        return RedirectResponse(f"{target}?{urlencode(given)}", status_code=302)

    async def token(self, request: Request) -> Response:
        """RFC 6749 section 5: authorization_code, refresh_token, client_credentials."""
        form = dict(parse_qsl((await request.body()).decode()))
        given = (form.get("client_id"), form.get("client_secret"))
        basic = _basic(request.headers.get("authorization", ""))
        if (CLIENT_ID, CLIENT_SECRET) not in (given, basic):
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        try:
            with self._simulator.lock:
                return JSONResponse(self._simulator.gate.grant(form))
        except Refused as error:
            return JSONResponse({"error": str(error)}, status_code=400)


_INVENTED = Quota(requests=100, per_seconds=10)
"""What a refusal speaks of where the app has no quota."""


class _CutOff(Response):
    """Promises the whole body, sends half of it and closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def _response(answer: Reply, fault: str) -> Response:
    body = answer.body[: len(answer.body) // 2] if fault == "truncate" else answer.body
    kind = _CutOff if fault == "reset" else Response
    headers = dict(answer.headers)
    if body and "Content-Type" not in headers:
        headers["Content-Type"] = "application/json"
    return kind(body, answer.status, headers)


def _conditional(simulator: Simulator, received: Received, answer: Reply) -> Reply:
    table = simulator.tables.get(received.path.strip("/"))
    if table is None or not table.spec.etag or answer.status != 200:
        return answer
    etag = f'"{blake2b(answer.body, digest_size=12).hexdigest()}"'
    headers = {**answer.headers, "ETag": etag}
    sent, fault = received.headers.get("if-none-match"), table.spec.etag_fault
    if sent is not None and fault != "deaf" and (sent == etag or fault == "stuck"):
        return Reply(304, b"", headers)
    return replace(answer, headers=headers)


def _throttled(standing: Standing) -> dict[str, object]:
    status = {
        "maximumAvailable": standing.quota.requests,
        "currentlyAvailable": max(0, standing.left),
        "restoreRate": standing.quota.requests / standing.quota.per_seconds,
    }
    return {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {"cost": {"requestedQueryCost": 1, "throttleStatus": status}},
    }


def _basic(header: str) -> tuple[str, str]:
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    name, _, secret = base64.b64decode(given).decode().partition(":")
    return name, secret
