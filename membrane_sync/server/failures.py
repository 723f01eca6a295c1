"""Every failure in one shape: `{"error": {"code", "message", "hint", "request_id"}}`.

Never a stack trace, nor what the caller sent, nor a secret.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from membrane_sync.errors import (
    Fatal,
    InvalidInput,
    LedgerUnavailable,
    LockTimeout,
    MembraneError,
    NotAuthorized,
    NotConnected,
    NotFound,
    NotReady,
    ProjectError,
    RateLimited,
    Rejected,
    Retryable,
    SecretError,
    UnexpectedAnswer,
)


class Problem(BaseModel):
    """One thing wrong in a request, and where."""

    element: str
    message: str


class Said(BaseModel):
    """What went wrong, and what to do; `code` is stable."""

    code: str
    message: str
    hint: str
    request_id: str
    problems: list[Problem] = []


class Failure(BaseModel):
    """The body of every answer that isn't what was asked for."""

    error: Said


_STATUS: Mapping[str, int] = {
    "not_authenticated": 401,
    "forbidden": 403,
    "already_exists": 409,
    "in_use": 409,
}
"""Of errors that are the server's own, by their code."""

_STATUS_OF: tuple[tuple[type[MembraneError], int], ...] = (
    (NotFound, 404),
    (NotConnected, 404),
    (NotReady, 409),
    (RateLimited, 429),
    (LockTimeout, 409),
    (Retryable, 503),
    (Rejected, 422),
    (NotAuthorized, 422),
    (UnexpectedAnswer, 502),
    (SecretError, 500),
    (Fatal, 422),
)
"""Of the rest, by the first class that fits; what is left is our own fault."""

_INNER = (ProjectError, SecretError, LedgerUnavailable)
"""Their words are about files, keys and addresses of ours, so they're for the log alone."""

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 400: "bad_request"}
_HINTS = {
    404: "GET /openapi.json lists what there is",
    405: "GET /openapi.json lists the methods",
    413: "send less: largest_request_bytes is the limit",
    400: "send a body of JSON in UTF-8",
}
_ASK_AGAIN_SECONDS = 5

log = logging.getLogger("membrane_sync.server")


def install(app: FastAPI) -> None:
    """Answer all that goes wrong in the app in the one shape."""
    app.add_exception_handler(MembraneError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def status_of(error: MembraneError) -> int:
    """The HTTP status for an error."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    return next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)


def failure(
    status: int,
    code: str,
    message: str,
    hint: str = "",
    *,
    request_id: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """An answer that says what went wrong and what to do."""
    said = {"code": code, "message": message, "hint": hint, **more, "request_id": request_id}
    # In ASCII: what is quoted of a request may not be text.
    return Response(
        json.dumps({"error": said}),
        status,
        headers=dict(headers or {}),
        media_type="application/json",
    )


def said(error: MembraneError, request_id: str) -> Response:
    """The answer for one of our errors."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        asked = error.retry_after if isinstance(error, RateLimited) else None
        headers["Retry-After"] = str(math.ceil(_ASK_AGAIN_SECONDS if asked is None else asked))
    if isinstance(error, _INNER):
        log.error("%s %s: %s", request_id, error.code, error.message)
        message, hint = "the server can't do this now", "its log says more: look for the request_id"
        return failure(status, error.code, message, hint, request_id=request_id, headers=headers)
    more: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        fields = error.fields.items()
        more["problems"] = [{"element": name, "message": words} for name, words in fields]
    return failure(
        status,
        error.code,
        error.message,
        error.hint,
        request_id=request_id,
        headers=headers,
        **more,
    )


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, MembraneError)
    return said(error, request_id_of(request))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Never `input`: it may be a secret.
    problems = [
        {"element": ".".join(str(step) for step in problem["loc"]), "message": problem["msg"]}
        for problem in error.errors()[:50]
    ]
    first = problems[0]
    return failure(
        422,
        "invalid",
        f"{first['element']}: {first['message']}",
        "mend what `problems` lists; GET /openapi.json says what each route takes",
        request_id=request_id_of(request),
        problems=problems,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    return failure(
        status,
        _CODES.get(status, "http"),
        str(error.detail),
        _HINTS.get(status, ""),
        request_id=request_id_of(request),
        headers=error.headers,
    )


def request_id_of(request: Request) -> str:
    """What the log calls this request by."""
    return str(request.scope.get("state", {}).get("request_id", ""))
