"""What the product tells of reaches whom it's about, all of it or nothing, and once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.errors import InvalidInput, NotFound
from tests.end_to_end.helpers import Workspace
from tests.events.ledgers import workspace_on
from tests.stores.databases import read

PAID = {"order": 7, "total": 9.5, "customer": "acme", "note": "ünïcode \U0001f600"}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, str]]:
    with workspace_on(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture
def workspace(place: tuple[Workspace, str]) -> Workspace:
    return place[0]


def rows(place: tuple[Workspace, str]) -> list[dict[str, Any]]:
    return read(place[1], "SELECT * FROM membrane_events ORDER BY id")


def wrong(workspace: Workspace, *payloads: Any, tenant: str = "") -> dict[str, str]:
    with pytest.raises(InvalidInput) as failed:
        workspace.runtime.events.internal.publish("order_paid", payloads, tenant=tenant)
    return failed.value.fields


def test_an_event_waits_for_each_connection_that_asks_for_it(place: tuple[Workspace, str]) -> None:
    runtime = place[0].runtime
    runtime.pause("acme_2")
    done = runtime.publish("order_paid", PAID)
    assert len(done.events) == 2
    found = runtime.ledger.inbox.pending("acme_1", 10)
    assert [(event.kind, event.name, event.tenant) for event in found] == [
        ("internal", "order_paid", "acme")
    ]
    assert '"order": 7' in found[0].payload and "ünïcode \U0001f600" in found[0].payload
    assert len(runtime.ledger.inbox.pending("acme_2", 10)) == 1
    assert [row["connection"] for row in rows(place)] == ["acme_1", "acme_2"]


def test_what_nothing_asks_for_is_kept_as_ignored(place: tuple[Workspace, str]) -> None:
    runtime = place[0].runtime
    runtime.publish("order_paid", PAID | {"customer": "initech"})
    runtime.archive("globex_1")
    runtime.publish("order_paid", PAID | {"customer": "globex"})
    assert [(row["tenant"], row["status"], row["connection"]) for row in rows(place)] == [
        ("initech", "ignored", ""),
        ("globex", "ignored", ""),
    ]


def test_a_batch_of_several_tenants_is_taken_as_a_whole_or_not_at_all(
    place: tuple[Workspace, str],
) -> None:
    workspace = place[0]
    other = PAID | {"order": 8, "customer": "globex"}
    found = wrong(workspace, PAID, {"order": "x", "total": -1}, other, {"total": 2}, 5)
    assert found == {
        "[1].order": "should be integer, is text",
        "[1].total": "is less than 0",
        "[3].order": "the field is required and missing",
        "[4].payload": "should be an object",
    }
    assert rows(place) == []
    done = workspace.runtime.events.internal.publish("order_paid", [PAID, other])
    assert [row["connection"] for row in rows(place)] == ["acme_1", "acme_2", "globex_1"]
    assert list(done.events) == [row["id"] for row in rows(place)]


def test_an_event_says_whose_it_is_or_is_refused(workspace: Workspace) -> None:
    nobodys = "is no key of a tenant, as the formula `tenant` gives it"
    assert wrong(workspace, {"order": 1}) == {"tenant": nobodys}
    assert wrong(workspace, {"order": 1, "customer": " "}) == {"tenant": nobodys}
    mine = {"order": 1, "customer": "globex"}
    assert "another" in wrong(workspace, mine, tenant="acme")["tenant"]
    assert workspace.runtime.publish("order_paid", {"order": 1}, tenant="acme").events
    event = "mappings/universal/internal_events/order_paid.yaml"
    workspace.replace(event, "tenant: {$var: $.customer}\n", "")
    assert "named by nothing" in wrong(workspace, PAID)["tenant"]


def test_an_event_that_is_told_again_is_one(place: tuple[Workspace, str]) -> None:
    workspace = place[0]
    runtime = workspace.runtime
    assert runtime.publish("order_paid", PAID).duplicates == 0
    again = runtime.publish("order_paid", PAID | {"note": "again"})
    assert (again.events, again.duplicates) == ([], 2)
    event = "mappings/universal/internal_events/order_paid.yaml"
    workspace.replace(event, "event_id: {$var: $.order}\n", "")
    for expected in ([2, 0], [0, 2]):
        done = workspace.runtime.publish("order_paid", PAID, key="delivery-1")
        assert [len(done.events), done.duplicates] == expected
    for _ in range(2):
        assert len(workspace.runtime.publish("order_paid", PAID).events) == 2
    assert len(rows(place)) == 8


def test_a_key_of_one_tenant_is_not_that_of_another(workspace: Workspace) -> None:
    for tenant in ("acme", "globex"):
        payload = {"order": 1, "customer": tenant}
        assert workspace.runtime.publish("order_paid", payload).duplicates == 0


def test_many_who_tell_the_same_at_once_make_one_event(place: tuple[Workspace, str]) -> None:
    runtime = place[0].runtime
    runtime.publish("order_paid", PAID)  # the tables are made
    total = []

    def tell() -> None:
        batch = [PAID | {"order": order} for order in range(100, 120)]
        total.append(len(runtime.events.internal.publish("order_paid", batch).events))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(total) == 40
    assert len(rows(place)) == 42


def test_the_shape_is_that_of_a_data_schema_if_one_is_named(workspace: Workspace) -> None:
    workspace.write(
        "mappings/universal/internal_events/company_saved.yaml", "data_schema: companies\n"
    )
    with pytest.raises(InvalidInput, match="size"):
        workspace.runtime.publish("company_saved", {"name": "A", "size": "huge"}, tenant="acme")
    assert workspace.runtime.publish("company_saved", {"name": "A"}, tenant="acme").events
    with pytest.raises(NotFound, match="company_saved"):
        workspace.runtime.publish("company_save", {}, tenant="acme")


def test_what_cannot_be_stored_is_refused(workspace: Workspace) -> None:
    for value in (float("nan"), "\ud800", "nul \0", {1: 2}.keys()):
        assert "payload" in wrong(workspace, PAID | {"note": value})
