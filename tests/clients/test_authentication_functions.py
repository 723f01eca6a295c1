"""Functions of hooks.py in the place of declared keys, and what becomes of what they give."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.flow import client_config
from membrane_sync.clients.authentication.way import Way
from membrane_sync.elements.authentication import AuthenticationOption
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import AppUnavailable, Defunct, Fatal, NotAuthorized
from membrane_sync.ports import Authenticator, DeviceCode, Issued
from membrane_sync.records import Answer, Call
from membrane_sync.sync.rendering import render

KEY = {"type": "api_key", "token": {"$var": "$.credentials.key"}}


class App:
    """Answers with the path that it's asked for, and notes who asks."""

    def __init__(self) -> None:
        self.asked: list[tuple[Call, dict[str, Any], bool]] = []

    def __call__(self, call: Call, credentials: Any, signed: bool) -> Answer:
        self.asked.append((call, dict(credentials), signed))
        return Answer(200, {}, {"path": call.url})


def of(
    app: App,
    authentication: dict[str, Any],
    functions: dict[str, Callable[..., Any]] | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Authenticator:
    connector = Connector.model_validate(
        {"key": "app", "base_url": "https://app.test", "authentication": authentication}
    )
    parameters = {"client_id": "ours", "region": "eu"}
    return authenticator(
        Way(connector, app, render, {"site": "s"}, parameters, functions or {}, transport)
    )


def test_a_key_is_exchanged_and_renewed() -> None:
    def session(scope: dict[str, Any]) -> Generator[Any, Answer, dict[str, Any]]:
        found = yield {"path": "/sessions", "method": "POST", "body": scope["credentials"]}
        return {"session": found.body["path"], "expires_in": 90}

    app = App()
    named = {"credentials_from_input": "session", "refreshCredentials": "session"}
    declared = {
        **KEY,
        "credentials_from_input": {"region": {"$var": "$.parameters.region"}},
        "functions": named,
    }
    ours = of(app, declared, {"session": session})
    issued = ours.issue({"key": "k"})
    assert issued.credentials == {"key": "k", "region": "eu", "session": "/sessions"}
    assert issued.expires_in == 90
    assert ours.refreshable
    renewed = ours.refresh({"key": "k", "session": "old"})
    assert renewed.credentials == {"key": "k", "session": "/sessions"}
    assert [signed for _, _, signed in app.asked] == [False, False]
    assert app.asked[0][0].body == {"key": "k", "region": "eu"}


def test_without_a_function_a_key_cannot_be_renewed() -> None:
    ours = of(App(), KEY)
    assert not ours.refreshable
    assert not ours.needs_browser
    assert not ours.offers_device
    with pytest.raises(Defunct, match="takes the credentials no longer"):
        ours.refresh({"key": "k"})
    for act in (lambda: ours.begin("https://us.test", "s"), ours.begin_device):
        with pytest.raises(Fatal, match="are typed in"):
            act()


@pytest.mark.parametrize("declared", ["request", "function"])
def test_the_end_is_told_to_the_app(declared: str) -> None:
    def end(scope: dict[str, Any]) -> Generator[Any, Answer, None]:
        yield {"path": f"/keys/{scope['credentials']['id']}", "method": "DELETE"}

    app = App()
    request = {
        "method": "DELETE",
        "path": "/keys/{id}",
        "path_parameters": {"id": {"$var": "$.credentials.id"}},
    }
    way = {"disconnect": request} if declared == "request" else {"functions": {"disconnect": "end"}}
    of(app, {**KEY, **way}, {"end": end}).disconnect({"key": "k", "id": 7})
    ((call, credentials, signed),) = app.asked
    assert (call.method, call.url, signed) == ("DELETE", "/keys/7", True)
    assert credentials == {"key": "k", "id": 7}


def test_nothing_is_told_where_nothing_is_declared() -> None:
    app = App()
    of(app, KEY).disconnect({"key": "k"})
    assert app.asked == []


def endless(scope: dict[str, Any]) -> Generator[Any, Answer, None]:
    while True:
        yield {"path": "/again"}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda scope: ["planted"], "gave list, not a mapping"),
        (endless, "made 20 calls without coming to an end"),
        (lambda scope: (yield "planted"), "gave str, not a call"),
        (lambda scope: (yield {"path": "/x", "verb": "planted"}), "gave dict, not a call"),
        (lambda scope: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_functions_that_are_wrong(function: Callable[..., Any], words: str) -> None:
    ours = of(App(), {**KEY, "functions": {"refresh": "renew"}}, {"renew": function})
    with pytest.raises(Fatal, match=words) as caught:
        ours.refresh({"key": "planted-secret"})
    assert "planted" not in str(caught.value)


def test_a_function_that_is_nowhere() -> None:
    with pytest.raises(Fatal, match="there is no function 'renew'"):
        of(App(), {**KEY, "functions": {"refresh": "renew"}}).refresh({"key": "k"})


def test_a_functions_own_verdict_passes() -> None:
    def renew(scope: dict[str, Any]) -> None:
        raise Defunct("app: the account is closed")

    ours = of(App(), {**KEY, "functions": {"refresh": "renew"}}, {"renew": renew})
    with pytest.raises(Defunct, match="the account is closed"):
        ours.refresh({"key": "k"})


def test_a_functions_own_verdict_tells_no_secret() -> None:
    def renew(scope: dict[str, Any]) -> None:
        raise Defunct(f"closed: {scope}", hint=f"was it {scope['credentials']['key']}?")

    ours = of(App(), {**KEY, "functions": {"refresh": "renew"}}, {"renew": renew})
    with pytest.raises(Defunct, match="closed: ") as caught:
        ours.refresh({"key": "planted-secret"})
    assert "planted" not in f"{caught.value} {caught.value!r}" and "***" in caught.value.hint


def in_an_hour(form: Callable[[datetime], Any]) -> Callable[[], Any]:
    """The time an hour from when the test runs, which may be long after it was collected."""
    return lambda: form(datetime.now(UTC) + timedelta(hours=1))


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"expires_in": 3600}, 3600),
        ({"expires_in": "3600"}, 3600),
        ({"expires_in": None, "expires_at": in_an_hour(datetime.timestamp)}, 3600),
        ({"expires_at": in_an_hour(lambda at: at.timestamp() * 1000)}, 3600),
        ({"expires_at": in_an_hour(datetime.isoformat)}, 3600),
        ({"expires_at": in_an_hour(lambda at: at.replace(tzinfo=None).isoformat())}, 3600),
        ({"expires_in": "soon"}, None),
        ({"expires_in": float("nan")}, None),
        ({"expires_in": True}, None),
        ({"expires_at": "soon"}, None),
        ({}, None),
    ],
)
def test_when_credentials_end(given: dict[str, Any], seconds: float | None) -> None:
    given = {name: value() if callable(value) else value for name, value in given.items()}
    ours = of(App(), {**KEY, "functions": {"refresh": "renew"}}, {"renew": lambda _: given})
    issued = ours.refresh({"key": "k"})
    assert issued.credentials == {"key": "k"}
    if seconds is None:
        assert issued.expires_in is None
    else:
        assert issued.expires_in == pytest.approx(seconds, abs=60)


