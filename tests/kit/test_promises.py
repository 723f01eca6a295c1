"""What is promised of deletions, custom fields, conditions, ties, ends, and of what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.kit.connector import check_connector
from membrane_sync.kit.recorded import recording, replaying, save
from membrane_sync.project.project import Project
from membrane_sync.testing.simulator import STYLES, Access, Collection, Simulator, running
from membrane_sync.testing.simulator.project import KEY, write_project
from tests.kit.parts import TOKEN, WRITES, checked, collection, target, written

SPECS = {spec.key: spec for spec in STYLES}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root: Path = tmp_path_factory.mktemp("project")
    write_project(root)
    return Project.load(root)


def simulator(*specs: Collection, **more: Any) -> Simulator:
    access = more.pop("access", Access(custom_fields=3))
    given = {"collections": specs} if specs else {}
    made = Simulator(records=130, access=access, **given, **more)
    for key, table in made.tables.items():
        if not table.spec.parent:
            made.delete(key, 4)
    made.settle()
    return made


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(simulator()) as address:
        yield address


def spec(key: str, **switches: Any) -> Collection:
    return Collection.model_validate({**SPECS[key].model_dump(), **switches})


DELETED = {
    "path": "/deleted_endpoint/deleted",
    "query": {"updated_from": {"$var": "$.cursor"}},
    "records": "$.body.items",
    "pagination": {"type": "cursor", "parameter": "after", "next": {"$var": "$.body.next"}},
}
CUSTOM = {"path": "/fields/custom", "records": "$.body.fields", "type": {"$var": "$.type"}}
TIE = {
    "updated_from": None,
    "updated_at": {"$var": "$.tie.value"},
    "sort": "id",
    "after_id": {"$var": "$.tie.after"},
}


def deleted(**changes: Any) -> dict[str, Any]:
    cursor = {"field": "$.deleted_at", "type": "timestamp", "inclusive": True}
    cursor |= {"sorted": "ascending", **changes.pop("cursor", {})}
    return {"deletes": {"endpoint": {**DELETED, "cursor": cursor, **changes}}}


def tied(**query: Any) -> dict[str, Any]:
    return {"pagination": {"tie_break": {"query": {**TIE, **query}}}}


LIES: list[tuple[str, dict[str, Any], str]] = [
    ("deleted_endpoint", deleted(path="/deleted_endpoint/gone"), "deleted list"),
    ("deleted_endpoint", deleted(records="$.body.data"), "deleted list"),
    ("deleted_endpoint", deleted(id="$.uid"), "deleted id"),
    ("deleted_endpoint", deleted(id="$.deleted_at"), "deleted id"),
    ("deleted_endpoint", deleted(path="/deleted_endpoint", cursor={}), "deleted id"),
    ("deleted_endpoint", deleted(cursor={"field": "$.updated_at"}), "deleted cursor field"),
    ("deleted_endpoint", deleted(cursor={"type": "integer"}), "deleted cursor field"),
    ("deleted_endpoint", deleted(query={}), "deleted filter inclusive"),
    ("custom", {"custom_fields": {**CUSTOM, "path": "/fields"}}, "custom fields"),
    ("custom", {"custom_fields": {**CUSTOM, "records": "$.body"}}, "custom fields"),
    ("custom", {"custom_fields": {**CUSTOM, "name": {"$var": "$.key"}}}, "custom fields"),
    ("custom", {"custom_fields": {**CUSTOM, "name": {"$var": "$.label"}}}, "custom fields"),
    ("custom", {"custom_fields": {**CUSTOM, "inside": "$.custom"}}, "custom fields"),
    ("custom", {"custom_fields": {**CUSTOM, "inside": "$.address"}}, "custom fields"),
    (
        "custom",
        {"custom_fields": {**CUSTOM, "types": {"string": {"type": "integer"}}}},
        "custom fields",
    ),
    ("custom", {"custom_fields": {**CUSTOM, "type": {"$var": "$.kind"}}}, "custom field types"),
    ("by_page", {"list": {"conditional": True}}, "conditional"),
    ("capped", tied(updated_at=None, after_id={"$var": "$.tie.value"}), "tie_break"),
    ("capped", tied(updated_at={"$concat": [{"$var": "$.tie.value"}, "x"]}), "tie_break"),
    ("capped", tied(after_id=None, unused={"$var": "$.tie.after"}), "tie_break"),
    ("capped", tied(sort="-updated_at"), "tie_break"),
    ("by_page", {"pagination": {"has_more": {"$var": "$.body.more"}}}, "end of the list"),
    ("by_body", {"pagination": {"has_more": {"$var": "$.body.more"}}}, "end of the list"),
    (
        "by_offset",
        {"pagination": {"has_more": None, "total_records": 100}},
        "end of the list",
    ),
    (
        "by_page",
        {"pagination": {"has_more": None, "total_pages": 1}},
        "end of the list",
    ),
]


@pytest.mark.parametrize(
    ("key", "changes", "promise"), LIES, ids=[f"{k}-{p}-{i}" for i, (k, _, p) in enumerate(LIES)]
)
def test_a_lie_is_found(
    key: str, changes: dict[str, Any], promise: str, project: Project, url: str
) -> None:
    finding = checked(project, url, collection(project, key, **changes))[promise]
    assert finding.verdict == "failed", finding
    assert finding.seen and finding.advice


HONEST = {
    "deleted_endpoint": ("deleted list", "deleted id", "deleted filter inclusive"),
    "custom": ("custom fields", "custom field types"),
    "conditional": ("conditional", "end of the list"),
    "capped": ("tie_break", "end of the list"),
    "by_offset": ("end of the list",),
}


@pytest.mark.parametrize("key", sorted(HONEST))
def test_the_honest_declaration_holds(key: str, project: Project, url: str) -> None:
    found = checked(project, url, collection(project, key))
    assert {found[promise].verdict for promise in HONEST[key]} == {"ok"}


@pytest.mark.parametrize("fault", ["stuck", "deaf"])
def test_an_etag_that_says_nothing_is_found(fault: str, project: Project) -> None:
    with running(simulator(spec("conditional", etag_fault=fault))) as url:
        found = checked(project, url, collection(project, "conditional"))
    assert found["conditional"].verdict == "failed"


@pytest.mark.parametrize(("null_order", "verdict"), [("first", "failed"), ("last", "ok")])
def test_records_without_a_value_must_come_first_where_reading_stops(
    null_order: str, verdict: str, project: Project
) -> None:
    """The newest are first; ascending, those without a value would be where they aren't here."""
    with running(simulator(spec("descending", nulls=5, null_order=null_order))) as url:
        found = checked(project, url, collection(project, "descending"))
    assert found["nulls include"].verdict == verdict


