"""No planted secret is in any answer of the HTTP API or the connect page, nor in what they log."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from membrane_sync.apps.process import HOST, free_port
from membrane_sync.ports import ConnectionRecord
from tests.connect.visitor import Visitor
from tests.end_to_end.leaky_app import LeakyApp, leaky_app
from tests.end_to_end.planted import (
    AUTHENTICATIONS,
    GIVEN,
    SECRETS,
    User,
    answer,
    leaks,
    open_runtime_of,
    planted_project,
)

HIDDEN = b"*" * 20
PROXIED = "/connections/{connection}/proxy/{path}"


@dataclass
class Listener:
    """Asks the API as the product's backend and as a tenant, and keeps all that it answers."""

    url: str
    heard: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        claims = {"iss": "crm", "tenantKey": "acme", "exp": int(time.time()) + 3600}
        key = OctKey.import_key(SECRETS["workspace_secret"])
        self.callers = {
            "workspace": self._client(SECRETS["server_key"], {"X-Membrane-Tenant": "acme"}),
            "tenant": self._client(jwt.encode({"alg": "HS256"}, claims, key)),
            "nobody": self._client(SECRETS["api_key"].encode("ascii", "replace").decode()),
        }

    def __call__(
        self, method: str, path: str, body: Any = None, *, who: str = "tenant", **options: Any
    ) -> httpx.Response:
        return self.callers[who].request(method, path, json=body, **options)

    def hear(self, response: httpx.Response) -> None:
        content = response.read()
        headers = "".join(f"\n{name}: {value}" for name, value in response.headers.items())
        asked = response.request
        name = f"{len(self.heard)} {asked.method} {asked.url.path}"
        self.heard[name] = f"{response.status_code}{headers}\n".encode() + content

    def _client(self, secret: str, headers: dict[str, str] | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {secret}", **(headers or {})},
            trust_env=False,
            timeout=60,
            event_hooks={"response": [self.hear]},
        )


@contextmanager
def served(user: User) -> Iterator[Listener]:
    port = free_port()
    url = f"http://{HOST}:{port}"
    user.environment |= {"MEMBRANE_PUBLIC_URL": url, "MEMBRANE_CONNECT_REDIRECTS": f"{url}/*"}
    with user.running("membrane_sync.cli.main", "serve", "--port", str(port)) as process:
        deadline = time.monotonic() + 120
        while not _is_up(url):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        listener = Listener(url)
        yield listener
        for client in listener.callers.values():
            client.close()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_no_planted_secret_is_in_any_answer_of_the_api(tmp_path: Path) -> None:
    user = planted_project(tmp_path / "crm")
    with leaky_app(list(SECRETS.values())) as app, served(user) as api:
        connect_it_all(api, app)
        refresh_it(user, api, app)
        requests = use_the_page(api, app)
        read_it_all(api, app, requests)
        call_through_it(api, app)
        refuse_it_all(api, app)
        change_it_all(api, app)
    heard = [leak for name, said in api.heard.items() for leak in leaks(name, said)]
    found = heard + user.look_into_files()
    assert found == [], "\n".join(found)
    assert "proxy" in (user.root / "main-serve.err").read_text(), "its log was looked into"


def typed(app: LeakyApp, name: str) -> dict[str, Any]:
    """What a user types in for one of the ways."""
    credentials = {secret: SECRETS[secret] for secret in GIVEN[name]}
    return {
        "input": {"url": app.url, "pin": SECRETS["pin"]},
        "credentials": {"username": "acme", **credentials},
    }


def connect_it_all(api: Listener, app: LeakyApp) -> None:
    for name in AUTHENTICATIONS:
        body = {"integration": name, "key": f"acme_{name}", **typed(app, name)}
        for failure in (401, 302):
            answer(app, failure, *GIVEN[name])
            assert api("POST", "/connections", body, who="workspace").status_code >= 400
        answer(app, 0)
        assert api("POST", "/connections", body, who="workspace").status_code == 201
        answer(app, 401, *GIVEN[name])
        assert api("POST", f"/connections/acme_{name}/test").json()["works"] is False


def refresh_it(user: User, api: Listener, app: LeakyApp) -> None:
    given = {name: SECRETS[name] for name in ("access_token", "refresh_token")}
    place = {"url": app.url, "pin": SECRETS["pin"]}
    runtime = open_runtime_of(user)
    runtime.register(ConnectionRecord("acme_by_oauth", "by_oauth", "acme", "", place, given))
    runtime.close()
    refresh = "/connections/acme_by_oauth/refresh"
    app.tokens = (SECRETS["new_access_token"], SECRETS["new_refresh_token"])
    for failure, status in ((500, 503), (400, 422)):
        answer(app, failure, *given)
        assert api("POST", refresh).status_code == status
    answer(app, 0)
    assert api("POST", refresh).status_code == 200


