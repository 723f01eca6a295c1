"""The connect page as its HTTP says it: links, forms, limits and errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.apps.process import free_port
from membrane_sync.bootstrap import Runtime
from membrane_sync.connections.answers import (
    ATTEMPTS_PER_ADDRESS,
    ATTEMPTS_PER_REQUEST,
    PERIOD_SECONDS,
)
from membrane_sync.connections.requests import Wanted, create_request, hashed
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from tests.connect.visitor import Visitor
from tests.connect.world import API_KEY, World, open_world, serving, write_project

FILLED = {"option": "key", "input__subdomain": "acme", "input__region": "us"}
FILLED |= {"credentials__api_key": "planted-api-key"}


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with Visitor() as opened:
        yield opened


def record_of(world: World, request: dict[str, Any]) -> ConnectionRecord:
    return world.runtime.ledger.connection(world.seen(request)["connection"])


def test_what_is_typed_in_becomes_a_connection(plain: World, tenant: str, visitor: Visitor) -> None:
    request = plain.ask(tenant, "gallery", name="Main gallery", input={"website": "https://a.b"})
    visitor.open(request["url"])
    assert "API key" in visitor.text and "User name and password" in visitor.text
    visitor.open(f"{request['url']}?option=key")
    assert "input.subdomain" in visitor.text and "input.website" not in visitor.text
    visitor.send(request["url"], **FILLED, input__sandbox="on", input__page_size="")
    assert visitor.page.status_code == 200 and "Gallery is connected" in visitor.text
    seen = plain.seen(request)
    assert (seen["status"], seen["error"]) == ("success", None)
    record = record_of(plain, request)
    assert (record.tenant, record.integration, record.option) == (tenant, "gallery", "key")
    assert record.name == "Main gallery"
    assert record.input == {
        "subdomain": "acme",
        "region": "us",
        "page_size": 50,
        "sandbox": True,
        "website": "https://a.b",
    }
    assert record.credentials["api_key"] == "planted-api-key"


def test_each_field_says_what_is_wrong_and_secrets_are_not_shown_again(
    plain: World, tenant: str, visitor: Visitor
) -> None:
    request = plain.ask(tenant, "gallery")
    visitor.open(f"{request['url']}?option=key")
    wrong = FILLED | {"input__subdomain": "no spaces!", "input__page_size": "1000"}
    visitor.send(request["url"], **wrong)
    assert visitor.page.status_code == 422
    assert "Some fields need your attention" in visitor.text
    assert 'value="no spaces!"' in visitor.text and "100 or less" in visitor.text
    assert 'aria-describedby="input.page_size-error"' in visitor.page.text
    assert "planted-api-key" not in visitor.page.text
    assert plain.seen(request)["status"] == "pending"


def test_what_users_and_products_write_is_no_markup(
    plain: World, tenant: str, visitor: Visitor
) -> None:
    evil = "<script>alert(1)</script>"
    request = plain.ask(tenant, "gallery", name=evil, custom_state='"><script>')
    visitor.open(f"{request['url']}?option=key&problem={evil}")
    visitor.send(request["url"], **FILLED | {"input__subdomain": f'"{evil}'})
    assert visitor.page.status_code == 422 and evil not in visitor.page.text
    assert evil in visitor.text


def test_pages_are_sent_so_that_nothing_else_gets_in(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page = httpx.get(request["url"])
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "same-origin"
    cookie = page.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie
    assert "<script>" not in page.text and "style=" not in page.text
    assert plain.runtime.settings.connect.public_url.startswith("http:") or "Secure" in cookie


def test_over_tls_the_cookie_is_for_tls_alone(tmp_path: Path) -> None:
    write_project(tmp_path, None)
    environ = {"MEMBRANE_PUBLIC_URL": "https://sync.example/base", "MEMBRANE_API_KEYS": API_KEY}
    runtime = Runtime(Project.load(tmp_path, environ))
    request, token = create_request(runtime, Wanted("acme", "gallery", option="key"))
    with serving(runtime, port := free_port()):
        page = httpx.get(f"http://127.0.0.1:{port}/connect/{token}")
        cookie = page.headers["Set-Cookie"]
        assert cookie.startswith("__Host-") and "Secure" in cookie and "Domain" not in cookie
        assert 'href="/base/connect-assets/page.css"' in page.text
        assert f'action="/base/connect/{token}"' in page.text
    assert request.status == "pending"


def test_what_the_product_knows_has_to_fit(plain: World, tenant: str) -> None:
    answer = plain.try_asking(tenant, "gallery", input={"page_size": 1000, "colour": "red"})
    assert answer.status_code == 422
    assert "page_size" in answer.text and "colour" in answer.text


def test_links_end(plain: World, tenant: str, visitor: Visitor) -> None:
    assert visitor.open(f"{plain.url}/connect/no-such-link").status_code == 404
    assert "no such link" in visitor.text
    request = plain.ask(tenant, "gallery")
    visitor.open(f"{request['url']}?option=key")
    plain.expire(request)
    assert visitor.send(request["url"], **FILLED).status_code == 410
    assert "expired" in visitor.text
    assert visitor.open(request["url"]).status_code == 410
    seen = plain.seen(request)
    assert (seen["status"], seen["error"]) == ("error", {"code": "expired"})


def test_a_link_works_once(plain: World, tenant: str, visitor: Visitor) -> None:
    request = plain.ask(tenant, "gallery")
    visitor.open(f"{request['url']}?option=key")
    with Visitor() as late:
        late.open(f"{request['url']}?option=key")
        visitor.send(request["url"], **FILLED)
        late.send(request["url"], **FILLED | {"credentials__api_key": "another-key"})
        assert late.page.status_code == 410 and "used already" in late.text
        assert late.open(request["url"]).status_code == 410
    assert visitor.open(request["url"]).status_code == 200 and "is connected" in visitor.text
    assert record_of(plain, request).credentials["api_key"] == "planted-api-key"


@pytest.mark.parametrize("path", ["", "/cancel"])
@pytest.mark.parametrize("csrf", ["", "0" * 64, "ä"])
def test_a_form_of_another_page_does_nothing(
    csrf: str, path: str, plain: World, tenant: str, visitor: Visitor
) -> None:
    request = plain.ask(tenant, "gallery")
    visitor.open(f"{request['url']}?option=key")
    visitor.send(request["url"] + path, csrf=csrf, **FILLED)
    assert visitor.page.status_code == 403 and "try again" in visitor.text.lower()
    assert plain.seen(request)["status"] == "pending"


def test_a_token_is_good_for_one_browser_and_one_request(
    plain: World, tenant: str, visitor: Visitor
) -> None:
    first, second = plain.ask(tenant, "gallery"), plain.ask(f"{tenant}2", "gallery")
    with Visitor() as other:
        other.open(f"{first['url']}?option=key")
        visitor.page = other.page
        visitor.send(first["url"], **FILLED)
        assert visitor.page.status_code == 403
        other.send(second["url"], **FILLED)
        assert other.page.status_code == 403


def test_a_user_may_cancel(plain: World, tenant: str, visitor: Visitor) -> None:
    back = f"{plain.product}/done?tab=2"
    request = plain.ask(tenant, "gallery", redirect_uri=back, custom_state="a b")
    visitor.open(request["url"])
    visitor.send(f"{request['url']}/cancel")
    assert "Nothing was connected" in visitor.text
    assert plain.seen(request)["status"] == "cancelled"
    [link] = [part for part in visitor.text.split('"') if part.startswith(plain.product)]
    query = parse_qs(urlsplit(link).query)
    assert query["status"] == ["cancelled"] and query["custom_state"] == ["a b"]
    assert query["tab"] == ["2"] and query["request"] == [request["id"]]


def test_too_many_attempts_have_to_wait(kinto: Kinto, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "kinto", input={"url": kinto.url, "bucket": "none"})
    with Visitor() as visitor:
        visitor.open(request["url"])
        for _ in range(ATTEMPTS_PER_REQUEST):
            visitor.send(request["url"], credentials__username="ada", credentials__password="wrong")
            assert visitor.page.status_code == 422
            assert "did not accept" in visitor.text and "Check what you entered" in visitor.text
        visitor.send(request["url"], credentials__username="ada", credentials__password="x")
        assert visitor.page.status_code == 429
        assert 0 < int(visitor.page.headers["Retry-After"]) <= 601
        assert "too often" in visitor.text
    assert plain.seen(request)["status"] == "pending"


def test_an_address_can_not_try_link_after_link(tmp_path: Path, tenant: str) -> None:
    with open_world(tmp_path, None) as world, Visitor() as visitor:
        period = int(time.time() // PERIOD_SECONDS)
        for moment in (period, period + 1):  # the hour may strike meanwhile
            for _ in range(ATTEMPTS_PER_ADDRESS):
                world.runtime.requests.attempts(hashed("address:127.0.0.1"), moment)
        request = world.ask(tenant, "gallery")
        visitor.open(f"{request['url']}?option=key")
        assert visitor.send(request["url"], **FILLED).status_code == 429
        assert world.seen(request)["status"] == "pending"


def test_an_app_that_is_not_there_is_said_to_be(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "kinto", input={"url": "http://127.0.0.1:9/v1", "bucket": "b"})
    with Visitor() as visitor:
        visitor.open(request["url"])
        visitor.send(request["url"], credentials__username="a", credentials__password="planted")
        assert visitor.page.status_code == 503 and "did not answer" in visitor.text
        assert "planted" not in visitor.page.text
    assert plain.seen(request)["error"] == {"code": "app_unavailable"}


@pytest.fixture
def begun(world: World, tenant: str) -> Iterator[tuple[Visitor, dict[str, Any], str]]:
    """A user who is sent to the app: the browser, the request, and where it's sent to."""
    request = world.ask(tenant, "ledgerly")
    with Visitor() as visitor:
        visitor.open(request["url"])
        visitor.send(request["url"])
        assert "Taking you to Ledgerly" in visitor.text
        yield visitor, request, visitor.target


