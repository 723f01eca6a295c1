"""The external app over HTTP: what is sent, what is waited for, and what is never said."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from membrane_sync.clients.api import ATTEMPTS, DEADLINE_SECONDS, HttpApi, retry_after
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import (
    AppUnavailable,
    Fatal,
    MembraneError,
    NotAuthorized,
    RateLimited,
    UnexpectedAnswer,
)
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.settings import Settings
from membrane_sync.records import Call

SECRET = "planted-secret"
CREDENTIALS = {"username": "ada", "password": SECRET, "token": SECRET}
LIST = Call("GET", "/contacts")
OK = httpx.Response(200, json={"data": []})
BEARER = {"type": "bearer", "token": {"$var": "$.credentials.token"}}


class App:
    """An app that gives its answers in turn, the last one for ever, and notes what it was sent."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A response object can be read once only.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def api(self, credentials: dict[str, Any] | None = None, **connector: Any) -> HttpApi:
        declared = Connector.model_validate(
            {"key": "app", "base_url": {"$var": "$.input.url"}, **connector}
        )
        record = ConnectionRecord(
            "acme",
            "app",
            "acme",
            input={"url": "https://app.test/v1"},
            credentials=CREDENTIALS if credentials is None else credentials,
        )
        return HttpApi(
            declared,
            record,
            {"p": "x"},
            transport=httpx.MockTransport(self),
            sleep=self.waits.append,
        )


def test_a_call_becomes_a_request() -> None:
    app = App(httpx.Response(200, json={"n": 1}, headers={"ETag": "e"}))
    api = app.api(headers={"X-P": {"$var": "$.parameters.p"}}, query={"version": "2"})
    query = {"q": "a&ü", "on": True, "filter": {"a": 1}, "ids": [1, 2]}
    answer = api.send(Call("POST", "/contacts", query, {"X-Q": "1"}, {"name": "Zoë"}))
    (sent,) = app.requests
    assert sent.method == "POST"
    assert str(sent.url).startswith("https://app.test/v1/contacts?version=2&q=a%26%C3%BC")
    assert sent.url.params.multi_items()[2:] == [
        ("on", "true"),
        ("filter", '{"a": 1}'),
        ("ids", "1"),
        ("ids", "2"),
    ]
    assert (sent.headers["X-P"], sent.headers["X-Q"]) == ("x", "1")
    assert sent.headers["User-Agent"] == "membrane-sync"
    assert sent.content == '{"name":"Zoë"}'.encode()
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, {"n": 1}, "e")
    assert answer.url == "https://app.test/v1/contacts"
    assert api.requests == 1


@pytest.mark.parametrize(
    ("authentication", "header", "value"),
    [
        ({"type": "none"}, "Authorization", None),
        (
            {
                "type": "basic",
                "username": {"$var": "$.credentials.username"},
                "password": {"$var": "$.credentials.password"},
            },
            "Authorization",
            "Basic " + base64.b64encode(f"ada:{SECRET}".encode()).decode(),
        ),
        (BEARER, "Authorization", f"Bearer {SECRET}"),
        (
            {
                "type": "api_key",
                "token": {"$var": "$.credentials.token"},
                "parameter": "X-Key",
                "prefix": "Token ",
            },
            "X-Key",
            f"Token {SECRET}",
        ),
        (
            {
                "type": "api_key",
                "token": {"$var": "$.credentials.token"},
                "location": "cookie",
                "parameter": "session",
            },
            "Cookie",
            f"session={SECRET}",
        ),
    ],
)
def test_authentication(authentication: dict[str, Any], header: str, value: str | None) -> None:
    app = App(OK)
    app.api(authentication=authentication).send(LIST)
    assert app.requests[0].headers.get(header) == value


def test_a_key_in_the_query_goes_with_every_page() -> None:
    app = App(OK)
    key = {"type": "api_key", "token": {"$var": "$.credentials.token"}, "location": "query"}
    api = app.api(authentication={**key, "parameter": "key"})
    api.send(Call("GET", "/contacts", {"page": 1}))
    api.send(Call("GET", "https://app.test/v1/contacts?page=2&x=a%2Cb"))
    assert [dict(sent.url.params) for sent in app.requests] == [
        {"page": "1", "key": SECRET},
        {"page": "2", "x": "a,b", "key": SECRET},
    ]


