"""Reconnecting with another account of the app, which would mix the records of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.clients.authentication.account import LONGEST, account_of
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import AnotherAccount, UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord
from tests.connect.visitor import Visitor
from tests.connect.world import World


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with Visitor() as opened:
        yield opened


def sign_in(world: World, provider: OidcProvider, visitor: Visitor, url: str, user: str) -> None:
    """Go to the app from the page, and come back as the user."""
    visitor.open(url)
    visitor.send(url)
    answer = provider.allow(visitor.target, user)
    visitor.open(str(httpx.URL(f"{world.url}/oauth/callback", params=answer)))


def test_another_account_is_refused_and_the_right_one_goes_on(
    world: World, provider: OidcProvider, tenant: str, visitor: Visitor
) -> None:
    first = world.ask(tenant, "ledgerly")
    sign_in(world, provider, visitor, first["url"], "ann")
    key = world.seen(first)["connection"]
    assert world.backend.get(f"/connections/{key}").json()["account"] == "ann"
    before = world.runtime.ledger.connection(key)
    again = world.ask(tenant, "ledgerly")
    with Visitor() as other:
        sign_in(world, provider, other, again["url"], "bob")
        assert "This is another Ledgerly account" in other.text
        assert "Sign in with that one" in other.text and "Try again" in other.text
        seen = world.seen(again)
        assert (seen["status"], seen["error"]) == ("pending", {"code": "another_account"})
        assert world.runtime.ledger.connection(key) == before, "nothing of it was touched"
    with Visitor() as right:
        sign_in(world, provider, right, again["url"], "ann")
        assert "Ledgerly is connected" in right.text
    after = world.runtime.ledger.connection(key)
    assert (after.account, after.version) == ("ann", before.version + 1)


def test_one_whose_account_was_not_known_takes_on_the_next(
    world: World, provider: OidcProvider, tenant: str, visitor: Visitor
) -> None:
    key = f"{tenant[:80]}_a"
    world.runtime.ledger.connect(ConnectionRecord(key, "ledgerly", tenant))
    sign_in(world, provider, visitor, world.ask(tenant, "ledgerly")["url"], "ann")
    assert world.runtime.ledger.connection(key).account == "ann"


def test_only_who_says_that_it_is_the_same_goes_on_under_another_id(
    plain: World, tenant: str
) -> None:
    known = ConnectionRecord(f"{tenant[:80]}_a", "gallery", tenant, account="1")
    plain.runtime.register(known)
    renamed = replace(known, account="one")
    with pytest.raises(AnotherAccount, match="account '1'.* for 'one'"):
        plain.runtime.register(renamed)
    plain.runtime.register(replace(known, account=""))
    assert plain.runtime.ledger.connection(known.key).account == "1", "nobody looked"
    plain.runtime.register(renamed, same_account=True)
    assert plain.runtime.ledger.connection(known.key).account == "one"
    plain.runtime.archive(known.key)
    with pytest.raises(AnotherAccount):
        plain.runtime.register(known)


def found(formula: Any, **scope: Any) -> str:
    authentication = {"type": "none", "account_id": formula}
    declared = {"key": "app", "base_url": "https://app.test", "authentication": authentication}
    return account_of(Connector.model_validate(declared), {"credentials": {}, **scope})


def test_it_is_in_the_token_or_in_the_tests_answer() -> None:
    assert found({"$var": "$.credentials.team.id"}, credentials={"team": {"id": "T1"}}) == "T1"
    assert found({"$var": "$.body.id"}, body={"id": 4711}) == "4711"
    assert found({"$var": "$.headers.x-account"}, headers={"x-account": "a"}) == "a"
    assert found(None) == ""


def test_where_it_comes_to_nothing_nobody_can_tell() -> None:
    with pytest.raises(UnexpectedAnswer, match="`account_id` finds no account"):
        found({"$var": "$.body.id"}, body={})


def test_a_long_one_is_told_from_others_all_the_same() -> None:
    one, other = (found({"$var": "$.body"}, body="x" * LONGEST + end) for end in "ab")
    assert one != other and len(one) == len(other) <= LONGEST