def back(world: World, answer: dict[str, str]) -> str:
    return str(httpx.URL(f"{world.url}/oauth/callback", params=answer))


def test_the_app_is_asked_with_pkce_and_a_state(begun: Any, world: World) -> None:
    _, _, target = begun
    query = parse_qs(urlsplit(target).query)
    assert query["code_challenge_method"] == ["S256"] and query["code_challenge"]
    assert len(query["state"][0]) >= 43
    assert query["redirect_uri"] == [f"{world.url}/oauth/callback"]


def test_a_user_comes_back_connected(begun: Any, world: World, provider: OidcProvider) -> None:
    visitor, request, target = begun
    visitor.open(back(world, provider.allow(target, "ann")))
    assert visitor.page.status_code == 200 and "Ledgerly is connected" in visitor.text
    # Neither the code nor the state stays in the address.
    assert str(visitor.page.url) == request["url"]
    record = record_of(world, request)
    assert record.credentials["access_token"] and record.credentials["refresh_token"]
    assert record.expires_at and record.expires_at > time.time()


def test_the_answer_counts_once(begun: Any, world: World, provider: OidcProvider) -> None:
    visitor, _, target = begun
    answer = provider.allow(target, "ann")
    visitor.open(back(world, answer))
    assert visitor.open(back(world, answer)).status_code == 400
    assert "finished already" in visitor.text