@pytest.mark.parametrize("credentials", [{}, {"token": ""}, {"token": None}])
def test_missing_credentials_are_named(credentials: dict[str, Any]) -> None:
    with pytest.raises(NotAuthorized, match="give no token"):
        App(OK).api(credentials, authentication=BEARER)


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET}€"])
def test_a_token_that_no_header_can_hold_is_refused(token: str) -> None:
    with pytest.raises(NotAuthorized, match="character that a header can't hold") as caught:
        App(OK).api({"token": token}, authentication=BEARER)
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_a_base_url_that_is_none_is_refused() -> None:
    with pytest.raises(Fatal, match="base_url gives"):
        App(OK).api(base_url={"$var": "$.input.server"})
    for bad in ("https://app.test:port", "https://", f"https://app.test/{'x' * 70_000}"):
        with pytest.raises(Fatal, match="base_url gives .* not a URL"):
            App(OK).api(base_url=bad)


def test_a_path_that_makes_no_url_is_refused() -> None:
    with pytest.raises(Fatal, match="a path makes no URL"):
        App(OK).api().send(Call("GET", "/contacts/\x00"))


# --- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_waits_as_long_as_the_app_asks(status: int) -> None:
    app = App(httpx.Response(status, headers={"Retry-After": "7"}), OK)
    assert app.api().send(LIST).status == 200
    assert len(app.waits) == 1 and 7 <= app.waits[0] < 8


def test_waits_until_the_moment_the_app_names() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    app = App(httpx.Response(429, headers={"Retry-After": moment}), OK)
    app.api().send(LIST)
    assert 18 <= app.waits[0] <= 21


@pytest.mark.parametrize("asked", ["0", "-5", "Mon, 01 Jan 2024 00:00:00 GMT", "soon", "nan"])
def test_never_hurries_whatever_the_app_asks(asked: str) -> None:
    app = App(httpx.Response(429, headers={"Retry-After": asked}))
    with pytest.raises(RateLimited):
        app.api().send(LIST)
    assert len(app.requests) == ATTEMPTS
    assert min(app.waits) >= 0.1


def test_gives_up_at_once_where_the_wait_would_pass_the_deadline() -> None:
    app = App(httpx.Response(429, headers={"Retry-After": str(DEADLINE_SECONDS * 10)}))
    with pytest.raises(RateLimited) as caught:
        app.api().send(LIST)
    assert caught.value.retry_after == DEADLINE_SECONDS * 10
    assert (len(app.requests), app.waits) == (1, [])


@pytest.mark.parametrize(
    "hiccup",
    [
        httpx.Response(500),
        httpx.Response(502, text="<html>bad gateway</html>"),
        httpx.Response(408),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut off"),
        httpx.Response(
            200, content=b'{"data": [{"id"', headers={"Content-Type": "application/json"}
        ),
        httpx.Response(200, content=b'{"data": ['),
    ],
)
def test_a_hiccup_is_repeated(hiccup: httpx.Response | Exception) -> None:
    app = App(hiccup, hiccup, OK)
    api = app.api()
    assert api.send(LIST).body == {"data": []}
    assert api.requests == 3
    assert len(app.waits) == 2 and app.waits[1] > app.waits[0] >= 0.5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "a number with more digits than can be read"),
    ],
)
def test_json_that_can_never_be_read_is_not_asked_for_again(content: bytes, said: str) -> None:
    app = App(httpx.Response(200, content=content))
    with pytest.raises(UnexpectedAnswer, match=f"app.*answered .*{said}"):
        assert app.api().send(LIST).body
    assert len(app.requests) == 1


def test_an_app_that_stays_away_is_unavailable() -> None:
    app = App(httpx.Response(503))
    with pytest.raises(AppUnavailable, match="app: GET /contacts answered 503"):
        app.api().send(LIST)
    assert len(app.requests) == ATTEMPTS