def test_a_formula_that_fails_shows_no_credential() -> None:
    declared = {**KEY, "credentials_from_input": {"n": {"$number": {"$var": "$.credentials.key"}}}}
    with pytest.raises(Fatal, match="the formula of 'credentials' fails") as caught:
        of(App(), declared).issue({"key": "planted-secret"})
    assert "planted" not in str(caught.value)


# --- device codes --------------------------------------------------------------------------------


DEVICE = {
    "type": "oauth2",
    "oauth2": {
        "grant": "device_code",
        "device_url": "https://app.test/device",
        "token_url": "https://app.test/token",
        "scopes": ["a", "b"],
        "scope_separator": ",",
        "token_extra": {"audience": {"$var": "$.parameters.region"}},
    },
}


def device(*answers: httpx.Response) -> tuple[Authenticator, list[dict[str, str]]]:
    waiting, forms = list(answers), []

    def provider(request: httpx.Request) -> httpx.Response:
        forms.append(dict(httpx.QueryParams(request.content.decode())))
        return waiting.pop(0)

    return of(App(), DEVICE, transport=httpx.MockTransport(provider)), forms


CODE = DeviceCode("AB-CD", "https://app.test/d", 600, 5, kept={"device_code": "planted-device"})


def test_a_device_gets_a_code() -> None:
    given = {"device_code": "d", "user_code": "AB-CD", "verification_url": "https://app.test/d"}
    ours, forms = device(httpx.Response(200, json=given))
    assert not ours.needs_browser
    code = ours.begin_device({"note": "n"})
    assert (code.user_code, code.interval, code.expires_in) == ("AB-CD", 5, 600)
    assert forms[0]["scope"] == "a,b"
    assert "device_code='d'" not in repr(code)


def test_a_device_waits_for_its_user() -> None:
    ours, forms = device(
        httpx.Response(400, json={"error": "authorization_pending"}),
        httpx.Response(400, json={"error": "slow_down"}),
        httpx.Response(200, json={"access_token": "a"}),
    )
    assert [ours.poll_device(CODE), ours.poll_device(CODE)] == [5, 10]
    issued = ours.poll_device(CODE)
    assert isinstance(issued, Issued)
    assert issued.credentials["access_token"] == "a"
    assert forms[2]["audience"] == "eu"
    assert forms[2]["device_code"] == "planted-device"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(400, json={"error": "expired_token"}), NotAuthorized),
        (httpx.Response(400, json={"error": "access_denied"}), NotAuthorized),
        (httpx.Response(503), AppUnavailable),
    ],
)
def test_a_device_that_gets_no_token(answer: httpx.Response, error: type[Exception]) -> None:
    ours, _ = device(answer)
    with pytest.raises(error) as caught:
        ours.poll_device(CODE)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, json={"ok": True}), httpx.Response(200, json=["planted"])]
)
def test_a_device_endpoint_that_gives_no_code(answer: httpx.Response) -> None:
    ours, _ = device(answer)
    with pytest.raises((Fatal, AppUnavailable), match="the device endpoint"):
        ours.begin_device()


@pytest.mark.parametrize("given", ["refresh", [{"when": True, "action": "dance"}], [7], 7])
def test_errors_of_a_client_that_are_none_are_told(given: Any) -> None:
    declared = AuthenticationOption.model_validate({**KEY, "functions": {"client": "made"}})
    with pytest.raises(Fatal, match="'made' of hooks.py gave `errors` that are no list"):
        client_config(declared, {"credentials": {}}, {"made": lambda _: {"errors": given}})
