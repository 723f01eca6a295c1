"""Nobody gets in by a link, a state, a code or a form that isn't theirs: all routes are walked.

They're no part of the OpenAPI document; a new one that isn't walked here fails the first test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.server.connect.routes import page_router
from tests.connect.visitor import CSRF, Visitor
from tests.connect.world import World

LINKS = {"/connect/{token}", "/connect/{token}/cancel", "/connect/{token}/status"}
CALLBACK = "/oauth/callback"
PUBLIC = {"/connect.js", "/connect-assets/{name}"}
"""The same for everybody: a script and the page's looks."""

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
FILLED = {"option": "key", "input.subdomain": "acme", "input.region": "us"}
FILLED |= {"credentials.api_key": "planted-api-key"}


def routes(world: World) -> list[tuple[str, str]]:
    """Method and path of each."""
    found = [route for route in page_router(world.runtime).routes if isinstance(route, APIRoute)]
    return [(method, route.path) for route in found for method in sorted(route.methods)]


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with Visitor() as opened:
        yield opened


def stored(world: World) -> dict[str, list[Any]]:
    """All rows of the ledger about connections and requests for them."""
    engine = sa.create_engine(world.runtime.settings.ledger_url)
    tables = ("membrane_connections", "membrane_connection_requests", "membrane_tenants")
    with engine.begin() as transaction:
        rows = {
            name: [tuple(row) for row in transaction.execute(sa.text(f"SELECT * FROM {name}"))]
            for name in tables
        }
    engine.dispose()
    return rows


def said(answer: httpx.Response) -> tuple[int, str, str | None]:
    return answer.status_code, answer.text, answer.headers.get("Set-Cookie")


def test_each_route_is_walked(plain: World) -> None:
    assert {path for _, path in routes(plain)} == LINKS | {CALLBACK} | PUBLIC


def test_other_methods_do_nothing(plain: World, tenant: str) -> None:
    token = plain.ask(tenant, "gallery")["url"].rpartition("/")[2]
    before = stored(plain)
    offered = routes(plain)
    with httpx.Client(base_url=plain.url) as client:
        for path in LINKS | {CALLBACK} | PUBLIC:
            address = path.replace("{token}", token).replace("{name}", "page.css")
            allowed = {method for method, there in offered if there == path}
            for method in METHODS - allowed:
                answer = client.request(method, address, data=FILLED)
                assert answer.status_code == 405, f"{method} {path}"
    assert stored(plain) == before


def test_a_link_that_is_none_is_the_same_as_none(plain: World, tenant: str) -> None:
    request = plain.ask(tenant, "gallery")
    token = request["url"].rpartition("/")[2]
    found = plain.runtime.requests.find(request["id"])
    assert found
    forged = {
        "the request's id": request["id"],
        "the hash of the token": found.token_hash,
        "all but its end": token[:-1],
        "another end": token[:-1] + ("a" if token[-1] != "a" else "b"),
        "in other letters": token.swapcase(),
        "with a NUL": token + "%00",
        "with a space": token + "%20",
        "no text at all": "%ff%fe",
        "very long": "x" * 5_000,
    }
    before = stored(plain)
    with httpx.Client() as client:

        def ask(method: str, path: str, link: str) -> tuple[int, str, str | None]:
            return said(client.request(method, plain.url + path.replace("{token}", link)))

        for method, path in routes(plain):
            if path in LINKS:
                nothing = ask(method, path, "no-such-link")
                assert nothing[0] == 404
                for why, link in forged.items():
                    assert ask(method, path, link) == nothing, f"{why}: {method} {path}"
    assert stored(plain) == before


def test_a_state_that_is_not_yours_is_the_same_as_none(
    world: World, provider: OidcProvider, tenant: str
) -> None:
    with Visitor() as ann, Visitor() as eve:
        begun = {}
        for why in ("hers", "revoked", "cancelled", "renewed", "code"):
            request = world.ask(f"{tenant}_{why}"[:100], "teller" if why == "code" else "ledgerly")
            ann.open(request["url"])
            ann.send(request["url"])
            begun[why] = request, ann.target
        answers = {
            why: provider.allow(to, "ann") for why, (_, to) in begun.items() if why != "code"
        }
        hers = answers["hers"]
        world.backend.delete(f"/connection-requests/{begun['revoked'][0]['id']}")
        ann.open(begun["cancelled"][0]["url"])
        ann.send(f"{begun['cancelled'][0]['url']}/cancel")
        ann.open(begun["renewed"][0]["url"])
        ann.send(begun["renewed"][0]["url"])
        eve.open(world.ask(f"{tenant}_eve"[:100], "ledgerly")["url"])
        before = stored(world)

        def back(visitor: Visitor, answer: dict[str, str]) -> tuple[int, str, str | None]:
            return said(visitor.open(str(httpx.URL(world.url + CALLBACK, params=answer))))

        nothing = back(eve, {"state": "made-up", "code": "made-up"})
        assert nothing[0] == 400
        walked = {
            "another browser's": back(eve, hers),
            "another browser's error": back(eve, {**hers, "error": "access_denied"}),
            "without a state": back(ann, {"code": hers["code"]}),
            "with an empty state": back(ann, {**hers, "state": ""}),
            "with another's end": back(ann, {**hers, "state": hers["state"][:-1]}),
            "of a link that was taken back": back(ann, answers["revoked"]),
            "of a request that was cancelled": back(ann, answers["cancelled"]),
            "of an attempt before the last": back(ann, answers["renewed"]),
            "of a code that's entered elsewhere": back(
                ann, {"state": f"code:{begun['code'][0]['id']}", "code": "x"}
            ),
            "with a NUL": back(ann, {**hers, "state": hers["state"] + "\0"}),
        }
        assert {why: answer for why, answer in walked.items() if answer != nothing} == {}
        assert stored(world) == before
        # None of that has cost the one whose it is anything; and it's good for once.
        assert back(ann, hers)[0] == 200
        assert world.seen(begun["hers"][0])["status"] == "success"
        after = stored(world)
        assert back(ann, hers) == nothing and stored(world) == after


def test_a_form_that_is_not_ours_changes_nothing(
    plain: World, tenant: str, visitor: Visitor
) -> None:
    request, other = plain.ask(tenant, "gallery"), plain.ask(f"{tenant}_other"[:100], "gallery")
    visitor.open(f"{other['url']}?option=key")
    token_of_other = CSRF.search(visitor.page.text)
    assert token_of_other
    visitor.open(f"{request['url']}?option=key")
    token = CSRF.search(visitor.page.text)
    assert token
    before = stored(plain)
    cookies = dict(visitor.cookies)
    tried = {
        "nothing": ({}, {}),
        "no cookie": ({}, {"csrf": token[1]}),
        "another browser's cookie": (
            {name: "x" * len(value) for name, value in cookies.items()},
            {"csrf": token[1]},
        ),
        "no token": (cookies, {}),
        "a token of another request": (cookies, {"csrf": token_of_other[1]}),
        "a token that's cut": (cookies, {"csrf": token[1][:-1]}),
        "a token in other letters": (cookies, {"csrf": token[1].upper()}),
    }
    forms = [path for method, path in routes(plain) if method == "POST"]
    assert len(forms) == 2
    for path in forms:
        address = plain.url + path.replace("{token}", request["url"].rpartition("/")[2])
        for why, (kept, more) in tried.items():
            with httpx.Client(cookies=kept) as client:
                answer = client.post(address, data={**FILLED, **more})
            assert answer.status_code == 403, f"{why}: {path}"
            assert "planted" not in answer.text
    assert stored(plain) == before
