"""Lists below parents: which are read, from where, and what becomes of children."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.errors import AppUnavailable, Fatal
from membrane_sync.ports import Lake
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Batch, Level, Offset, Partition, RawRecord, Report
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.cursor import marking
from membrane_sync.sync.family import consumer_of
from membrane_sync.sync.pull import Mode
from membrane_sync.sync.run import new_report, pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from tests.sync.families import FamilyApp, declared, family_sync
from tests.sync.parts import CURSOR, parties

ACCOUNTS = declared("accounts")
BY_CURSOR = family_sync(ACCOUNTS, declared("projects"))
BY_CHANGE = family_sync(ACCOUNTS, declared("projects", parent={"changed_parents_only": True}))
TASKS = family_sync(
    ACCOUNTS,
    declared("projects", parent={"unique_ids": False}),
    declared("tasks", parent={"unique_ids": False}),
)


def app_of(accounts: int, projects: int = 3, **more: Any) -> FamilyApp:
    app = FamilyApp(**more)
    for number in range(accounts):
        app.put("/accounts", f"a{number}")
        for inner in range(projects):
            app.put(f"/accounts/a{number}/projects", f"p{number}_{inner}", name="first")
    return app


def sync(of: ResolvedSync, app: FamilyApp, lake: Lake, mode: Mode = "incremental") -> Report:
    all_ = parties(FakeApi(app.respond), lake, MemoryDestination())
    report = new_report(of, all_)
    pull_and_store(of, all_, report, mode=mode)
    return report


def held(lake: Lake, stream: str) -> dict[str, dict[str, Any]]:
    """The lake's records that aren't deleted."""
    if isinstance(lake, MemoryLake):
        found = lake.records(stream)
    else:
        assert isinstance(lake, DuckDbLake)
        rows = lake.select(
            f'SELECT _external_id, _payload FROM records."{stream}" WHERE _deleted_at IS NULL'
        ).to_pylist()
        found = {row["_external_id"]: row["_payload"] for row in rows}
    return {i: json.loads(payload) for i, payload in found.items()}


def test_the_lists_below_all_parents_are_read(lake: Lake) -> None:
    app = app_of(4)
    report = sync(BY_CURSOR, app, lake)
    assert held(lake, "projects") == app.below(1)
    assert held(lake, "accounts") == app.below(0)
    assert (report.created, report.pulled) == (12, 12), "parents aren't counted"
    assert report.pages == report.requests


def test_each_parent_has_its_own_cursor(lake: Lake) -> None:
    app = app_of(4, 2)
    sync(BY_CURSOR, app, lake)
    app.put("/accounts/a2/projects", "p2_1", name="second")
    api = FakeApi(app.respond)
    all_ = parties(api, lake, MemoryDestination())
    report = new_report(BY_CURSOR, all_)
    pull_and_store(BY_CURSOR, all_, report)
    assert report.updated == 1
    asked = {c.url: c.query["since"] for c in api.calls if c.query.get("page", 1) == 1}
    newest = {path: max(r["at"] for r in records.values()) for path, records in app.lists.items()}
    later = {path: at for path, at in newest.items() if path != "/accounts/a2/projects"}
    assert later.items() <= asked.items()
    assert held(lake, "projects") == app.below(1)


def test_only_lists_below_changed_parents_are_read_where_a_parent_tells(lake: Lake) -> None:
    app = app_of(5, touches=True)
    sync(BY_CHANGE, app, lake)
    assert held(lake, "projects") == app.below(1)
    app.put("/accounts/a3/projects", "p3_1", name="second")
    app.put("/accounts/a9", "new")
    api = FakeApi(app.respond)
    all_ = parties(api, lake, MemoryDestination())
    pull_and_store(BY_CHANGE, all_, new_report(BY_CHANGE, all_))
    assert {c.url for c in api.calls} == {"/accounts", "/accounts/a3/projects"}
    assert held(lake, "projects") == app.below(1)


@pytest.mark.parametrize("changed_only", [False, True], ids=["by cursor", "by change"])
def test_nothing_new_writes_nothing(changed_only: bool, tmp_path: Path) -> None:
    cursor = {**CURSOR, "inclusive": False, "unique": True}
    drill = {"changed_parents_only": changed_only}
    of = family_sync(
        declared("accounts", cursor=cursor), declared("projects", cursor=cursor, parent=drill)
    )
    app = app_of(5, touches=True, exclusive=True)
    lake = DuckDbLake(tmp_path / "acme.duckdb")
    sync(of, app, lake)
    sync(of, app, lake)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sync(of, app, lake).written == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    lake.close()


@pytest.mark.parametrize("of", [BY_CURSOR, BY_CHANGE], ids=["by cursor", "by change"])
def test_a_new_parent_is_read_whole_and_one_that_comes_back_too(
    of: ResolvedSync, lake: Lake
) -> None:
    app = app_of(3, touches=True)
    app.put("/accounts/late/projects", "old")
    sync(of, app, lake)
    app.put("/accounts", "late")
    sync(of, app, lake)
    assert held(lake, "projects") == app.below(1)
    app.delete("/accounts", "late")
    assert sync(of, app, lake).deleted == 1
    assert held(lake, "projects") == app.below(1)
    app.put("/accounts", "late")
    assert sync(of, app, lake).created == 1
    assert held(lake, "projects") == app.below(1)


def test_children_of_a_deleted_parent_may_be_kept(lake: Lake) -> None:
    of = family_sync(ACCOUNTS, declared("projects", parent={"on_parent_delete": "keep"}))
    app = app_of(3)
    sync(of, app, lake)
    app.delete("/accounts", "a1")
    assert sync(of, app, lake).deleted == 0
    assert len(held(lake, "projects")) == 9


def test_a_child_that_moved_is_not_deleted_with_its_old_parent(lake: Lake) -> None:
    app = app_of(2)
    sync(BY_CURSOR, app, lake)
    app.lists["/accounts/a0/projects"].pop("p0_0")
    app.put("/accounts/a1/projects", "p0_0")
    sync(BY_CURSOR, app, lake)
    app.delete("/accounts", "a0")
    assert sync(BY_CURSOR, app, lake).deleted == 2
    assert held(lake, "projects") == app.below(1)


def test_ids_that_are_unique_below_their_parent_alone(lake: Lake) -> None:
    app = FamilyApp()
    for account in ("a", "b"):
        app.put("/accounts", account)
        for project in ("1", "2"):
            app.put(f"/accounts/{account}/projects", project)
            app.put(f"/accounts/{account}/projects/{project}/tasks", "x", of=account + project)
    sync(TASKS, app, lake)
    assert set(held(lake, "projects")) == {"a/1", "a/2", "b/1", "b/2"}
    assert held(lake, "tasks") == app.below(2, composite=True)
    app.delete("/accounts", "a")
    sync(TASKS, app, lake)
    assert set(held(lake, "tasks")) == {"b/1/x", "b/2/x"}, "it goes down to the grandchildren"


def test_a_full_scan_over_all_lists_finds_what_is_gone(lake: Lake) -> None:
    of = family_sync(ACCOUNTS, declared("projects", deletes={"full_scan": True}))
    app = app_of(3)
    sync(of, app, lake)
    app.delete("/accounts/a1/projects", "p1_0", trace=False)
    assert sync(of, app, lake).deleted == 0
    assert sync(of, app, lake, "full").deleted == 1
    assert held(lake, "projects") == app.below(1)


def test_a_list_without_a_cursor_below_parents_that_tell(lake: Lake) -> None:
    projects = declared("projects", cursor=None, parent={"changed_parents_only": True})
    of = family_sync(ACCOUNTS, projects)
    app = app_of(4, touches=True)
    sync(of, app, lake)
    app.put("/accounts/a2/projects", "p2_0", name="second")
    report = sync(of, app, lake)
    assert (report.updated, report.pulled) == (1, 3)
    assert held(lake, "projects") == app.below(1)


def test_a_parent_that_is_passed_over_is_asked_again(lake: Lake) -> None:
    projects = declared(
        "projects",
        parent={"changed_parents_only": True},
        deletes={"full_scan": True},
    )
    assert projects.list_ is not None
    errors = [{"status": [404], "action": "skip"}]
    method = type(projects.list_).model_validate(
        {**projects.list_.model_dump(exclude_unset=True), "errors": errors}
    )
    of = family_sync(ACCOUNTS, projects.model_copy(update={"list_": method}))
    app = app_of(4, touches=True)
    app.closed.add("/accounts/a1/projects")
    sync(of, app, lake)
    assert set(held(lake, "projects")) == {i for i in app.below(1) if not i.startswith("p1")}
    app.closed.clear()
    sync(of, app, lake)
    assert held(lake, "projects") == app.below(1)
    app.closed.add("/accounts/a1/projects")
    assert sync(of, app, lake, "full").deleted == 0, "who was passed over has lost nothing"


def test_the_parents_own_sync_shares_their_stream(lake: Lake) -> None:
    app = app_of(3, touches=True)
    sync(family_sync(ACCOUNTS), app, lake)
    app.put("/accounts/a1/projects", "p1_9")
    sync(family_sync(ACCOUNTS), app, lake)
    sync(BY_CHANGE, app, lake)
    assert held(lake, "projects") == app.below(1)


def test_a_circle_of_parents_is_refused(lake: Lake) -> None:
    projects = declared("projects", parent={"collection": "projects"})
    with pytest.raises(Fatal, match="below itself"):
        sync(family_sync(projects), FamilyApp(), lake)


@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
@pytest.mark.parametrize("changed_only", [False, True], ids=["by cursor", "by change"])
def test_a_reading_that_was_cut_off_asks_for_no_page_twice(changed_only: bool, full: bool) -> None:
    drill = {"changed_parents_only": changed_only}
    of = family_sync(ACCOUNTS, declared("projects", parent=drill, deletes={"full_scan": True}))
    mode: Mode = "full" if full else "incremental"
    app = app_of(4, 5, touches=True)
    whole = FakeApi(app.respond)
    all_ = parties(whole, MemoryLake(), MemoryDestination())
    pull_and_store(of, all_, new_report(of, all_), mode=mode)
    below = [i for i, call in enumerate(whole.calls) if call.url != "/accounts"]
    for fail_at in range(below[0] + 1, whole.requests + 1):
        api, lake = FakeApi(app.respond, fail_at=fail_at), MemoryLake()
        all_ = parties(api, lake, MemoryDestination())
        with pytest.raises(AppUnavailable):
            pull_and_store(of, all_, new_report(of, all_), mode=mode)
        api.fail_at = None
        pull_and_store(of, all_, new_report(of, all_), mode=mode)
        assert held(lake, "projects") == app.below(1), f"cut off before request {fail_at}"
        went_on = api.calls[fail_at : whole.requests + 1]
        assert [(c.url, c.query) for c in went_on] == [
            (c.url, c.query) for c in whole.calls[fail_at - 1 :]
        ], "and no page twice"


class _Statements:
    """Counts what is asked of a lake's DuckDB."""

    def __init__(self, lake: DuckDbLake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("execute", "rows", "stage"):
            real = getattr(lake._file, name)
            monkeypatch.setattr(lake._file, name, partial(self._counted, real))

    def _counted(self, real: Any, *arguments: Any) -> Any:
        self.count += 1
        return real(*arguments)


def _with_parents(path: Path, count: int) -> tuple[DuckDbLake, FamilyApp]:
    """A lake in which so many accounts, and the lists below them, were read."""
    app, lake = FamilyApp(page_size=100, touches=True), DuckDbLake(path)
    for number in range(count):
        app.put("/accounts", f"a{number:06}")
    records = [RawRecord(i, json.dumps(r)) for i, r in app.lists["/accounts"].items()]
    cursor = BY_CHANGE.names.collection("accounts")
    assert cursor is not None and cursor.list_ is not None and cursor.list_.cursor is not None
    lake.store(Batch("accounts", records, marking(cursor.list_.cursor)(app.now)))
    upto = lake.latest_change("accounts")
    done = [Partition(raw.external_id, done=True, seq=upto) for raw in records]
    lake.store(Batch("projects", (), partitions=done))
    lake.move(Offset(consumer_of(BY_CHANGE.stream), upto, "accounts"))
    return lake, app


def test_the_cost_is_in_proportion_to_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for count in (100, 100_000):
        lake, app = _with_parents(tmp_path / f"{count}.duckdb", count)
        everyone = lake.parents("projects", [Level("accounts", ["id"])], reading="another")
        assert len(everyone) == count
        for number in range(0, 100, 10):
            app.put(f"/accounts/a{number:06}/projects", f"p{number}")
        counted = _Statements(lake, monkeypatch)
        api = FakeApi(app.respond)
        all_ = parties(api, lake, MemoryDestination())
        pull_and_store(BY_CHANGE, all_, new_report(BY_CHANGE, all_))
        below = {call.url for call in api.calls if call.url != "/accounts"}
        assert below == {f"/accounts/a{n:06}/projects" for n in range(0, 100, 10)}
        assert len(held(lake, "projects")) == 10
        costs.append((api.requests, counted.count))
        lake.close()
    assert costs[0] == costs[1], "as much for 100,000 parents as for 100"


def test_many_lists_are_committed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, app = DuckDbLake(tmp_path / "acme.duckdb"), app_of(300, 1)
    commits = []
    real = lake.store
    monkeypatch.setattr(lake, "store", lambda batch: commits.append(batch) or real(batch))
    sync(BY_CURSOR, app, lake)
    assert len(held(lake, "projects")) == 300
    below = [batch for batch in commits if batch.stream == "projects"]
    assert len(below) < 30, "not a transaction for each parent"
    assert len(lake.select("SELECT * FROM partitions WHERE done")) == 300
    lake.close()