def use_the_page(api: Listener, app: LeakyApp) -> list[str]:
    """Forms that are wrong, refused and taken, and a sign-in that fails; gives the requests."""
    made = {}
    for name in ("by_basic", "by_oauth"):
        body = {"integration": name, "input": typed(app, "by_basic")["input"]}
        body |= {"allow_multiple_connections": True}
        made[name] = api("POST", "/connection-requests", body, who="workspace").json()
    password = {"credentials__username": "acme", "credentials__password": SECRETS["password"]}
    with Visitor(api.hear) as visitor:
        link = made["by_basic"]["url"]
        visitor.open(link)
        assert "password" in visitor.text
        visitor.send(link, csrf="", **password)
        for failure in (401, 403, 302):
            answer(app, failure, "password")
            visitor.send(link, **password)
            assert visitor.page.status_code >= 400
        answer(app, 0)
        visitor.send(link, **password)
        assert "is connected" in visitor.text
    with Visitor(api.hear) as visitor:
        link = made["by_oauth"]["url"]
        for told in ({"error": "access_denied"}, {"code": "a-code"}):
            visitor.open(link)
            visitor.send(link)
            (state,) = re.findall(r"state=([\w-]+)", visitor.text)[:1]
            answer(app, 400)
            said = {**told, "state": state, "error_description": "no"}
            visitor.open(str(httpx.URL(f"{api.url}/oauth/callback", params=said)))
    return [request["id"] for request in made.values()]


def read_it_all(api: Listener, app: LeakyApp, requests: list[str]) -> None:
    """Every route that reads, as the document names them, for all there is."""
    document = api("GET", "/openapi.json").json()
    reading = [path for path, methods in document["paths"].items() if "get" in methods]
    ways = (*AUTHENTICATIONS, "by_oauth")
    values = {
        "connection": [f"acme_{name}" for name in ways],
        "integration": list(ways),
        "tenant": ["acme"],
        "request": requests,
        # Of these there are none, and what is said of them is heard all the same.
        **{name: ["1"] for name in ("event", "webhook", "key", "app")},
    }
    read: dict[str, set[str]] = {who: set() for who in api.callers}
    for path in reading:
        if path == PROXIED:
            continue  # by itself
        for filled in product(*(values[name] for name in re.findall(r"\{(\w+)\}", path))):
            target = re.sub(r"\{\w+\}", "{}", path).format(*filled)
            for who in api.callers:
                status = api("GET", target, who=who).status_code
                assert status < 500, target
                read[who] |= {path} if status == 200 else set()
    assert read["nobody"] == {"/health"}
    assert {"/me", "/connections/{connection}", "/connection-requests/{request}"} <= read["tenant"]
    assert read["workspace"] >= read["tenant"] | {"/tenants", "/tenants/{tenant}"}


def call_through_it(api: Listener, app: LeakyApp) -> None:
    """An app that repeats in headers and body what it knows, whatever it's asked."""
    known = {**GIVEN, "by_oauth": ["new_access_token", "new_refresh_token"]}
    for name, secrets in known.items():
        path = PROXIED.format(connection=f"acme_{name}", path="contacts")
        for failure in (200, 400, 403, 500, 302):
            answer(app, failure, *secrets)
            for who in ("workspace", "tenant"):
                said = api("GET", path, who=who, headers={"Accept-Encoding": "gzip"})
                assert (said.status_code, HIDDEN in said.content) == (failure, True)
                assert int(said.headers["Content-Length"]) == len(said.content)
            assert HIDDEN in api("PUT", path, {"name": "x"}).content
        answer(app, 0)
        assert "c1@example.org" in api("GET", path).text


def refuse_it_all(api: Listener, app: LeakyApp) -> None:
    """Secrets in places where none belongs."""
    secret, key = SECRETS["api_key"], "acme_by_query"
    bodies: list[Any] = [
        {"integration": "by_query", "input": {"url": app.url, "pin": [SECRETS["pin"]]}},
        {"integration": "by_query", "input": {"url": [secret]}, "credentials": {"api_key": {}}},
        {"integration": "by_query", "credentials": {"api_key": {"x": secret}}},
        {"integration": "by_query", "credentials": secret, "name": f"{secret}\n", "key": secret},
        {"integration": secret, "credentials": [secret], "option": [secret]},
        [secret],
    ]
    for body in bodies:
        for who in ("workspace", "tenant"):
            assert api("POST", "/connections", body, who=who).status_code == 422
        new = body | {"integration": None} if isinstance(body, dict) else body
        assert api("PUT", f"/connections/{key}/credentials", new).status_code == 422
        assert api("POST", "/connection-requests", body).status_code == 422
    cut = f'{{"credentials": {{"api_key": "{SECRETS["access_token"]}'
    headers = {"Content-Type": "application/json"}
    for path in ("/connections", "/connection-requests"):
        said = api.callers["tenant"].post(path, content=cut, headers=headers)
        assert said.status_code == 422
    for name in ("limit", "cursor", "status", "integration"):
        assert api("GET", "/connections", params={name: secret}).status_code == 422


def change_it_all(api: Listener, app: LeakyApp) -> None:
    for name in AUTHENTICATIONS:
        place, new = f"/connections/acme_{name}", {"credentials": typed(app, name)["credentials"]}
        answer(app, 403, *GIVEN[name])
        assert api("PUT", f"{place}/credentials", new).status_code == 422
        answer(app, 0)
        assert api("PUT", f"{place}/credentials", new).status_code == 200
        for change in ({"name": "New"}, {"paused": True}, {"paused": False}):
            assert api("PATCH", place, change).status_code == 200
    answer(app, 500, "new_access_token", "new_refresh_token")
    assert api("DELETE", "/connections/acme_by_oauth").status_code == 200