def test_another_browser_can_not_finish(begun: Any, world: World, provider: OidcProvider) -> None:
    visitor, request, target = begun
    answer = provider.allow(target, "ann")
    with Visitor() as other:
        other.open(request["url"])
        assert other.open(back(world, answer)).status_code == 400
    assert world.seen(request)["status"] == "pending"
    visitor.open(back(world, answer))
    assert world.seen(request)["status"] == "success"


@pytest.mark.parametrize("change", [{"state": "wrong"}, {"state": ""}, {"state": None}])
def test_a_wrong_state_does_nothing(
    change: dict[str, Any], begun: Any, world: World, provider: OidcProvider
) -> None:
    visitor, request, target = begun
    answer = {n: v for n, v in {**provider.allow(target, "ann"), **change}.items() if v is not None}
    assert visitor.open(back(world, answer)).status_code == 400
    assert "begin again" in visitor.text
    assert world.seen(request)["status"] == "pending"


def test_a_permission_that_was_not_given_can_be_asked_for_again(
    begun: Any, world: World, provider: OidcProvider
) -> None:
    visitor, request, target = begun
    visitor.open(back(world, provider.allow(target, "ann", cancel=True)))
    assert "was not allowed to connect" in visitor.text and "Try again" in visitor.text
    seen = world.seen(request)
    assert (seen["status"], seen["error"]) == ("pending", {"code": "access_denied"})
    visitor.send(request["url"])
    visitor.open(back(world, provider.allow(visitor.target, "ann")))
    assert world.seen(request)["status"] == "success"


