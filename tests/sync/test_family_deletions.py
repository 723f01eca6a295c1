"""Lists of deleted records below parents, and one for the children of all parents."""

from __future__ import annotations

from typing import Any

import pytest

from membrane_sync.errors import AppUnavailable
from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call, Report
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, answer
from tests.sync.families import FamilyApp, declared, family_sync
from tests.sync.parts import parties

GONE_AT = {"field": "$.when", "type": "integer", "inclusive": True, "sorted": "ascending"}
BELOW = {
    "path": "/accounts/{account}/deleted",
    "path_parameters": {"account": {"$var": "$.parent.id"}},
    "query": {"since": {"$var": "$.cursor"}},
    "records": "$.body.items",
    "id": "$.ref",
    "cursor": GONE_AT,
}
FOR_ALL = {**BELOW, "path": "/deleted", "path_parameters": {}}


class Bin(FamilyApp):
    """An app that lists what was deleted apart: of each account, and of all."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.gone: dict[str, list[dict[str, Any]]] = {}

    def drop(self, account: str, project: str) -> None:
        self.delete(f"/accounts/{account}/projects", project, trace=False)
        self.gone.setdefault(account, []).append({"ref": project, "when": self.now})

    def respond(self, call: Call) -> Answer:
        if not call.url.endswith("/deleted"):
            return super().respond(call)
        account = call.url.removesuffix("/deleted").removeprefix("/accounts/")
        found = [e for key, list_ in self.gone.items() if account in ("", key) for e in list_]
        since = call.query.get("since", 0)
        return answer({"items": [entry for entry in found if entry["when"] >= since]})


def of(endpoint: dict[str, Any], **parent: Any) -> ResolvedSync:
    return family_sync(
        declared("accounts"),
        declared("projects", parent=parent, deletes={"endpoint": endpoint}),
    )


def app_of(accounts: str, **more: Any) -> Bin:
    app = Bin(touches=True, **more)
    for account in accounts:
        app.put("/accounts", account)
        for number in range(3):
            app.put(f"/accounts/{account}/projects", f"{account}{number}")
    return app


def sync(of: ResolvedSync, api: FakeApi, lake: Lake) -> Report:
    all_ = parties(api, lake, MemoryDestination())
    report = new_report(of, all_)
    pull_and_store(of, all_, report)
    return report


def alive(lake: Lake) -> set[str]:
    found = {c.external_id: c.kind for c in lake.changes("projects", 0, 10_000)}
    return {external_id for external_id, kind in found.items() if kind != "deleted"}


@pytest.mark.parametrize("endpoint", [BELOW, FOR_ALL], ids=["below each", "for all"])
def test_what_the_app_lists_as_deleted_is_deleted(endpoint: dict[str, Any], lake: Lake) -> None:
    app, read = app_of("abc"), of(endpoint)
    api = FakeApi(app.respond)
    sync(read, api, lake)
    app.drop("b", "b1")
    app.drop("c", "c0")
    assert sync(read, api, lake).deleted == 2
    assert alive(lake) == set(app.below(1))
    assert sync(read, api, lake).written == 0


def test_one_that_is_there_again_stays_though_its_deletion_is_told_again(lake: Lake) -> None:
    app, read = app_of("ab"), of(BELOW)
    api = FakeApi(app.respond)
    sync(read, api, lake)
    app.drop("b", "b1")
    sync(read, api, lake)
    app.put("/accounts/b/projects", "b1", name="back")
    assert sync(read, api, lake).created == 1
    assert sync(read, api, lake).deleted == 0
    assert alive(lake) == set(app.below(1))


def test_ids_that_are_unique_below_their_parent_alone(lake: Lake) -> None:
    app, read = Bin(), of(BELOW, unique_ids=False)
    for account in "ab":
        app.put("/accounts", account)
        for project in ("1", "2"):
            app.put(f"/accounts/{account}/projects", project)
    api = FakeApi(app.respond)
    sync(read, api, lake)
    app.drop("a", "1")
    assert sync(read, api, lake).deleted == 1
    assert alive(lake) == {"a/2", "b/1", "b/2"}


def test_only_below_parents_that_changed_where_a_parent_tells(lake: Lake) -> None:
    app, read = app_of("abcd"), of(BELOW, changed_parents_only=True)
    sync(read, FakeApi(app.respond), lake)
    app.drop("c", "c2")
    api = FakeApi(app.respond)
    assert sync(read, api, lake).deleted == 1
    asked = [call.url for call in api.calls if call.url != "/accounts"]
    assert asked == ["/accounts/c/deleted", "/accounts/c/projects"]
    assert alive(lake) == set(app.below(1))


def test_each_parent_is_asked_from_its_own_cursor_and_parents_are_read_once(lake: Lake) -> None:
    app, read = app_of("ab"), of(BELOW)
    sync(read, FakeApi(app.respond), lake)
    app.drop("b", "b1")
    sync(read, FakeApi(app.respond), lake)
    api = FakeApi(app.respond)
    sync(read, api, lake)
    since = {c.url: c.query.get("since") for c in api.calls if c.url.endswith("/deleted")}
    assert since == {"/accounts/a/deleted": None, "/accounts/b/deleted": app.now}
    alone = FakeApi(app.respond)
    sync(family_sync(declared("accounts")), alone, lake)
    above = [call for call in api.calls if call.url == "/accounts"]
    assert len(above) == alone.requests, "not once more for the deletions"


def test_cut_off_anywhere_it_comes_to_the_truth(lake: Lake) -> None:
    app, read = app_of("abc", page_size=2), of(BELOW)
    sync(read, FakeApi(app.respond), lake)
    whole = FakeApi(app.respond)
    sync(read, whole, lake)
    for fail_at in range(1, whole.requests + 1):
        gone = sorted(app.below(1))[-1]
        app.drop(gone[0], gone)
        app.put("/accounts/b/projects", f"b-new{fail_at}")
        with pytest.raises(AppUnavailable):
            sync(read, FakeApi(app.respond, fail_at=fail_at), lake)
        # One reads what was cut off to its end, one what has changed since.
        sync(read, FakeApi(app.respond), lake)
        sync(read, FakeApi(app.respond), lake)
        assert alive(lake) == set(app.below(1)), f"cut off at request {fail_at}"
