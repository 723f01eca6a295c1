"""The log of events by HTTP: what happened, to whom it's shown, and how it happens again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.events import Arrival, Event, Failure, Webhook
from tests.events.ledgers import ORDER_PAID, TRIGGERED
from tests.server.conftest import Api, open_api
from tests.server.helpers import EchoApp

EVENT = "mappings/universal/internal_events/order_paid.yaml"
FILES = {EVENT: ORDER_PAID, "mappings/universal/syncs/paid.yaml": TRIGGERED}
ONE = Event(
    "webhook",
    "record",
    "contacts",
    "acme",
    "acme_kinto",
    change="updated",
    external_id="c1",
    payload='{"name": "planted-name"}',
    occurred_at=1_800_000_000.5,
)
HOOK = Webhook("webhook", "a-key", b'{"planted": "body"}', {"x-app": "kinto"}, {"q": "1"})


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, echo: EchoApp) -> Iterator[Api]:
    with open_api(tmp_path_factory.mktemp("log"), echo, files=FILES) as opened:
        for tenant in ("acme", "globex"):
            record = ConnectionRecord(f"{tenant}_kinto", "kinto", tenant)
            opened.runtime.ledger.connect(record)
        yield opened


def put(api: Api, *events: Event, webhook: Webhook | None = None) -> list[int]:
    return list(api.runtime.ledger.inbox.put([Arrival(webhook, events)])[0].events)


def fail(api: Api, *ids: int) -> None:
    failures = [Failure(id, "no such field", None) for id in ids]
    api.runtime.ledger.inbox.settle([], failures, "run-1")


def ids(api: Api, caller: Any, query: str = "") -> list[int]:
    found: list[int] = []
    cursor = ""
    while cursor is not None:
        page = caller("GET", f"/events?limit=2&cursor={cursor}&{query}").json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    return found


def test_the_list_says_what_became_of_each_and_not_what_it_carries(api: Api) -> None:
    new = put(api, *(replace(ONE, external_id=str(n)) for n in range(5)), webhook=HOOK)
    fail(api, new[0])
    assert ids(api, api.tenant())[:5] == new[::-1]
    assert new[0] in ids(api, api.tenant(), "status=dead&connection=acme_kinto&kind=record")
    assert new[0] not in ids(api, api.tenant(), "status=pending")
    page = api.tenant()("GET", "/events?external_id=0&since=2026-01-01T00:00:00")
    assert "planted" not in page.text
    (item,) = (item for item in page.json()["items"] if item["id"] == new[0])
    assert (item["status"], item["error"], item["runs"]) == ("dead", "no such field", ["run-1"])
    assert item["occurred_at"] == "2027-01-15T08:00:00.500000Z"
    assert api.tenant()("GET", "/events?since=2199-01-01").json()["items"] == []
    for query in ("cursor=YWJj", "status=lost", "since=never", "name=%00"):
        assert api.tenant()("GET", f"/events?{query}").status_code == 422, query


def test_one_is_shown_with_its_payload_and_its_webhook(api: Api) -> None:
    (id,) = put(api, ONE, webhook=HOOK)
    shown = api.tenant()("GET", f"/events/{id}").json()
    assert shown["payload"] == {"name": "planted-name"}
    assert shown["webhook"]["body"] == '{"planted": "body"}'
    assert shown["webhook"]["headers"] == {"x-app": "kinto"}
    (binary,) = put(api, replace(ONE, payload=""), webhook=replace(HOOK, body=b"\xff"))
    shown = api.workspace()("GET", f"/events/{binary}").json()
    assert (shown["payload"], shown["webhook"]["body"]) == (None, "/w==")
    assert shown["webhook"]["encoding"] == "base64"


def test_a_global_webhook_may_tell_of_others_and_is_for_the_backend(api: Api) -> None:
    hook = replace(HOOK, source="global_webhook", name="kinto/all")
    (id,) = put(api, replace(ONE, source="global_webhook"), webhook=hook)
    assert api.tenant()("GET", f"/events/{id}").json()["webhook"] is None
    assert api.workspace("acme")("GET", f"/events/{id}").json()["webhook"] is None
    assert api.workspace()("GET", f"/events/{id}").json()["webhook"]["name"] == "kinto/all"


def test_another_tenant_hears_the_same_as_of_what_is_not_there(api: Api) -> None:
    (id,) = put(api, ONE)
    fail(api, id)
    other = api.tenant("globex")
    for method, path in (("GET", "/events/{}"), ("POST", "/events/{}/replay")):
        yours, nowhere = (other(method, path.format(n)) for n in (id, 10**9))
        assert (yours.status_code, nowhere.status_code) == (404, 404)
        words = [answer.json()["error"]["message"] for answer in (yours, nowhere)]
        assert words[0].replace(str(id), "N") == words[1].replace(str(10**9), "N")
    assert id not in ids(api, other) and id not in ids(api, api.workspace("globex"))
    assert id in ids(api, api.workspace())
    assert api.tenant()("GET", f"/events/{id}").json()["status"] == "dead"


def test_a_replayed_event_waits_again(api: Api) -> None:
    (id,) = put(api, ONE)
    fail(api, id)
    answer = api.tenant()("POST", f"/events/{id}/replay")
    assert (answer.status_code, answer.json()) == (202, {"events": [id]})
    assert api.tenant()("GET", f"/events/{id}").json()["status"] == "pending"
    assert id in [event.id for event in api.runtime.ledger.inbox.pending("acme_kinto", 100)]


def test_what_nothing_asked_for_is_spread_anew_once_something_does(api: Api) -> None:
    (id,) = api.tenant("initech")("POST", "/internal-events/order_paid", {"order": 1}).json()[
        "events"
    ]
    refused = api.tenant("initech")("POST", f"/events/{id}/replay")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "rejected")
    for key in ("initech_1", "initech_2"):
        api.runtime.ledger.connect(ConnectionRecord(key, "kinto", "initech"))
    done = api.tenant("initech")("POST", f"/events/{id}/replay").json()["events"]
    assert done[0] == id and len(done) == 2
    shown = [api.tenant("initech")("GET", f"/events/{one}").json() for one in done]
    assert [one["connection"] for one in shown] == ["initech_1", "initech_2"]
    assert {one["status"] for one in shown} == {"pending"}


def test_webhooks_that_came_to_nothing_can_be_looked_at_by_the_backend(api: Api) -> None:
    put(api, webhook=replace(HOOK, status="unmatched", name="unheard-of"))
    page = api.workspace()("GET", "/incoming-webhooks?status=unmatched&limit=1").json()
    (hook,) = page["items"]
    assert (hook["name"], "body" in hook) == ("unheard-of", False)
    whole = api.workspace()("GET", f"/incoming-webhooks/{hook['id']}").json()
    assert (whole["body"], whole["query"]) == ('{"planted": "body"}', {"q": "1"})
    for path in ("/incoming-webhooks", f"/incoming-webhooks/{hook['id']}"):
        assert api.tenant()("GET", path).status_code == 403
    replay = f"/incoming-webhooks/{hook['id']}/replay"
    assert api.tenant()("POST", replay).status_code == 403
    assert api.workspace()("POST", replay).status_code == 404, "its subscription is gone"
    assert api.workspace()("GET", f"/incoming-webhooks/{10**9}").status_code == 404