def test_what_is_not_there_is_not_provable(project: Project) -> None:
    specs = [spec("capped", per_moment=1), spec("deleted_endpoint"), spec("custom")]
    app = Simulator(records=30, collections=specs, access=Access())
    with running(app) as url:
        for key, promise in (
            ("capped", "tie_break"),
            ("deleted_endpoint", "deleted id"),
            ("custom", "custom fields"),
        ):
            found = checked(project, url, collection(project, key))
            assert found[promise].verdict == "not_provable", found[promise]


SEEN = ("create", "create is seen", "update", "update is seen", "delete")


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("contacts", ("delete is seen",)),
        ("deleted_endpoint", ("deleted list has it",)),
        ("by_page", ("full_scan lacks it",)),
        ("exclusive", ()),
        ("by_second", ()),
        ("descending", ("full_scan lacks it",)),
        ("unsorted", ("full_scan lacks it",)),
        ("unfiltered", ("full_scan lacks it",)),
        ("delta", ("delete is seen",)),
        ("at_once", ("full_scan lacks it",)),
        ("windowed", ()),
        (
            "conditional",
            tuple(f"conditional sees what is {w}" for w in ("created", "changed", "deleted")),
        ),
    ],
)
def test_what_is_written_is_seen_by_the_next_sync(
    key: str, more: tuple[str, ...], project: Project
) -> None:
    # Windows end now, so there the app's clock must be ours.
    app = simulator(spec(key), live=key == "windowed")
    before = app.truth(key)
    with running(app) as url:
        found = checked(project, url, written(project, key), write=True, sleep=app.tick)
    promises = (*SEEN, *more)
    assert {name: found[name].verdict for name in promises} == dict.fromkeys(promises, "ok")
    assert app.truth(key) == before


