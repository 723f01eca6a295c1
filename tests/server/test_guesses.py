"""Wrong keys and tokens are slowed down by where they come from; good ones never are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from membrane_sync.errors import RateLimited
from membrane_sync.server import guesses
from membrane_sync.server.guesses import PERIOD_SECONDS, Guesses
from tests.server.conftest import Api, open_api
from tests.server.helpers import API_KEY, Caller, EchoApp, token

MOST = 4


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory, echo: EchoApp) -> Iterator[Api]:
    server = f"wrong_keys_per_minute = {MOST}\n"
    with open_api(tmp_path_factory.mktemp("guesses"), echo, server=server) as opened:
        yield opened


def from_address(api: Api, address: str, credential: str) -> httpx.Response:
    """Ask from another address of this machine."""
    headers = {"Authorization": f"Bearer {credential}"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as client:
        return client.get(f"{api.url}/me", headers=headers)


@pytest.mark.parametrize("wrong", ["api-key-" + "j" * 32, token("acme") + "x"])
def test_who_guesses_has_to_wait(wrong: str, api: Api) -> None:
    guesser = Caller(api.url, wrong)
    assert {guesser("GET", "/me").status_code for _ in range(MOST)} == {401}
    refused = guesser("GET", "/connections")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= PERIOD_SECONDS
    assert from_address(api, "127.0.0.2", wrong).status_code == 401, "others don't wait for it"
    assert from_address(api, "127.0.0.2", API_KEY).status_code == 200


def test_good_callers_behind_the_same_address_are_not_kept_waiting(api: Api) -> None:
    guesser = Caller(api.url, "guess")
    while guesser("GET", "/me").status_code != 429:
        pass
    for caller in (api.workspace(), api.tenant(), api.workspace("acme")):
        assert caller("GET", "/me").status_code == 200
    assert guesser("GET", "/me").status_code == 429


def test_what_is_no_guess_is_not_counted(api: Api) -> None:
    """A browser whose token has expired hears 401 and gets a new one, however often it asks."""
    expired = Caller(api.url, token(exp=int(time.time()) - 3600))
    for caller in (expired, api.nobody()):
        assert {caller("GET", "/me").status_code for _ in range(MOST * 3)} == {401}


def test_the_wait_comes_to_an_end() -> None:
    now = [0.0]
    counted = Guesses(1, lambda: now[0])
    counted.count("10.0.0.1")
    with pytest.raises(RateLimited) as caught:
        counted.count("10.0.0.1")
    assert caught.value.retry_after == PERIOD_SECONDS
    now[0] = PERIOD_SECONDS
    counted.count("10.0.0.1")


def test_one_machine_has_a_whole_network_of_ipv6() -> None:
    counted = Guesses(1)
    counted.count("2001:db8::1")
    with pytest.raises(RateLimited):
        counted.count("2001:db8::ffff:2")
    counted.count("2001:db8:0:1::1")
    counted.count("::ffff:10.0.0.1")
    with pytest.raises(RateLimited):
        counted.count("10.0.0.1")


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MOST_SOURCES", 3)
    counted = Guesses(1)
    for number in range(100):
        counted.count(f"10.0.0.{number}")
    assert len(counted._seen) == 3
    with pytest.raises(RateLimited):
        counted.count("10.0.0.99")
