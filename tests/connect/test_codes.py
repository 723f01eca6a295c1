"""Apps that only give device codes: the page shows one, and goes on once it was entered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from membrane_sync.apps.oidc_provider import OidcProvider
from membrane_sync.connections.answers import Answering, Looked, Visitor
from membrane_sync.connections.choices import choices
from membrane_sync.connections.requests import hashed
from membrane_sync.errors import AppUnavailable, RateLimited
from membrane_sync.ports import Authenticator, ConnectionRequest, DeviceCode
from tests.connect import visitor as browsers
from tests.connect.world import World

ANN = Visitor("browser-of-ann", "127.0.0.1")


@dataclass
class Trip:
    """One user before the page, whose clock the test moves."""

    world: World
    request: ConnectionRequest
    now: float = 0.0
    host: Any = None

    def __post_init__(self) -> None:
        self.now = time.time()
        self.answering = Answering(self.host or self.world.runtime, lambda: self.now)

    def begin(self) -> DeviceCode:
        [choice] = choices(self.world.runtime, self.request)
        self.answering.submit(self.request, "token", choice, {}, ANN)
        code = self.look().code
        assert code is not None
        return code

    def look(self, seconds: float = 0.0, visitor: Visitor = ANN) -> Looked:
        """Look again after so many seconds."""
        self.now += seconds
        return self.answering.look(self.request, visitor)


@pytest.fixture
def trip(world: World, tenant: str) -> Trip:
    found = world.runtime.requests.find(world.ask(tenant, "teller")["id"])
    assert found
    return Trip(world, found)


def stands(trip: Trip) -> tuple[str, str]:
    found = trip.world.runtime.requests.find(trip.request.id)
    assert found
    return found.status, found.error


def test_a_code_that_is_entered_connects(trip: Trip, provider: OidcProvider) -> None:
    code = trip.begin()
    assert code.user_code and code.verification_url.startswith(provider.url)
    assert trip.look(6).code is not None
    provider.allow(code.complete_url, "ann")
    assert trip.look(1).code is not None, "it's not asked more often than the app wants it"
    assert trip.look(6) == Looked()
    assert stands(trip) == ("success", "")
    record = trip.world.runtime.ledger.connection(trip.request.connection)
    assert (record.tenant, record.account) == (trip.request.tenant, "ann")
    assert record.credentials["access_token"]


def test_a_code_that_nobody_enters_ends(trip: Trip) -> None:
    code = trip.begin()
    assert trip.look(code.expires_in + 1) == Looked()
    assert stands(trip)[0] == "pending"
    other = trip.begin()
    assert other.user_code != code.user_code


def test_a_code_that_the_app_refuses_is_of_no_use_any_more(trip: Trip) -> None:
    trip.begin()
    requests = trip.world.runtime.requests
    kept: Any = requests.waiting(trip.request.id, hashed(ANN.browser), trip.now)
    kept["code"]["kept"]["device_code"] = "made-up"
    requests.show_code(trip.request.id, kept["until"], kept)
    looked = trip.look(6)
    assert looked.error is not None and looked.error.code == "not_authorized"
    assert stands(trip) == ("pending", "not_authorized")
    assert trip.look(6) == Looked()


def test_another_browser_sees_no_code(trip: Trip, provider: OidcProvider) -> None:
    code = trip.begin()
    provider.allow(code.complete_url, "ann")
    assert trip.look(6, Visitor("another", "127.0.0.1")) == Looked()
    assert stands(trip)[0] == "pending"
    # Nor is the callback a way to it, whatever is sent there.
    for state in (f"code:{trip.request.id}", ""):
        with pytest.raises(Exception, match="not begun here"):
            trip.answering.come_back({"state": state, "code": "x"}, ANN)
    assert trip.look(0) == Looked() and stands(trip)[0] == "success"


def test_what_only_passes_costs_no_code(trip: Trip, provider: OidcProvider) -> None:
    away = Away(trip.world.runtime, [AppUnavailable("down"), RateLimited("busy", retry_after=40)])
    there = Trip(trip.world, trip.request, host=away)
    code = there.begin()
    provider.allow(code.complete_url, "ann")
    assert there.look(6).code is not None, "the app is down"
    assert there.look(11).code is not None, "it's busy"
    assert there.look(11).code is not None and away.apps.troubles == []
    assert there.look(30) == Looked() and stands(there)[0] == "success"


class Away:
    """The runtime, with an app that can't be asked a few times."""

    def __init__(self, runtime: Any, troubles: list[Exception]) -> None:
        self._runtime = runtime
        self.apps = AwayApps(runtime.apps, troubles)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


