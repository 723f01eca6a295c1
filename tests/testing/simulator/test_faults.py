"""Quotas hold and are spoken of in each dialect; faults come where the seed or the script says."""

import base64
from email.utils import parsedate_to_datetime
from typing import Any, get_args

import httpx
import pytest

from membrane_sync.testing.simulator import Access, Faults, Limits, Quota, Simulator
from membrane_sync.testing.simulator.access import Gate
from membrane_sync.testing.simulator.limits import Meter, announcement, refusal
from membrane_sync.testing.simulator.switches import Dialect
from membrane_sync.testing.simulator.traffic import most_within
from tests.testing.simulator.helpers import client_of

QUOTA = Quota(requests=3, per_seconds=60)


def refused(dialect: str, path: str = "/me") -> httpx.Response:
    """The fourth answer where three are granted."""
    simulator = Simulator(records=5, limits=Limits(quotas=(QUOTA,), dialect=dialect))
    with client_of(simulator) as client:
        for _ in range(3):
            assert client.get("/me").status_code == 200
        return client.get(path) if path == "/me" else client.post(path, json={})


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_a_quota_is_enforced_in_every_dialect(dialect: str) -> None:
    answer = refused(dialect)
    assert answer.status_code == (403 if dialect == "github" else 429)
    headers = answer.headers
    assert ("retry-after" in headers) == (dialect in ("seconds", "date", "zero", "shopify"))
    if dialect == "seconds":
        assert 50 <= int(headers["retry-after"]) <= 60
    elif dialect == "date":
        assert parsedate_to_datetime(headers["retry-after"]).tzinfo is not None
    elif dialect == "zero":
        assert headers["retry-after"] == "0"
    elif dialect == "reset_relative":
        assert 50 <= int(headers["x-ratelimit-reset"]) <= 60
    elif dialect in ("reset_epoch", "github"):
        assert 1_700_000_000 < int(headers["x-ratelimit-reset"]) < 10_000_000_000
    elif dialect == "reset_epoch_ms":
        assert int(headers["x-ratelimit-reset"]) > 1_700_000_000_000
    elif dialect == "ietf":
        assert headers["ratelimit-remaining"] == "0"
    elif dialect == "ietf_structured":
        assert headers["ratelimit-policy"] == '"default";q=3;w=60'
    elif dialect == "hubspot":
        assert answer.json()["errorType"] == "RATE_LIMIT"
    elif dialect == "shopify":
        assert headers["x-shopify-shop-api-call-limit"] == "3/3"


def test_shopify_throttles_graphql_with_status_200() -> None:
    answer = refused("shopify", "/graphql")
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["extensions"]["code"] == "THROTTLED"


