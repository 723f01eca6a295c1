"""The external app over HTTP: what is sent, what is waited for, and what is never said."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import msgspec
import pytest

from membrane_sync.clients.api import DEADLINE_SECONDS, HttpApi
from membrane_sync.clients.concurrency import Concurrency
from membrane_sync.clients.judge import LONGEST_HEEDED_SECONDS
from membrane_sync.clients.retrying import ATTEMPTS
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    Fatal,
    MembraneError,
    NotAuthorized,
    RateLimited,
    Unauthenticated,
    UnexpectedAnswer,
)
from membrane_sync.ports import ConnectionRecord, Grant, Kept, Party, Priority, Quota, Quotas
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

    def api(
        self,
        credentials: dict[str, Any] | None = None,
        *,
        quotas: Quotas | None = None,
        priority: Priority = "bulk",
        concurrency: Concurrency | None = None,
        **connector: Any,
    ) -> HttpApi:
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
            quotas=quotas,
            priority=priority,
            concurrency=concurrency,
            transport=httpx.MockTransport(self),
            sleep=self.waits.append,
            clock=lambda: sum(self.waits),
        )


def test_cookies_come_back_to_the_app_that_set_them() -> None:
    """Some need them: of several servers, the one that began a list goes on with it."""
    first = httpx.Response(200, json={}, headers={"Set-Cookie": "server=b; Path=/"})
    app = App(first, OK)
    api = app.api()
    for _ in range(3):
        api.send(LIST)
    assert [sent.headers.get("cookie") for sent in app.requests] == [None, "server=b", "server=b"]


def test_a_path_keeps_a_query_of_its_own() -> None:
    app = App(OK)
    app.api(query={"version": "2"}).send(Call("GET", "/contacts?view=all", {"q": "a&b"}))
    (sent,) = app.requests
    assert str(sent.url) == "https://app.test/v1/contacts?view=all&version=2&q=a%26b"


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
        with pytest.raises(Fatal, match="base_url gives no URL"):
            App(OK).api(base_url=bad)


def test_a_base_url_shows_no_secret_and_has_no_password() -> None:
    for bad in (SECRET, f"https://u:{SECRET}@/", f"https://u:{SECRET}@app.test/v1"):
        with pytest.raises(Fatal, match="base_url gives") as caught:
            App(OK).api(base_url=bad)
        assert SECRET not in str(caught.value)


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


@pytest.mark.parametrize("asked", ["1" + "0" * 20, str(10**9 * 3), "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wait_is_for_ever(asked: str) -> None:
    app = App(httpx.Response(429, headers={"Retry-After": asked}), OK)
    api = app.api()
    for _ in range(2):
        with pytest.raises(RateLimited) as caught:
            api.send(LIST)
        assert caught.value.retry_after == pytest.approx(LONGEST_HEEDED_SECONDS, abs=5)


@pytest.mark.parametrize("named", ["text/plain", "text/html; charset=utf-8", "application/x-thing"])
def test_json_is_read_by_whatever_name(named: str) -> None:
    def answered(content: bytes) -> Any:
        return App(httpx.Response(200, content=content, headers={"Content-Type": named})).api()

    assert answered(b' {"data": [1]}').send(LIST).body == {"data": [1]}
    for other in (b"[not json]", b"<html>", b"{", b"7", b""):
        assert answered(other).send(LIST).body == other.decode()


def lengths(content: bytes) -> list[int]:
    found: dict[str, list[msgspec.Raw]] = msgspec.json.decode(
        content, type=dict[str, list[msgspec.Raw]]
    )
    return [len(item) for item in found["data"]]


CUT = Call("GET", "/contacts", cut=lengths)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b'{"data": [1, "two"]}', [1, 5]),
        (b'{"data": 1}', None),
        (b'{"data": [NaN]}', None),
        (b'{"data": ["\\ud800"]}', None),
        ('{"data": ["é"]}'.encode(), [4]),
    ],
)
def test_an_answer_is_cut_where_its_json_is_by_the_letter(
    content: bytes, parts: list[int] | None
) -> None:
    answer = App(httpx.Response(200, content=content)).api().send(CUT)
    assert answer.parts == parts
    plain = App(httpx.Response(200, content=content)).api().send(LIST)
    assert (plain.parts, plain.content) == (None, answer.content)


def test_what_is_cut_off_is_asked_for_again_though_it_would_be_cut() -> None:
    no_utf8 = httpx.Response(200, content='{"data": ["é"]}'.encode("latin-1"))
    app = App(httpx.Response(200, content=b'{"data": [1'), no_utf8, httpx.Response(500), OK)
    assert app.api().send(CUT).parts == []
    assert len(app.requests) == 4


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


# --- error rules ---------------------------------------------------------------------------------


def test_a_skipped_answer_stands_for_no_records_and_is_counted() -> None:
    app = App(httpx.Response(404, json={"message": "its parent was deleted"}))
    api = app.api(errors=[{"status": [404], "action": "skip"}])
    answer = api.send(LIST)
    assert (answer.status, answer.body, answer.skipped) == (404, None, True)
    assert (api.skipped, len(app.requests)) == (1, 1)
    assert not App(OK).api().send(LIST).skipped


def test_a_defunct_connection_says_so() -> None:
    rule = {"status": [402], "action": "defunct", "message": "the account is closed"}
    app = App(httpx.Response(402))
    with pytest.raises(Defunct, match="the account is closed") as caught:
        app.api(errors=[rule]).send(LIST)
    assert (caught.value.code, len(app.requests)) == ("defunct", 1)


def test_a_rule_says_how_long_to_wait_where_the_app_does_not() -> None:
    rule = {"status": [420], "action": "retry", "after_seconds": 30.0}
    app = App(httpx.Response(420), httpx.Response(420, headers={"Retry-After": "7"}), OK)
    app.api(errors=[rule]).send(LIST)
    assert [round(wait - 0.3) for wait in app.waits] == [30, 7]


class Tickets:
    """Live credentials: each refresh gives the next version; notes what it's told of them."""

    def __init__(self) -> None:
        self.version = 1
        self.told: list[tuple[str, int]] = []
        self.lock = threading.Lock()

    def current(self) -> Kept:
        return Kept(self.version, {"token": f"ticket-{self.version}"})

    def refresh(self, used: int) -> bool:
        with self.lock:
            self.version += used == self.version
        return True

    def accepted(self) -> None:
        self.told.append(("accepted", self.version))

    def refused(self, used: int, reason: str) -> None:
        assert "answered" in reason
        self.told.append(("refused", used))

    def revoked(self, used: int, reason: str) -> None:
        assert reason
        self.told.append(("revoked", used))