def test_a_code_that_is_not_the_apps_is_refused(
    begun: Any, world: World, provider: OidcProvider
) -> None:
    visitor, request, target = begun
    visitor.open(back(world, {**provider.allow(target, "ann"), "code": "made-up"}))
    assert "Ledgerly did not accept the sign-in" in visitor.text
    assert world.seen(request)["status"] == "pending"


def test_reconnecting_keeps_all_but_the_credentials(
    world: World, provider: OidcProvider, tenant: str
) -> None:
    key = f"{tenant[:80]}_a"
    old = ConnectionRecord(
        key,
        "ledgerly",
        tenant,
        "Books",
        credentials={"access_token": "old"},
        status="reconnect_needed",
    )
    world.runtime.ledger.connect(old)
    request = world.ask(tenant, "ledgerly")
    with Visitor() as visitor:
        visitor.open(request["url"])
        assert "Reconnect Ledgerly" in visitor.text and "Books" in visitor.text
        visitor.send(request["url"])
        visitor.open(back(world, provider.allow(visitor.target, "ann")))
    record = record_of(world, request)
    assert (record.key, record.name, record.status) == (key, "Books", "ready")
    assert record.credentials["access_token"] != "old"


def test_one_that_was_paused_stays_so(world: World, provider: OidcProvider, tenant: str) -> None:
    key = f"{tenant[:80]}_a"
    world.runtime.ledger.connect(ConnectionRecord(key, "ledgerly", tenant, status="paused"))
    request = world.ask(tenant, "ledgerly")
    with Visitor() as visitor:
        visitor.open(request["url"])
        visitor.send(request["url"])
        visitor.open(back(world, provider.allow(visitor.target, "ann")))
    assert record_of(world, request).status == "paused"


def test_the_status_is_told_to_the_products_pages_alone(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    status = f"{request['url']}/status"
    own = httpx.get(status, headers={"Origin": plain.product})
    assert own.json()["status"] == "pending" and own.json()["at_app"] is False
    assert own.headers["Access-Control-Allow-Origin"] == plain.product
    other = httpx.get(status, headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert httpx.get(f"{plain.url}/connect/nothing/status").status_code == 404


def test_a_page_of_others_can_not_open_the_link(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    page = httpx.get(request["url"], params={"origin": "https://evil.example"})
    assert page.status_code == 403 and "connect.redirects" in page.text
    found = plain.runtime.requests.find(request["id"])
    assert found and found.origin == ""


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", ""])
def test_a_body_that_is_no_form_is_no_defect(kind: str, plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    for body in (b"", b"\xff\x00", b"csrf=%ff%00&option=%00", b"--x\r\n"):
        headers = {"Content-Type": kind or "application/x-www-form-urlencoded"}
        answer = httpx.post(request["url"], content=body, headers=headers)
        assert answer.status_code == 403, answer.text