LISTED_BY_PAGES = {"type": "page", "parameter": "page", "has_more": {"$var": "$.body.has_more"}}
WRITE_LIES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("contacts", {"hidden_tombstones": True}, {}, "delete is seen"),
    ("contacts", {"deletes": "silent"}, {}, "delete is seen"),
    (
        "contacts",
        {"hidden_tombstones": True},
        {"deletes": {"tombstone": {"$var": "$.deleted"}, "full_scan": True}},
        "delete is seen",
    ),
    ("contacts", {}, {"deletes": {"full_scan": True}}, "full_scan lacks it"),
    ("deleted_endpoint", {}, deleted(id="$.deleted_at"), "deleted list has it"),
    ("contacts", {"silent_edits": True}, {}, "update is seen"),
    ("exclusive", {"silent_edits": True}, {}, "update is seen"),
    ("contacts", {}, {"cursor": {"field": "$.created_at"}}, "update is seen"),
    ("nulls_first", {}, {"cursor": {"field": "$.gone"}}, "cursor field"),
    ("contacts", {}, {"list": {"path": "/silent"}}, "create is seen"),
    (
        "conditional",
        {"page_size": 10, "max_page_size": 10},
        {
            "list": {
                "path": "/conditional",
                "records": "$.body.items",
                "query": {},
                "cursor": {},
                "conditional": "first_page",
                "pagination": LISTED_BY_PAGES,
            }
        },
        "conditional sees what is changed",
    ),
]


@pytest.mark.parametrize(
    ("key", "switches", "changes", "promise"),
    WRITE_LIES,
    ids=[f"{k}-{p}-{i}" for i, (k, _, _, p) in enumerate(WRITE_LIES)],
)
def test_a_lie_about_what_is_written_is_found(
    key: str, switches: dict[str, Any], changes: dict[str, Any], promise: str, project: Project
) -> None:
    app = simulator(spec(key, **switches), spec("silent"))
    before = app.truth(key)
    with running(app) as url:
        found = checked(project, url, written(project, key, **changes), write=True, pages=20)
    assert found[promise].verdict == "failed", found
    assert app.truth(key) == before, "whatever fails, the record is deleted again"


def test_a_record_that_was_there_is_never_taken_for_the_created_one(project: Project) -> None:
    """As where the id goes along, and the app answers the record that has it."""
    app = simulator(spec("contacts"))
    before = app.truth("contacts")
    there = sorted(before)[0]
    create = {**WRITES["create"], "path": "/contacts", "response": there}
    declared = written(project, "contacts", create=create)
    with running(app) as url:
        found = checked(project, url, declared, write=True)
    assert found["create"].verdict == "failed" and there in found["create"].seen
    assert {i: r for i, r in app.truth("contacts").items() if i in before} == before


def test_a_clock_that_counts_in_seconds_is_given_time(project: Project) -> None:
    """A change right after the creation may have no time of its own."""
    app = simulator(spec("by_second", step_ms=1))
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        app.tick(seconds)

    with running(app) as url:
        found = checked(project, url, written(project, "by_second"), write=True, sleep=wait)
    assert found["update is seen"].verdict == "ok"
    assert waited


def test_an_app_that_takes_a_moment_is_waited_for(project: Project) -> None:
    app = simulator(spec("late", late_seconds=2))
    with running(app) as url:
        found = checked(project, url, written(project, "late"), write=True, sleep=app.tick)
    assert {found[p].verdict for p in ("create is seen", "delete is seen")} == {"ok"}


def test_a_check_with_deletions_and_conditions_is_played_back(
    project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "simulator.json"
    keys = ("deleted_endpoint", "custom", "conditional", "capped", "windowed")
    collections = [written(project, key) for key in keys]
    with running(simulator(live=True)) as url:
        made, recorder = recording(target(project, url, *collections, write=True))
        live = check_connector(made)
        save(made, recorder, file)
    assert TOKEN not in file.read_text()
    assert check_connector(replaying(file, project.connector(KEY), collections, {})) == live


def test_lists_by_functions_are_checked(project: Project, url: str) -> None:
    def contacts(scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
        after = None
        while True:
            since = scope.get("cursor")
            query = {"updated_from": since, "after": after}
            given = {name: value for name, value in query.items() if value is not None}
            found = yield {"path": "/contacts", "query": given}
            after = found.body["next"]
            if after is None:
                return

    def one(scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
        found = yield {"path": f"/contacts/{scope['id']}"}
        return found.body

    declared = collection(
        project,
        "contacts",
        list={"path": None, "query": {}, "function": "contacts", "pagination": {"type": "none"}},
        find_by_id={"function": "one"},
    )
    functions = {"contacts": contacts, "one": one}
    found = checked(project, url, declared, functions=functions)
    assert {found[p].verdict for p in ("list", "id", "cursor field", "filter inclusive")} == {"ok"}
    assert found["find_by_id"].verdict == "ok"
