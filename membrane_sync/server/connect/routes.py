"""The pages behind a link, the callback that apps send users back to, and the script for popups."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from membrane_sync.connections.answers import (
    CALLBACK_PATH,
    Answering,
    Visitor,
)
from membrane_sync.connections.choices import Choice, choices
from membrane_sync.connections.requests import Host, hashed, request_of_link
from membrane_sync.errors import LockTimeout, MembraneError, NotFound, RateLimited, Retryable
from membrane_sync.ports import ConnectionRequest
from membrane_sync.project.addresses import is_allowed_origin
from membrane_sync.server.connect.browser import (
    browser_of,
    csrf_of,
    is_own_form,
    new_browser,
    remember,
)
from membrane_sync.server.connect.pages import HEADERS, SOURCE, Form, Pages, answer_of
from membrane_sync.server.connect.words import FOREIGN, OTHERWISE, PROBLEMS

MOST_FIELDS = 200
_STATUS = {"not_authorized": 422, "access_denied": 422, "another_account": 422}
_STATUS |= {"rate_limited": 429, "csrf": 403}
_log = logging.getLogger(__name__)


def page_router(host: Host) -> APIRouter:
    """The routes for users' browsers; they're no part of the OpenAPI document."""
    visits = _Visits(host)
    router = APIRouter(include_in_schema=False, route_class=_spoken(visits))
    router.add_api_route("/connect.js", _script, methods=["GET"])
    router.add_api_route("/connect-assets/{name}", _asset, methods=["GET"])
    router.add_api_route("/connect/{token}", visits.show, methods=["GET"])
    router.add_api_route("/connect/{token}", visits.submit, methods=["POST"])
    router.add_api_route("/connect/{token}/cancel", visits.cancel, methods=["POST"])
    router.add_api_route("/connect/{token}/status", visits.status, methods=["GET"])
    router.add_api_route(CALLBACK_PATH, visits.come_back, methods=["GET"])
    return router


def _spoken(visits: _Visits) -> type[APIRoute]:
    """A route whose errors are pages, too: who looks at them is no program."""

    class SpokenRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def spoken(http: Request) -> Response:
                try:
                    return await handle(http)
                except MembraneError as error:
                    return visits.sorry(error)

            return spoken

    return SpokenRoute


class _Visits:
    """One visit after another: each method is a page."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pages = Pages(host)
        self._answering = Answering(host)
        self._secure = host.settings.connect.public_url.startswith("https:")

    def show(self, http: Request, token: str) -> Response:
        """Where to choose, and to fill in; or how the request ended."""
        try:
            request = request_of_link(self._host, token)
        except NotFound:
            return self._pages.unknown()
        browser = browser_of(http, secure=self._secure)
        if request.enters_code and request.browser == hashed(browser):
            looked = self._answering.look(request, self._visitor(http))
            if looked.code is not None:
                return self._pages.code(request, token, csrf_of(browser, request.id), looked.code)
            if looked.error is not None:
                _note(request, looked.error)
                return self._to_page(token, looked.option, looked.error.code)
            request = request_of_link(self._host, token)
        if request.status != "pending":
            return self._ended(request, browser)
        origin = http.query_params.get("origin", "")
        if origin and not is_allowed_origin(origin, self._host.settings.connect.redirects):
            return self._pages.message(FOREIGN, 403)
        if origin != request.origin and origin:
            self._host.requests.opened_by(request.id, origin)
        known = choices(self._host, request)
        if not known:
            app = self._pages.app(request.integration)
            return self._pages.message(OTHERWISE, 503, app)
        form = Form(
            choice=_chosen(known, http.query_params.get("option", "")),
            csrf=csrf_of(browser := browser or new_browser(), request.id),
            problem=http.query_params.get("problem", "overdue" if request.enters_code else ""),
        )
        response = self._pages.form(request, token, known, form)
        remember(response, browser, secure=self._secure)
        return response

    async def submit(self, http: Request, token: str) -> Response:
        """A form that was filled in."""
        typed = await _form(http)
        return await run_in_threadpool(self._submit, http, token, typed)

    async def cancel(self, http: Request, token: str) -> Response:
        """The user doesn't want to."""
        typed = await _form(http)
        return await run_in_threadpool(self._cancel, http, token, typed)

    def status(self, http: Request, token: str) -> Response:
        """How the request stands, for the page that opened the link as a popup."""
        headers = {"Cache-Control": "no-store", "Vary": "Origin"}
        origin = http.headers.get("Origin", "")
        if is_allowed_origin(origin, self._host.settings.connect.redirects):
            headers["Access-Control-Allow-Origin"] = origin
        try:
            request = request_of_link(self._host, token)
        except NotFound:
            return JSONResponse({"status": "error", "error": "not_found"}, 404, headers)
        # Nobody looks after a code once the page that shows it is closed.
        at_app = request.away_until > time.time() and not request.enters_code
        said = {"source": SOURCE, **answer_of(request), "at_app": at_app}
        return JSONResponse(said, 200, headers)

    def come_back(self, http: Request) -> Response:
        """The user is back from the app."""
        answer = dict(http.query_params)
        try:
            came = self._answering.come_back(answer, self._visitor(http))
        except MembraneError:
            return self._pages.message(PROBLEMS["state"], 400)
        if came.error is not None:
            _note(came.request, came.error)
            return self._to_page(came.token, came.option, came.error.code)
        return self._to_page(came.token)

    def sorry(self, error: MembraneError) -> Response:
        """A page for what nobody foresaw, as a ledger that can't be reached."""
        _log.warning("a page of connecting failed: %s", error)
        status = 503 if isinstance(error, Retryable) else 500
        return self._pages.message(PROBLEMS.get(error.code, OTHERWISE), status)

    def _submit(self, http: Request, token: str, typed: dict[str, str]) -> Response:
        try:
            request = request_of_link(self._host, token)
        except NotFound:
            return self._pages.unknown()
        visitor = self._visitor(http)
        if request.status != "pending":
            return self._ended(request, visitor.browser)
        known = choices(self._host, request)
        choice = _chosen(known, typed.get("option", ""))
        if not is_own_form(visitor.browser, request.id, typed.get("csrf", "")):
            return self._again(http, request, token, Form(choice, "", typed, problem="csrf"))
        if choice is None:
            return self._to_page(token)
        csrf = typed["csrf"]
        try:
            answered = self._answering.submit(request, token, choice, typed, visitor)
        except MembraneError as error:
            _note(request, error)
            form = Form(choice, csrf, typed, problem=error.code)
            response = self._again(http, request, token, form)
            if isinstance(error, RateLimited):
                response.headers["Retry-After"] = str(int(error.retry_after or 60) + 1)
            return response
        if answered.wrong:
            return self._again(http, request, token, Form(choice, csrf, typed, answered.wrong))
        if answered.url:
            return self._pages.leaving(answered.url, self._pages.app(request.integration))
        return self._to_page(token)

    def _cancel(self, http: Request, token: str, typed: dict[str, str]) -> Response:
        try:
            request = request_of_link(self._host, token)
        except NotFound:
            return self._pages.unknown()
        browser = browser_of(http, secure=self._secure)
        if request.status != "pending":
            return self._ended(request, browser)
        if not is_own_form(browser, request.id, typed.get("csrf", "")):
            return self._again(http, request, token, Form(None, "", problem="csrf"))
        try:
            self._answering.cancel(request, self._visitor(http))
        except LockTimeout as error:
            return self._again(http, request, token, Form(None, "", problem=error.code))
        return self._to_page(token)

    def _again(self, http: Request, request: ConnectionRequest, token: str, form: Form) -> Response:
        """The form once more, with what is wrong."""
        known = choices(self._host, request)
        browser = browser_of(http, secure=self._secure) or new_browser()
        shown = Form(
            choice=form.choice or _chosen(known, ""),
            csrf=csrf_of(browser, request.id),
            typed=form.typed,
            wrong=form.wrong,
            problem=form.problem,
            status=_STATUS.get(form.problem, 422 if form.wrong else 503),
        )
        response = self._pages.form(request, token, known, shown)
        remember(response, browser, secure=self._secure)
        return response

    def _ended(self, request: ConnectionRequest, browser: str) -> Response:
        """The end, for the browser that brought it about; for others, the link is used up."""
        if request.error in ("expired", "revoked"):
            return self._pages.gone(request, request.error)
        if browser and request.browser == hashed(browser):
            return self._pages.ended(request)
        return self._pages.gone(request, "used")

    def _to_page(self, token: str, option: str = "", problem: str = "") -> Response:
        query = "?" + urlencode({"option": option, "problem": problem}) if problem else ""
        url = f"{self._pages.base}/connect/{quote(token, safe='')}{query}"
        return RedirectResponse(url, 303, HEADERS)

    def _visitor(self, http: Request) -> Visitor:
        address = http.client.host if http.client else ""
        return Visitor(browser_of(http, secure=self._secure), address)


async def _form(http: Request) -> dict[str, str]:
    """What the form says, without files; nothing if it's no form at all."""
    kind = http.headers.get("Content-Type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        return {}
    form = await http.form(max_fields=MOST_FIELDS)
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _chosen(known: list[Choice], key: str) -> Choice | None:
    """The choice of this key; without one, the only one there is."""
    found = [one for one in known if one.key == key]
    if found:
        return found[0]
    return known[0] if len(known) == 1 else None


def _note(request: ConnectionRequest, error: MembraneError) -> None:
    """For those who run the server: the page only says what users can do about it."""
    _log.warning("connection request %s (%s): %s", request.id, request.integration, error)


def _script() -> Response:
    # Products load it from their own pages.
    headers = {"Cross-Origin-Resource-Policy": "cross-origin", "Cache-Control": "max-age=3600"}
    return Response(_read("connect.js"), 200, headers, "text/javascript")


def _asset(name: str) -> Response:
    kinds = {"page.css": "text/css", "page.js": "text/javascript"}
    if name not in kinds:
        return Response("", 404)
    headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(_read(name), 200, headers, kinds[name])


def _read(name: str) -> str:
    return files("membrane_sync.server.connect").joinpath("assets", name).read_text("utf-8")
