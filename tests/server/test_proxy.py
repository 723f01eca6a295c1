"""Calls through a connection reach its app and nothing else, and no credential comes back."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from membrane_sync.apps.kinto import Kinto
from membrane_sync.apps.pocketbase import PocketBase
from membrane_sync.clients.raw import checked_path
from membrane_sync.errors import Rejected
from tests.server.conftest import Api, open_api
from tests.server.helpers import PIN, TOKEN, Caller, EchoApp, echo_app, token

FROM_APP = "X-Membrane-Answered-By"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[EchoApp]:
    """A host that no credential may ever reach."""
    with echo_app() as running:
        yield running


def sent(api: Api, target: str, credential: str | None = None, method: str = "GET") -> int:
    """The status of a request whose target is sent as it is, not tidied up by a client."""
    place = urlsplit(api.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    connection.putrequest(method, target, skip_accept_encoding=True)
    connection.putheader("Authorization", f"Bearer {credential or token()}")
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_call_goes_through_as_it_is(api: Api) -> None:
    key = api.connect(path="/v1")
    answer = api.tenant().client.request(
        "PATCH",
        f"/connections/{key}/proxy/things/a%2Fb%20c?x=1&x=2&y=%26",
        content=b'{"new": "\xc3\xa9"}',
        headers={"Content-Type": "application/json", "X-Mine": "yes", "If-Match": '"7"'},
    )
    seen = api.echo.last
    assert (seen.method, seen.path) == ("PATCH", "/v1/things/a%2Fb%20c")
    assert seen.query == "account=42&x=1&x=2&y=%26"
    assert seen.body == b'{"new": "\xc3\xa9"}'
    assert (seen.headers["x-mine"], seen.headers["if-match"]) == ("yes", '"7"')
    assert (answer.status_code, answer.content) == (200, seen.body)
    assert (answer.headers[FROM_APP], answer.headers["X-App"]) == ("app", "echo")


def test_the_app_gets_the_connections_credentials_and_not_the_callers(api: Api) -> None:
    key = api.connect()
    api.tenant().client.get(
        f"/connections/{key}/proxy/things?account=7",
        headers={
            "Cookie": "session=of-the-caller",
            "X-Version": "8",
            "X-Forwarded-For": "10.0.0.1",
            "Connection": "close, X-Hop",
            "X-Hop": "1",
            "Proxy-Authorization": "Basic x",
            "X-Membrane-Tenant": "acme",
        },
    )
    headers = api.echo.last.headers
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["x-version"] == "7", "the connector's own headers stay"
    assert api.echo.last.query == "account=42", "so do its parameters"
    assert headers["host"] == urlsplit(api.echo.url).netloc
    left = {"cookie", "x-forwarded-for", "x-hop", "proxy-authorization", "x-membrane-tenant"}
    assert not left & set(headers)


def test_no_credential_and_no_cookie_comes_back(api: Api) -> None:
    key = api.connect()
    answer = api.tenant()("GET", f"/connections/{key}/proxy/things")
    assert answer.headers["X-Echo"] == "***"
    assert TOKEN not in str(answer.headers)
    assert "set-cookie" not in answer.headers
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_an_app_that_repeats_what_it_was_sent_tells_no_credential(api: Api) -> None:
    key = api.connect()
    answer = api.tenant()("GET", f"/connections/{key}/proxy/debug")
    said = answer.json()
    assert said["headers"]["authorization"] == "*" * len(f"Bearer {TOKEN}")
    assert said["headers"]["x-version"] == "7", "the rest is there"
    assert TOKEN not in answer.text and PIN not in answer.text
    assert int(answer.headers["Content-Length"]) == len(answer.content)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_the_apps_own_errors_are_told_from_ours(status: int, api: Api) -> None:
    key = api.connect()
    theirs = api.tenant()("GET", f"/connections/{key}/proxy/status/{status}")
    assert (theirs.status_code, theirs.headers[FROM_APP]) == (status, "app")
    assert theirs.json() == {"error": "as you wish"}
    ours = api.tenant()("GET", f"/connections/{key}/proxy/../me")
    assert ours.status_code == 404 and FROM_APP not in ours.headers


def test_redirects_are_given_back_and_not_followed(api: Api, elsewhere: EchoApp) -> None:
    key = api.connect()
    for to in (elsewhere.url, f"{api.echo.url}/me", "//127.0.0.1:1/x"):
        answer = api.tenant()("GET", f"/connections/{key}/proxy/redirect?to={to}")
        assert (answer.status_code, answer.headers[FROM_APP]) == (302, "app")
        assert answer.headers["Location"] == f"{to}?access_token=***"
    assert elsewhere.seen == []
    assert api.echo.last.path == "/redirect"


TRICKS = [
    "http://{elsewhere}/x",
    "http:/{elsewhere}/x",
    "http:%2F%2F{elsewhere}/x",
    "HTTPS://{elsewhere}/x",
    "//{elsewhere}/x",
    "/%2F{elsewhere}/x",
    "%2F%2F{elsewhere}/x",
    "\\\\{elsewhere}\\x",
    "%5C%5C{elsewhere}/x",
    "..",
    "../x",
    "a/../../x",
    "%2e%2e/x",
    "%2E./x",
    "a/%2e%2e/%2e%2e/x",
    "..%2fx",
    "a%2f..%2f..%2fx",
    "..%5cx",
    "%252e%252e/x",
    "%25252e%25252e%25252fx",
    "%2525252525252e/x",
    "..;/x",
    "a/..;v=1/x",
    "%2e%2e%3b/x",
    ".%00./x",
    "x%00",
    "x%0d%0aHost:%20evil",
    "x%ff/../y",
    "x%",
    "x%zz",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_but_what_is_below_the_base_url_is_reached(
    trick: str, api: Api, elsewhere: EchoApp
) -> None:
    key = api.connect(path="/v1")
    before = len(api.echo.seen)
    path = trick.format(elsewhere=urlsplit(elsewhere.url).netloc)
    status = sent(api, f"/connections/{key}/proxy/{path}")
    assert 400 <= status < 500
    assert len(api.echo.seen) == before
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    "path", ["@{elsewhere}/x", ":80@{elsewhere}/", "user:pw@{elsewhere}/", "a:b"]
)
def test_what_looks_like_another_host_is_a_path_there(
    path: str, api: Api, elsewhere: EchoApp
) -> None:
    key = api.connect(path="/v1")
    sent(api, f"/connections/{key}/proxy/{path.format(elsewhere=urlsplit(elsewhere.url).netloc)}")
    assert api.echo.last.path.startswith("/v1/")
    assert elsewhere.seen == []


@given(st.text(alphabet="./\\%2eEfF5cC;:@ab?#\t0", max_size=24))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_checked_path_never_leaves_its_place(path: str) -> None:
    try:
        good = checked_path(path)
    except Rejected:
        return
    url = httpx.URL(f"http://app.example/v1/{good}")
    assert url.host == "app.example" and not url.userinfo and not url.query and not url.fragment
    assert url.raw_path.startswith(b"/v1/")


def test_answers_are_bounded(tmp_path_factory: pytest.TempPathFactory, echo: EchoApp) -> None:
    root = tmp_path_factory.mktemp("bounded")
    bounds = "largest_answer_bytes = 5000\nlargest_request_bytes = 2000\n"
    with open_api(root, echo, server=bounds) as api:
        key = api.connect()
        through = f"/connections/{key}/proxy"
        acme = api.tenant()
        assert len(acme("GET", f"{through}/bytes/5000").content) == 5000
        large = acme("GET", f"{through}/bytes/5001")
        assert (large.status_code, large.json()["error"]["code"]) == (502, "unexpected_answer")
        before = len(echo.seen)
        for content in (b"x" * 2001, iter([b"x" * 1500, b"x" * 1500])):
            refused = acme.client.post(f"{through}/things", content=content)
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        assert len(echo.seen) == before


def test_an_app_that_is_gone_is_worth_another_try(api: Api) -> None:
    with echo_app() as gone:
        body = {"input": {"url": gone.url}, "integration": "echo", "credentials": {"token": TOKEN}}
        key = api.tenant()("POST", "/connections", body).json()["key"]
    answer = api.tenant()("GET", f"/connections/{key}/proxy/me")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "app_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert FROM_APP not in answer.headers


def test_records_of_a_pocketbase_through_its_connection(api: Api, pocketbase: PocketBase) -> None:
    pocketbase.create_contacts_collection("proxied")
    body = {
        "integration": "pocketbase",
        "input": {"url": pocketbase.url},
        "credentials": {"token": pocketbase.login()},
    }
    made = api.tenant()("POST", "/connections", body)
    assert made.status_code == 201, made.text
    records = f"/connections/{made.json()['key']}/proxy/api/collections/proxied/records"
    acme = api.tenant()
    new = acme("POST", records, {"email": "ada@example.org", "name": "Ada"})
    assert (new.status_code, new.headers[FROM_APP]) == (200, "app")
    one = f"{records}/{new.json()['id']}"
    assert acme("PATCH", one, {"name": "Ada L."}).json()["name"] == "Ada L."
    filtered = acme("GET", records, params={"filter": "email='ada@example.org'"}).json()
    assert [item["name"] for item in filtered["items"]] == ["Ada L."]
    assert acme("DELETE", one).status_code == 204
    assert acme("GET", one).status_code == 404
    assert (
        Caller(api.url, token("other"))("GET", records).json()["error"]["code"] == "not_connected"
    )


def test_a_kinto_through_its_connection(api: Api, kinto: Kinto) -> None:
    account = kinto.create_account("proxied", "proxied-password-1")
    kinto.create_bucket(account, "proxied")
    body = {
        "integration": "kinto",
        "input": {"url": kinto.url, "bucket": "proxied"},
        "credentials": {"username": "proxied", "password": "proxied-password-1"},
    }
    made = api.tenant()("POST", "/connections", body)
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    seen = api.tenant()("GET", f"/connections/{key}/proxy/buckets/proxied")
    assert seen.json()["data"]["id"] == "proxied"
    unchanged = api.tenant().client.get(
        f"/connections/{key}/proxy/buckets/proxied", headers={"If-None-Match": seen.headers["ETag"]}
    )
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert json.loads(seen.content)["data"]["id"] == "proxied"


def test_an_address_that_a_tenant_types_in_is_of_no_private_network(
    tmp_path_factory: pytest.TempPathFactory, echo: EchoApp
) -> None:
    root = tmp_path_factory.mktemp("private")
    with open_api(root, echo, MEMBRANE_PRIVATE_HOSTS="10.255.255.255") as api:
        before = len(echo.seen)
        for test in (True, False):
            body = {
                "integration": "echo",
                "input": {"url": echo.url.replace("127.0.0.1", "localhost")},
                "credentials": {"token": TOKEN},
                "test": test,
            }
            made = api.tenant()("POST", "/connections", body)
            if test:
                assert made.status_code == 422
                assert "private network" in made.json()["error"]["message"]
        key = made.json()["key"]
        for path in ("proxy/me", "proxy/latest/meta-data"):
            assert api.tenant()("GET", f"/connections/{key}/{path}").status_code == 422
        assert api.tenant()("POST", f"/connections/{key}/test").status_code == 422
        assert len(echo.seen) == before