def live_api(live: Tickets, respond: Callable[[httpx.Request], httpx.Response]) -> HttpApi:
    declared = {"key": "app", "base_url": "https://app.test", "authentication": BEARER}
    declared["errors"] = [
        {"status": [440], "action": "refresh"},
        {"status": [402], "action": "defunct"},
    ]
    return HttpApi(
        Connector.model_validate(declared),
        ConnectionRecord("acme", "app", "acme", credentials={"token": "ticket-1"}, version=1),
        live=live,
        transport=httpx.MockTransport(respond),
    )


@pytest.mark.parametrize("status", [401, 440])
def test_credentials_that_are_refused_are_refreshed_once_per_request(status: int) -> None:
    live, app = Tickets(), App(httpx.Response(status), OK)
    api = live_api(live, app)
    assert api.send(LIST).status == 200
    assert api.send(LIST).status == 200
    sent = [request.headers["Authorization"] for request in app.requests]
    assert sent == ["Bearer ticket-1", "Bearer ticket-2", "Bearer ticket-2"]
    assert live.told == [("accepted", 2), ("accepted", 2)]

    live, app = Tickets(), App(httpx.Response(status))
    with pytest.raises(Unauthenticated, match=f"answered {status}"):
        live_api(live, app).send(LIST)
    sent = [request.headers["Authorization"] for request in app.requests]
    assert sent == ["Bearer ticket-1", "Bearer ticket-2"]
    assert live.told == [("refused", 2)]


def test_secrets_are_hidden_after_a_refresh_too() -> None:
    said = {"message": "neither ticket-1 nor ticket-2"}
    app = App(httpx.Response(401), httpx.Response(400, json=said))
    with pytest.raises(UnexpectedAnswer, match=r"neither \*\*\* nor \*\*\*"):
        live_api(Tickets(), app).send(LIST)


def test_that_the_account_is_gone_is_told_of_the_version_that_was_sent() -> None:
    live, app = Tickets(), App(httpx.Response(402))
    with pytest.raises(Defunct):
        live_api(live, app).send(LIST)
    assert live.told == [("revoked", 1)]


def test_threads_that_meet_the_same_expiry_refresh_once() -> None:
    both = threading.Barrier(2)

    def respond(request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"] == "Bearer ticket-1":
            both.wait(timeout=10)
            return httpx.Response(401)
        return httpx.Response(200, json={})

    live = Tickets()
    api = live_api(live, respond)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(api.send, [LIST, LIST]))
    assert [answer.status for answer in answers] == [200, 200]
    assert live.version == 2
    assert api.requests == 4


def test_fixed_credentials_can_not_be_made_anew() -> None:
    app = App(httpx.Response(440))
    with pytest.raises(NotAuthorized, match="answered 440") as caught:
        app.api(authentication=BEARER, errors=[{"status": [440], "action": "refresh"}]).send(LIST)
    assert "connect 'acme' again" in caught.value.hint
    assert len(app.requests) == 1


def test_not_modified_is_an_answer_to_a_conditional_request_alone() -> None:
    app = App(httpx.Response(304))
    for name in ("If-None-Match", "if-modified-since"):
        assert app.api().send(Call("GET", "/contacts", {}, {name: "x"})).status == 304
    with pytest.raises(UnexpectedAnswer, match="answered 304.*\n.*'not modified'"):
        app.api().send(LIST)


