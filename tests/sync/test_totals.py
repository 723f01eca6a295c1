"""A full scan that saw fewer records than the app says it has deletes nothing, and scans again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from membrane_sync.errors import IncompleteScan
from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call, Report
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, answer
from tests.sync.families import FamilyApp, declared, family_sync
from tests.sync.parts import PAGES, App, collection, parties, resolved

TOLD = {**PAGES, "total_records": {"$var": "$.body.total"}}
BY_PAGE: tuple[Any, Any] = (TOLD, None)
FROM_THE_CURSOR: tuple[Any, Any] = (TOLD, {})


def scanned(pagination: Any, cursor: Any, **deletes: Any) -> ResolvedSync:
    """A sync whose full scans believe the app's total."""
    said = {"full_scan": True, "exact_total": True, "max_share": 1, **deletes}
    return resolved(collection(pagination, cursor, deletes=said))


def app_of(records: int) -> App:
    app = App(page_size=3, tombstones=False)
    for number in range(records):
        app.put(f"p{number}")
    return app


def sync(of: ResolvedSync, respond: Any, lake: Lake) -> Report:
    all_ = parties(FakeApi(respond), lake, MemoryDestination())
    report = new_report(of, all_)
    pull_and_store(of, all_, report, mode="full")
    return report


def alive(lake: Lake, stream: str = "contacts") -> set[str]:
    found = {c.external_id: c.kind for c in lake.changes(stream, 0, 10_000)}
    return {external_id for external_id, kind in found.items() if kind != "deleted"}


def hiding(app: App, *hidden: str) -> Any:
    """The app's answers without some records, which its totals still count."""

    def respond(call: Call) -> Answer:
        shown = replace(app, records={i: r for i, r in app.records.items() if i not in hidden})
        given = shown.respond(call)
        given.body["total"] += len(hidden)
        return given

    return respond


@pytest.mark.parametrize("how", [BY_PAGE, FROM_THE_CURSOR], ids=["by page", "from the cursor"])
def test_a_scan_that_was_not_shown_everything_deletes_nothing(how: Any, lake: Lake) -> None:
    app, of = app_of(8), scanned(*how)
    sync(of, app.respond, lake)
    with pytest.raises(IncompleteScan, match="saw 7 of the 8 records"):
        sync(of, hiding(app, "p4"), lake)
    assert alive(lake) == set(app.records)


def test_the_next_sync_reads_all_of_it_again(lake: Lake) -> None:
    app, of = app_of(8), scanned(*BY_PAGE)
    sync(of, app.respond, lake)
    with pytest.raises(IncompleteScan):
        sync(of, hiding(app, "p4"), lake)
    app.delete("p2")
    report = sync(of, app.respond, lake)
    assert (report.deleted, report.pages) == (1, 3), "and not by the pages that were kept"
    assert alive(lake) == set(app.alive())


def test_totals_are_not_believed_unless_that_is_declared(lake: Lake) -> None:
    app, of = app_of(8), scanned(*BY_PAGE, exact_total=False)
    sync(of, app.respond, lake)
    assert sync(of, hiding(app, "p4"), lake).deleted == 1


def test_of_a_total_that_falls_while_it_is_read_the_least_counts(lake: Lake) -> None:
    app, of = app_of(8), scanned(*BY_PAGE)
    asked = 0

    def respond(call: Call) -> Answer:
        nonlocal asked
        asked += 1
        if asked == 2:
            app.delete("p7")
        return app.respond(call)

    assert sync(of, respond, lake).created == 7
    assert alive(lake) == set(app.alive())


def test_totals_of_what_is_left_do_not_weaken_the_proof(lake: Lake) -> None:
    """Asked for from its last record on, the list tells fewer and fewer."""
    app = app_of(8)
    keyset = {"type": "keyset", "parameter": "after", "total_records": {"$var": "$.body.total"}}
    of = scanned(keyset, None)

    def respond(call: Call, hidden: str = "") -> Answer:
        after = call.query.get("after", "")
        left = {i: r for i, r in app.records.items() if i > after}
        shown = {i: r for i, r in left.items() if i != hidden}
        given = replace(app, records=shown).respond(replace(call, query={}))
        given.body["total"] = len(left)
        return given

    assert sync(of, respond, lake).created == 8
    with pytest.raises(IncompleteScan, match="saw 7 of the 8 records"):
        sync(of, lambda call: respond(call, "p1"), lake)


def test_below_parents_the_totals_of_all_lists_count(lake: Lake) -> None:
    told = declared(
        "projects", cursor=None, deletes={"full_scan": True, "exact_total": True, "max_share": 1}
    )
    assert told.list_ is not None
    pagination = told.list_.pagination.model_copy(update={"total_records": {"$var": "$.body.all"}})
    method = told.list_.model_copy(update={"pagination": pagination})
    of = family_sync(declared("accounts"), told.model_copy(update={"list_": method}))
    app, hidden = FamilyApp(), set[str]()
    for account in "abc":
        app.put("/accounts", account)
        for number in range(3):
            app.put(f"/accounts/{account}/projects", f"{account}{number}")

    def respond(call: Call) -> Answer:
        given = app.respond(call)
        given.body["all"] = len(app.lists[call.url])
        given.body["data"] = [r for r in given.body["data"] if r["id"] not in hidden]
        return given

    report = sync(of, respond, lake)
    assert report.created == 9
    assert report.total == 0, "one list's total isn't that of all, as an ETA needs it"
    hidden.add("b1")
    with pytest.raises(IncompleteScan, match="saw 8 of the 9 records"):
        sync(of, respond, lake)
    hidden.clear()
    app.delete("/accounts/c/projects", "c2", trace=False)
    assert sync(of, respond, lake).deleted == 1
    assert alive(lake, "projects") == set(app.below(1))


def test_the_report_has_the_total_that_the_list_tells(lake: Lake) -> None:
    app = app_of(8)
    report = sync(resolved(collection(TOLD, {})), app.respond, lake)
    assert (report.total, report.pulled) == (8, 8)
    assert sync(resolved(collection(PAGES, {})), app.respond, lake).total == 0, "nobody said it"


def test_how_many_were_deleted_is_no_total_of_the_list(lake: Lake) -> None:
    app = app_of(3)
    gone = {"path": "/gone", "records": "$.body.data", "pagination": TOLD}
    of = resolved(collection(TOLD, {}, deletes={"endpoint": gone}))

    def respond(call: Call) -> Answer:
        return app.respond(call) if call.url == "/contacts" else answer({"data": [], "total": 900})

    assert sync(of, respond, lake).total == 3