def test_retry_after_in_all_its_notations() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after({}, now) is None
    assert retry_after({"retry-after": " 1.5 "}, now) == 1.5
    assert retry_after({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, now) == 60
    assert retry_after({"retry-after": "whenever"}, now) is None


# --- refusing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_not_tried_again(status: int) -> None:
    app = App(httpx.Response(status, json={"message": "who are you?"}))
    with pytest.raises(NotAuthorized, match="who are you") as caught:
        app.api().send(LIST)
    assert "connect 'acme' again" in caught.value.hint
    assert len(app.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
def test_other_refusals_are_unexpected(status: int) -> None:
    app = App(httpx.Response(status, json={"error": "no such thing", "data": "private"}))
    with pytest.raises(UnexpectedAnswer, match=f"answered {status}: no such thing") as caught:
        app.api().send(LIST)
    assert "private" not in str(caught.value)
    assert len(app.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/v1/contacts",
        "http://app.test/v1/contacts",
        "https://app.test:8443/v1/contacts",
        "https://app.test@evil.test/v1",
        "https://user:pw@app.test/v1",
    ],
)
def test_credentials_go_to_no_other_host(url: str) -> None:
    app = App(OK)
    with pytest.raises(UnexpectedAnswer, match="credentials are not sent there"):
        app.api(authentication=BEARER).send(Call("GET", url))
    assert app.requests == []


def test_a_next_page_that_is_no_url_is_refused() -> None:
    with pytest.raises(UnexpectedAnswer, match="no URL"):
        App(OK).api().send(Call("GET", "https://app.test:port/v1"))


@pytest.mark.parametrize("target", ["https://evil.test/", "/v2/contacts"])
def test_redirects_are_not_followed(target: str) -> None:
    app = App(httpx.Response(302, headers={"Location": target}), OK)
    with pytest.raises(UnexpectedAnswer, match="answered 302") as caught:
        app.api(authentication=BEARER).send(LIST)
    assert "redirects aren't followed" in caught.value.hint
    assert len(app.requests) == 1


def test_error_rules_come_before_the_defaults() -> None:
    busy = {"when": {"$eval": {"$var": "$.body.ok"}, "is": False}, "action": "retry"}
    app = App(httpx.Response(200, json={"ok": False}), OK)
    assert app.api(errors=[busy]).send(LIST).body == {"data": []}
    assert len(app.waits) == 1

    fail = {"status": [503], "action": "fail", "message": "closed for good"}
    app = App(httpx.Response(503))
    with pytest.raises(UnexpectedAnswer, match="closed for good"):
        app.api(errors=[fail]).send(LIST)
    assert len(app.requests) == 1

    ignore = {"status": [404], "header": {"X-Empty": "yes"}, "action": "ignore"}
    app = App(httpx.Response(404, headers={"X-Empty": "yes"}, json={"data": []}))
    assert app.api(errors=[ignore]).send(LIST).status == 404
    app = App(httpx.Response(404, headers={"X-Empty": "no"}))
    with pytest.raises(UnexpectedAnswer):
        app.api(errors=[ignore]).send(LIST)


def test_a_requests_own_rules_come_first() -> None:
    own = [ErrorRule(status=[404], action="ignore")]
    fail = {"status": [404], "action": "fail"}
    app = App(httpx.Response(404, json=[]))
    assert app.api(errors=[fail]).send(Call("GET", "/contacts", errors=own)).body == []


# --- never said ----------------------------------------------------------------------------------


def failures() -> Iterable[tuple[str, httpx.Response | Exception]]:
    for status in (302, 400, 401, 403, 404, 429, 500):
        yield str(status), httpx.Response(status, json={"message": f"{SECRET} is no good"})
    yield "cut", httpx.Response(200, content=SECRET.encode(), headers={"Content-Type": "json"})
    yield "connect", httpx.ConnectError("refused")
    yield "protocol", httpx.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}'")
    yield "timeout", httpx.ReadTimeout(SECRET)


@pytest.mark.parametrize(("name", "failure"), list(failures()))
def test_no_error_says_a_secret(name: str, failure: httpx.Response | Exception) -> None:
    key = {"type": "api_key", "token": {"$var": "$.credentials.token"}, "location": "query"}
    api = App(failure).api(authentication={**key, "parameter": "key"})
    for call in (LIST, Call("GET", f"/x/{SECRET}", {"q": SECRET})):
        with pytest.raises(MembraneError) as caught:
            api.send(call)
        said = str(caught.value) + repr(caught.value) + repr(vars(caught.value))
        assert SECRET not in said


@pytest.mark.parametrize("secret", ["1234", "s3cr", "pass word"])
def test_short_secrets_are_not_said_either(secret: str) -> None:
    app = App(httpx.Response(400, json={"message": f"{secret} is no good"}))
    with pytest.raises(UnexpectedAnswer, match=r"\*\*\* is no good") as caught:
        app.api({"token": secret}).send(LIST)
    assert secret not in str(caught.value)


def test_half_a_secret_is_not_said_where_words_are_cut() -> None:
    app = App(httpx.Response(400, json={"message": "x" * 190 + SECRET}))
    with pytest.raises(UnexpectedAnswer) as caught:
        app.api().send(LIST)
    assert SECRET[:5] not in str(caught.value)


def test_records_and_settings_do_not_show_secrets(tmp_path: Any) -> None:
    record = ConnectionRecord("acme", "app", "acme", credentials=CREDENTIALS)
    settings = Settings(
        tmp_path, "sqlite://", databases={"app": f"postgresql://u:{SECRET}@h/d"}, secret_key=SECRET
    )
    assert SECRET not in repr(record) + str(record) + repr(settings) + str(settings)


def test_closing_gives_back_the_sockets() -> None:
    api = App(OK).api()
    api.send(LIST)
    api.close()
    with pytest.raises(RuntimeError, match="closed"):
        api.send(LIST)