def test_good_answers_count_down() -> None:
    simulator = Simulator(limits=Limits(quotas=(QUOTA,), dialect="ietf"))
    with client_of(simulator) as client:
        left = [client.get("/me").headers["ratelimit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]


def test_a_window_slides_and_each_account_has_its_own() -> None:
    clock = [0.0]
    meter = Meter(Limits(quotas=(Quota(requests=2, per_seconds=10),)), lambda: clock[0])
    answers = []
    for at, account in [(0, "a"), (9, "a"), (9, "a"), (9, "b"), (10, "a"), (10, "a"), (19, "a")]:
        clock[0] = float(at)
        answers.append(meter.admit(account)[0])
    assert answers == [True, True, False, True, True, False, True]


def test_an_app_wide_quota_is_shared() -> None:
    meter = Meter(Limits(quotas=(Quota(requests=2, per_seconds=10, scope="app"),)), lambda: 0.0)
    assert [meter.admit(account)[0] for account in "abc"] == [True, True, False]


def test_the_log_counts_the_busiest_window() -> None:
    assert most_within([], 1) == 0
    assert most_within([0, 0.1, 0.2, 5, 5.05, 5.06, 5.9, 6.0], 1) == 4
    simulator = Simulator()
    with client_of(simulator) as client:
        for _ in range(5):
            client.get("/me")
    assert simulator.log.most_within(60) == 5
    assert simulator.log.most_within(60, "another") == 0


def faulty(name: str, **more: Any) -> Simulator:
    return Simulator(records=30, faults=Faults(at={2: name}, **more))


@pytest.mark.parametrize(
    ("name", "status"), [("error", 500), ("rate_limit", 429), ("unauthorized", 401)]
)
def test_a_scripted_fault_is_answered_once(name: str, status: int) -> None:
    with client_of(faulty(name)) as client:
        statuses = [client.get("/contacts").status_code for _ in range(3)]
    assert statuses[0] == statuses[2] == 200
    assert statuses[1] >= status and statuses[1] // 100 == status // 100


def test_a_body_is_cut_in_the_middle() -> None:
    with client_of(faulty("truncate")) as client:
        whole, half = client.get("/contacts"), client.get("/contacts")
    assert half.status_code == 200 and len(half.content) == len(whole.content) // 2
    with pytest.raises(ValueError):
        half.json()


def test_a_connection_is_closed_in_mid_answer() -> None:
    with client_of(faulty("reset")) as client:
        client.get("/contacts")
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/contacts")
        assert client.get("/contacts").status_code == 200


def test_a_page_repeats_its_last_record() -> None:
    with client_of(faulty("duplicate")) as client:
        first, second = client.get("/contacts").json(), client.get("/contacts").json()
    assert second["items"][-1] == second["items"][-2] == first["items"][-1]
    assert len(second["items"]) == len(first["items"]) + 1


def test_html_comes_with_status_200() -> None:
    with client_of(faulty("html")) as client:
        client.get("/contacts")
        answer = client.get("/contacts")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html"


def test_a_slow_page_outlasts_a_client() -> None:
    simulator = faulty("slow", slow_seconds=5)
    with client_of(simulator) as client:
        client.get("/contacts")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/contacts", timeout=0.2)


def test_shares_are_drawn_from_the_seed() -> None:
    def story(seed: int) -> list[int]:
        simulator = Simulator(seed=seed, records=5, faults=Faults(error=0.2, unauthorized=0.1))
        with client_of(simulator) as client:
            return [client.get("/me").status_code for _ in range(100)]

    first = story(1)
    assert first == story(1) != story(2)
    assert 5 < sum(status >= 500 for status in first) < 40
    assert 1 < first.count(401) < 25


@pytest.mark.parametrize(
    ("kind", "headers", "query"),
    [
        ("token", {"Authorization": "Bearer token-acme"}, {}),
        ("token", {"X-Api-Key": "token-acme"}, {}),
        ("token", {}, {"api_key": "token-acme"}),
        ("basic", {"Authorization": "Basic " + base64.b64encode(b"acme:token-acme").decode()}, {}),
        ("none", {}, {}),
    ],
)
def test_each_way_to_authenticate(kind: str, headers: dict, query: dict) -> None:
    simulator = Simulator(records=5, access=Access(kind=kind))
    with client_of(simulator) as client:
        client.headers.pop("Authorization")
        assert client.get("/me", headers=headers, params=query).status_code == 200
        wrong = client.get("/me", headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == (200 if kind == "none" else 401)
    assert "token-acme" not in str(simulator.log.entries)


def token(client: httpx.Client, **form: str) -> httpx.Response:
    given = {"client_id": "simulator-client", "client_secret": "simulator-secret", **form}
    return client.post("/oauth/token", data=given)


def test_refresh_tokens_rotate_and_reuse_revokes() -> None:
    simulator = Simulator(records=5, access=Access(kind="oauth"))
    with client_of(simulator) as client:
        code = client.get("/oauth/authorize", params={"redirect_uri": "http://x.example/cb"})
        given = httpx.URL(code.headers["location"]).params["code"]
        first = token(client, grant_type="authorization_code", code=given).json()
        assert token(client, grant_type="authorization_code", code=given).status_code == 400
        bearer = {"Authorization": f"Bearer {first['access_token']}"}
        assert client.get("/me", headers=bearer).status_code == 200
        second = token(
            client, grant_type="refresh_token", refresh_token=first["refresh_token"]
        ).json()
        assert second["refresh_token"] != first["refresh_token"]
        simulator.gate.expire()
        assert client.get("/me", headers=bearer).status_code == 401
        again = token(client, grant_type="refresh_token", refresh_token=first["refresh_token"])
        assert again.json() == {"error": "invalid_grant"}
        revoked = token(client, grant_type="refresh_token", refresh_token=second["refresh_token"])
        assert revoked.status_code == 400
    assert (simulator.gate.refreshes, simulator.gate.reuses) == (1, 1)


def test_access_tokens_expire_and_clients_must_be_known() -> None:
    clock = [0.0]
    gate = Gate(Access(kind="oauth", token_seconds=60), 0, lambda: clock[0])
    given = gate.grant({"grant_type": "client_credentials"})
    bearer = {"authorization": f"Bearer {given['access_token']}"}
    accounts = []
    for at in (0, 59.9, 60):
        clock[0] = at
        accounts.append(gate.account(bearer, {}))
    assert accounts == ["acme", "acme", None]
    with client_of(Simulator(records=5, access=Access(kind="oauth"))) as client:
        unknown = token(client, grant_type="client_credentials", client_secret="no")
    assert unknown.json() == {"error": "invalid_client"}


def test_every_dialect_has_its_headers() -> None:
    meter = Meter(Limits(quotas=(QUOTA,)), lambda: 0.0)
    _, standing = meter.admit("acme")
    assert standing is not None
    for dialect in get_args(Dialect):
        assert all(isinstance(v, str) for v in announcement(dialect, standing).values())
        assert refusal(dialect, standing).status in (403, 429)