# --- what the app says of its limits -------------------------------------------------------------


def test_when_nothing_is_left_the_next_request_waits_for_the_reset() -> None:
    spent = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "42"}
    app = App(httpx.Response(200, json={}, headers=spent), OK)
    api = app.api()
    assert api.quota_left is None
    api.send(LIST)
    assert (api.quota_left, app.waits) == (0, [])
    api.send(LIST)
    api.send(LIST)
    assert app.waits == [42]


def test_what_is_left_is_known() -> None:
    api = App(
        httpx.Response(200, json={}, headers={"X-Shopify-Shop-Api-Call-Limit": "32/40"})
    ).api()
    api.send(LIST)
    assert api.quota_left == 8


def test_the_connector_names_the_headers() -> None:
    spent = {"X-Left": "0", "X-When": "4000"}
    app = App(httpx.Response(200, json={}, headers=spent), OK)
    names = {"remaining": "X-Left", "reset": "X-When", "reset_format": "milliseconds"}
    api = app.api(rate_limit_headers=names)
    api.send(LIST)
    api.send(LIST)
    assert app.waits == [4]


def test_a_reset_that_is_far_ends_the_sync_and_says_when_to_come_back() -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3000"}
    app = App(httpx.Response(200, json={}, headers=spent), OK)
    api = app.api()
    api.send(LIST)
    with pytest.raises(RateLimited, match="takes no request for another 3,000 s") as caught:
        api.send(LIST)
    assert caught.value.retry_after == 3000
    assert (len(app.requests), app.waits) == (1, [])


@pytest.mark.parametrize(
    ("headers", "body", "waited"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "20"}, {}, 20),
        ({"Retry-After": "30"}, {"message": "You have exceeded a secondary rate limit."}, 30),
        ({}, {"message": "You have exceeded a secondary rate limit."}, 60),
    ],
)
def test_a_403_may_be_a_rate_limit(
    headers: dict[str, str], body: dict[str, Any], waited: float
) -> None:
    app = App(httpx.Response(403, headers=headers, json=body), OK)
    assert app.api().send(LIST).status == 200
    assert waited <= sum(app.waits) < waited + 1


def test_a_429_waits_for_the_reset_where_it_says_nothing_else() -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "12"}
    app = App(httpx.Response(429, headers=headers), OK)
    app.api().send(LIST)
    assert 12 <= sum(app.waits) < 13


class Spy:
    """Quotas that grant everything, and note what they were asked."""

    def __init__(self) -> None:
        self.parties: list[Party] = []
        self.held: list[float] = []
        self.pauses: dict[str, float] = {}

    def reserve(self, quotas: Sequence[Quota], party: Party, count: int = 1) -> Grant:
        self.parties.append(party)
        return Grant(1, 0.0)

    def give_back(self, quotas: Sequence[Quota], count: int) -> None:
        pass

    def hold(self, quotas: Sequence[Quota], seconds: float) -> None:
        self.held.append(seconds)

    def pause(self, key: str, seconds: float) -> None:
        self.pauses[key] = seconds

    def paused(self, key: str) -> float:
        return self.pauses.get(key, 0.0)


LIMITS = [{"requests": 10, "per_seconds": 1}]


def test_without_declared_limits_no_quota_is_asked_and_pauses_are_shared() -> None:
    quotas = Spy()
    app = App(httpx.Response(429, headers={"Retry-After": "5"}), OK)
    app.api(quotas=quotas).send(LIST)
    assert (quotas.parties, quotas.held) == ([], [])
    assert list(quotas.pauses.values()) == [5]

    other = App(OK)
    other.api(quotas=quotas).send(LIST)
    assert sum(other.waits) == 5, "which another process would have sent into"


def test_a_pause_of_less_than_a_second_is_not_shared() -> None:
    quotas = Spy()
    app = App(httpx.Response(429, headers={"Retry-After": "0.5"}), OK)
    app.api(quotas=quotas).send(LIST)
    assert quotas.pauses == {}


def test_each_request_asks_the_quotas_and_holds_are_shared_once() -> None:
    quotas = Spy()
    app = App(
        httpx.Response(429, headers={"Retry-After": "5"}),
        httpx.Response(429, headers={"Retry-After": "5"}),
        OK,
    )
    app.api(quotas=quotas, priority="interactive", rate_limits=LIMITS).send(LIST)
    assert quotas.parties == [Party("acme", "interactive")] * 3
    assert quotas.held == [5, 5]

    quotas = Spy()
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "50"}
    api = App(httpx.Response(429, headers=spent), OK).api(quotas=quotas, rate_limits=LIMITS)
    api.send(LIST)
    assert quotas.parties == [Party("acme", "bulk")] * 2
    assert quotas.held == [50], "the same news is written once"


def test_a_waiting_app_is_asked_by_fewer_at_once() -> None:
    app = App(httpx.Response(503), httpx.ReadTimeout("slow"), OK)
    concurrency = Concurrency(first=8)
    app.api(concurrency=concurrency).send(LIST)
    assert concurrency.limit == 2


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