class AwayApps:
    """The apps, with troubles that pass."""

    def __init__(self, apps: Any, troubles: list[Exception]) -> None:
        self._apps = apps
        self.troubles = troubles

    def __getattr__(self, name: str) -> Any:
        return getattr(self._apps, name)

    def authenticator(self, *names: Any) -> Authenticator:
        made = self._apps.authenticator(*names)
        poll = made.poll_device

        def troubled(code: DeviceCode) -> Any:
            if self.troubles:
                raise self.troubles.pop(0)
            return poll(code)

        made.poll_device = troubled
        return made


def test_two_looks_at_once_ask_once(trip: Trip) -> None:
    trip.begin()
    assert trip.world.runtime.requests.look(trip.request.id, trip.now, 300)
    assert trip.look(6).code is not None, "another look is under way"


@pytest.fixture
def visitor() -> Iterator[browsers.Visitor]:
    with browsers.Visitor() as opened:
        yield opened


def test_the_page_works_without_a_script(
    world: World, provider: OidcProvider, tenant: str, visitor: browsers.Visitor
) -> None:
    request = world.ask(tenant, "teller")
    visitor.open(request["url"])
    assert "Get a code" in visitor.text and "on any device" in visitor.text
    visitor.send(request["url"])
    assert "Enter this code at Teller" in visitor.text
    assert '<noscript><meta http-equiv="refresh"' in visitor.page.text
    with browsers.Visitor() as other:
        other.open(request["url"])
        assert "Enter this code" not in other.text
    assert httpx.get(f"{request['url']}/status").json()["at_app"] is False
    provider.allow(visitor.target, "ann")
    visitor.open(request["url"])
    assert "Enter this code" in visitor.text, "too early to ask again"
    until = time.monotonic() + 30
    while "Teller is connected" not in visitor.text:
        assert time.monotonic() < until
        time.sleep(0.5)
        visitor.open(request["url"])
    assert world.seen(request)["status"] == "success"


def test_a_user_may_cancel_instead(world: World, tenant: str, visitor: browsers.Visitor) -> None:
    request = world.ask(tenant, "teller")
    visitor.open(request["url"])
    visitor.send(request["url"])
    visitor.send(f"{request['url']}/cancel")
    assert "Nothing was connected" in visitor.text
    assert world.seen(request)["status"] == "cancelled"


def test_a_page_that_is_left_open_says_that_the_code_ended(
    world: World, tenant: str, visitor: browsers.Visitor
) -> None:
    request = world.ask(tenant, "teller")
    visitor.open(request["url"])
    visitor.send(request["url"])
    kept = world.runtime.requests.find(request["id"])
    assert kept and kept.enters_code
    world.runtime.requests.show_code(request["id"], time.time() - 1, {})
    visitor.open(request["url"])
    assert "The code was not entered in time" in visitor.text and "Get a code" in visitor.text


def test_an_address_that_is_none_is_not_linked(trip: Trip, monkeypatch: Any) -> None:
    made = trip.world.runtime.apps.authenticator("teller")
    begin = made.begin_device
    evil = lambda typed: replace(begin(typed), complete_url="javascript:alert(1)")  # noqa: E731
    monkeypatch.setattr(type(made), "begin_device", lambda self, typed: evil(typed))
    with pytest.raises(Exception, match="no web address"):
        trip.begin()
    assert stands(trip) == ("pending", "fatal")
