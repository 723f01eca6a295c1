"""What holds for every answer: one shape of errors, bounds, headers, pages, and a quiet log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from membrane_sync.server.envelope import SAFE_HEADERS
from tests.server.conftest import Api, open_api
from tests.server.helpers import API_KEY, EchoApp

ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, echo: EchoApp) -> Iterator[Api]:
    root = tmp_path_factory.mktemp("shape")
    server = f'largest_request_bytes = 2000\ncors_origins = ["{ORIGIN}"]\n'
    with open_api(root, echo, server=server) as opened:
        yield opened


def failures(api: Api) -> dict[str, httpx.Response]:
    acme = api.tenant()
    json_type = {"Content-Type": "application/json"}

    def posted(content: bytes) -> httpx.Response:
        return acme.client.post("/connections", content=content, headers=json_type)

    return {
        "401 not_authenticated": api.nobody()("GET", "/me"),
        "403 forbidden": acme("GET", "/tenants"),
        "404 not_found": acme("GET", "/nope"),
        "404 not_connected": acme("GET", "/connections/nope"),
        "405 method_not_allowed": acme("DELETE", "/me"),
        "413 too_large": posted(b'{"x": "' + b"x" * 2000 + b'"}'),
        "422 invalid": posted(b"{"),
        "422 invalid_input": acme("POST", "/connections", {"integration": "echo"}),
        "422 fatal": acme("GET", "/connections?cursor=AA"),
    }


def test_every_error_has_the_same_shape(api: Api) -> None:
    for expected, answer in failures(api).items():
        error = answer.json()["error"]
        assert f"{answer.status_code} {error['code']}" == expected, answer.text
        assert error["message"] and error["request_id"] == answer.headers["X-Request-Id"]
        assert set(error) <= {"code", "message", "hint", "request_id", "problems"}
        assert "Traceback" not in answer.text


def test_every_answer_is_safe_for_a_browser(api: Api) -> None:
    for answer in [*failures(api).values(), api.nobody()("GET", "/health")]:
        assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    "content",
    [
        b'{"integration": "echo", "input": {"url": "\\ud800"}}',
        b'{"integration": "echo", "name": "\\u0000"}',
        b'{"integration": "echo", "input": {"x": NaN}}',
        b'{"integration": "echo", "input": {"x": 1e999}}',
        b'{"integration": "echo", "input": {"x": ' + b"1" * 1500 + b"}}",
        b'{"integration": "echo", "input": ' + b'{"x":' * 60 + b"1" + b"}" * 61,
        b"[" * 1900,
        b"\xff\xfe",
        b"null",
        b'{"integration": "echo", "surplus": 1}',
        b'{"integration": ["echo"]}',
    ],
)
def test_odd_bodies_are_refused(content: bytes, api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.tenant().client.post("/connections", content=content, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert "error" in json.loads(answer.content.decode("ascii"))


def test_a_body_without_a_length_is_bounded_too(api: Api) -> None:
    pieces = iter([b'{"name": "', b"x" * 1500, b"x" * 1500, b'"}'])
    answer = api.tenant().client.post(
        "/connections", content=pieces, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_only_named_origins_may_call_from_a_browser(api: Api) -> None:
    def allowed(origin: str) -> str | None:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        answer = api.nobody().client.options("/me", headers=headers)
        found: str | None = answer.headers.get("Access-Control-Allow-Origin")
        return found

    assert allowed(ORIGIN) == ORIGIN
    assert allowed("https://evil.example") is None
    answer = api.tenant().client.get("/me", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_no_origin_may_by_default(tmp_path: Path, echo: EchoApp) -> None:
    with open_api(tmp_path, echo) as api:
        answer = api.tenant().client.get("/me", headers={"Origin": ORIGIN})
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_defect_is_told_by_its_place_and_nothing_else(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted-secret")

    monkeypatch.setattr(api.runtime.ledger.tenants, "tenants", broken)
    with caplog.at_level(logging.INFO, "membrane_sync.server"):
        answer = api.workspace()("GET", "/tenants")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "defect")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "planted-secret" not in answer.text + caplog.text
    assert f"{answer.headers['X-Request-Id']} GET /tenants: ZeroDivisionError at" in caplog.text


def test_the_log_has_no_paths_and_no_queries(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "membrane_sync.server"):
        api.tenant()("GET", "/connections/planted-key?token=planted-token")
    assert "planted" not in caplog.text
    assert "GET /connections/{connection} 404" in caplog.text


def test_health_says_whether_the_ledger_can_be_reached(
    api: Api, tmp_path: Path, echo: EchoApp
) -> None:
    assert api.nobody()("GET", "/health").json() == {"status": "ok"}
    away = "postgresql+psycopg://user:planted-password@127.0.0.1:9/none"
    with open_api(tmp_path, echo, MEMBRANE_LEDGER_URL=away) as lost:
        answer = lost.nobody()("GET", "/health")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "app_unavailable")
    assert "planted-password" not in answer.text
    assert "127.0.0.1" not in answer.text


def test_tenants_are_kept_for_the_backend(api: Api) -> None:
    backend = api.workspace()
    made = backend("PUT", "/tenants/umlaut%20%C3%A4", {"name": "Ä", "fields": {"plan": ["pro"]}})
    assert (made.status_code, made.json()["key"]) == (200, "umlaut ä")
    assert backend("PUT", "/tenants/umlaut ä", {"name": "B"}).json()["fields"] == {"plan": ["pro"]}
    assert backend("GET", "/tenants/umlaut ä").json()["name"] == "B"
    assert "umlaut ä" in [t["key"] for t in backend("GET", "/tenants").json()["items"]]
    assert backend("DELETE", "/tenants/umlaut ä").status_code == 204
    assert backend("DELETE", "/tenants/umlaut ä").status_code == 404
    assert backend("PUT", "/tenants/%00", {}).status_code == 422
    assert backend("PUT", "/tenants/eu%2Facme", {}).json()["key"] == "eu/acme"
    assert backend("GET", "/tenants/eu/acme").json()["key"] == "eu/acme"
    as_umlaut = {"X-Membrane-Tenant": "ä".encode()}
    named = backend.client.get("/me", headers=as_umlaut)  # type: ignore[arg-type]
    assert named.json()["tenant"] == "ä"


def test_a_tenant_with_connections_is_not_forgotten(api: Api) -> None:
    key, backend = api.connect("leaving"), api.workspace()
    assert backend("DELETE", "/tenants/leaving").json()["error"]["code"] == "in_use"
    assert api.workspace("leaving")("DELETE", f"/connections/{key}").status_code == 200
    assert backend("DELETE", "/tenants/leaving").status_code == 204


def test_nothing_is_redirected_to_where_the_caller_says_we_are(api: Api) -> None:
    answer = api.tenant().client.get("/connections/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers.get("Location")) == (404, None)


def test_who_i_am(api: Api) -> None:
    assert api.workspace()("GET", "/me").json()["kind"] == "workspace"
    assert api.workspace("acme")("GET", "/me").json()["tenant"] == "acme"
    assert API_KEY not in api.workspace()("GET", "/me").text
