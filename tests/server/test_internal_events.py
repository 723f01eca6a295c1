"""The product tells of what happened by HTTP: whose it is, once, all of a batch or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from membrane_sync.ports import ConnectionRecord
from tests.events.ledgers import ORDER_PAID, TRIGGERED
from tests.server.conftest import Api, open_api
from tests.server.helpers import EchoApp
from tests.stores.databases import read

FILES = {
    "mappings/universal/internal_events/order_paid.yaml": ORDER_PAID,
    "mappings/universal/internal_events/noted.yaml": "schema: {type: object}\n",
    "mappings/universal/syncs/paid.yaml": TRIGGERED,
}
PAID = "/internal-events/order_paid"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, echo: EchoApp) -> Iterator[Api]:
    with open_api(tmp_path_factory.mktemp("told"), echo, files=FILES) as opened:
        for tenant in ("acme", "globex"):
            record = ConnectionRecord(f"{tenant}_kinto", "kinto", tenant)
            opened.runtime.ledger.connect(record)
        yield opened


def events(api: Api) -> list[dict[str, Any]]:
    sql = "SELECT id, tenant, connection, status, payload FROM membrane_events ORDER BY id"
    return read(api.runtime.settings.ledger_url, sql)


def test_an_event_is_in_the_ledger_when_it_is_answered(api: Api) -> None:
    answer = api.tenant("acme")("POST", PAID, {"order": 1})
    assert answer.status_code == 202
    (id,) = answer.json()["events"]
    (row,) = (row for row in events(api) if row["id"] == id)
    assert (row["tenant"], row["connection"], row["status"]) == ("acme", "acme_kinto", "pending")


def test_the_backend_tells_of_several_tenants_at_once(api: Api) -> None:
    batch = [{"order": 11, "customer": "acme"}, {"order": 12, "customer": "globex"}]
    answer = api.workspace()("POST", PAID, batch)
    assert answer.status_code == 202
    found = {row["id"]: row["connection"] for row in events(api)}
    assert [found[id] for id in answer.json()["events"]] == ["acme_kinto", "globex_kinto"]
    named = api.workspace("globex")("POST", PAID, {"order": 13}).json()["events"]
    assert {row["id"]: row["tenant"] for row in events(api)}[named[0]] == "globex"


def test_a_tenant_tells_of_its_own_alone(api: Api) -> None:
    before = events(api)
    batch = [{"order": 21}, {"order": 22, "customer": "globex"}]
    answer = api.tenant("acme")("POST", PAID, batch)
    assert answer.status_code == 422
    assert [p["element"] for p in answer.json()["error"]["problems"]] == ["[1].tenant"]
    assert "globex" not in answer.json()["error"]["message"]
    assert api.workspace("acme")("POST", PAID, batch).status_code == 422
    assert events(api) == before


def test_a_batch_with_a_wrong_item_is_refused_by_item_and_field(api: Api) -> None:
    before = events(api)
    batch = [{"order": 31}, {"order": "many"}, {"total": -1}]
    error = api.tenant("acme")("POST", PAID, batch).json()["error"]
    assert [problem["element"] for problem in error["problems"]] == [
        "[1].order",
        "[2].total",
        "[2].order",
    ]
    for body in ([], "text", None, [[]], [{"order": 1}] * 1001):
        assert api.tenant("acme")("POST", PAID, body).status_code == 422
    assert api.workspace()("POST", PAID, {"order": 1}).status_code == 422
    assert events(api) == before


def test_an_unknown_type_is_not_found(api: Api) -> None:
    answer = api.tenant("acme")("POST", "/internal-events/order_payed", {"order": 1})
    assert answer.status_code == 404
    assert "order_paid" in answer.json()["error"]["hint"]


@pytest.mark.parametrize("header", ["Idempotency-Key", "webhook-id"])
def test_what_is_sent_again_is_kept_once(api: Api, header: str) -> None:
    batch: list[Any] = [{"text": "a"}, {"text": "a"}]
    counts = []
    for key in ("k1", "k1", "k2"):
        answer = api.tenant("acme")(
            "POST", "/internal-events/noted", batch, headers={header: f"{header} {key}"}
        )
        counts.append((len(answer.json()["events"]), answer.json()["duplicates"]))
    assert counts == [(2, 0), (0, 2), (2, 0)]
