"""The kit against the simulator: true declarations hold, and each lie is found by its promise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import Fatal, NotAuthorized
from membrane_sync.kit.connector import check_connector
from membrane_sync.kit.findings import Finding
from membrane_sync.kit.recorded import recording, replaying, save
from membrane_sync.project.project import Project
from membrane_sync.testing.simulator import STYLES, Access, Collection, Faults, Simulator, running
from membrane_sync.testing.simulator.project import KEY, write_project
from tests.kit.parts import TOKEN, collection, target


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root: Path = tmp_path_factory.mktemp("project")
    write_project(root)
    return Project.load(root)


def verdicts(found: list[Finding]) -> dict[str, str]:
    return {finding.promise: finding.verdict for finding in found}


def simulator(**more: Any) -> Simulator:
    made = Simulator(records=260, **more)
    for key, table in made.tables.items():
        if not table.spec.parent:
            made.delete(key, 4)
    made.settle()
    return made


@pytest.fixture(scope="module")
def url():
    with running(simulator()) as address:
        yield address


def test_the_packaged_connector_keeps_its_promises(project: Project, url: str) -> None:
    everything = [collection_of(project, spec.key) for spec in STYLES]
    found = check_connector(target(project, url, *everything))
    failed = {(f.collection, f.promise): f.seen for f in found if f.verdict == "failed"}
    # This one is declared with a page size that it doesn't keep, for people to see.
    assert list(failed) == [("clamped", "page size")]
    assert {f.collection for f in found} == {"", *(spec.key for spec in STYLES)}


def test_lists_below_a_parent_are_read_below_one_that_has_some(project: Project, url: str) -> None:
    notes = collection_of(project, "notes")
    above = {"every": [collection_of(project, "accounts")]}
    found = check_connector(target(project, url, notes, **above))
    assert verdicts([f for f in found if f.collection == "notes"])["list"] == "ok"
    without = check_connector(target(project, url, notes))
    assert verdicts([f for f in without if f.collection == "notes"]) == {"list": "not_provable"}


def collection_of(project: Project, key: str) -> DataCollection:
    return project.get(DataCollection, key, integration=KEY)


LIES: list[tuple[str, dict[str, Any], str]] = [
    ("contacts", {"id": "$.uid"}, "id"),
    ("contacts", {"id": "$.city"}, "id"),
    ("contacts", {"list": {"records": "$.body.data"}}, "list"),
    ("contacts", {"list": {"path": "/contakts"}}, "list"),
    ("by_page", {"pagination": {"parameter": "p"}}, "list"),
    ("clamped", {}, "page size"),
    ("by_page", {"pagination": {"page_size_parameter": "size", "page_size": 50}}, "page size"),
    ("by_page", {"pagination": {"total_records": {"$var": "$.body.pages"}}}, "total_records"),
    ("by_page", {"pagination": {"total_records": {"$var": "$.body.none"}}}, "total_records"),
    ("by_page", {"pagination": {"total_pages": {"$var": "$.body.total"}}}, "total_pages"),
    ("contacts", {"cursor": {"field": "$.changed"}}, "cursor field"),
    ("delta", {"cursor": {"delta_token": {"$var": "$.body.token"}}}, "list"),
    ("delta", {"list": {"query": {}}}, "delta token"),
    ("contacts", {"cursor": {"type": "integer"}}, "cursor field"),
    ("unsorted", {"cursor": {"sorted": "ascending"}}, "sorted ascending"),
    ("contacts", {"cursor": {"sorted": "descending"}}, "sorted descending"),
    ("nulls_first", {"cursor": {"nulls": "fail"}}, "nulls fail"),
    ("nulls_last", {"cursor": {"nulls": "include"}}, "nulls include"),
    ("tied", {"cursor": {"unique": True}}, "unique"),
    ("contacts", {"cursor": {"inclusive": False, "unique": True}}, "filter exclusive"),
    ("exclusive", {"cursor": {"inclusive": True, "unique": False}}, "filter inclusive"),
    ("contacts", {"list": {"query": {}}}, "filter inclusive"),
    (
        "contacts",
        {"list": {"query": {"updated_from": {"$concat": [{"$var": "$.cursor"}] * 2}}}},
        "filter inclusive",
    ),
    ("contacts", {"deletes": {"tombstone": {"$var": "$.id"}}}, "tombstone"),
    ("contacts", {"find_by_id": {"path": "/me"}}, "find_by_id"),
    ("contacts", {"find_by_id": {"path": "/nothing"}}, "find_by_id"),
    ("contacts", {"match": {"path": "/me", "fields": ["email"]}}, "match"),
    ("contacts", {"fields_schema": {"properties": {"score": {"type": "string"}}}}, "fields"),
]


@pytest.mark.parametrize(
    ("key", "changes", "promise"), LIES, ids=[f"{k}-{p}-{i}" for i, (k, _, p) in enumerate(LIES)]
)
def test_a_lie_is_found(
    key: str, changes: dict[str, Any], promise: str, project: Project, url: str
) -> None:
    lying = collection(project, key, **changes)
    found = check_connector(target(project, url, lying))
    finding = next(f for f in found if f.promise == promise)
    assert finding.verdict == "failed", finding
    assert finding.seen and finding.advice
    honest = collection(project, key)
    if key != "clamped":
        again = verdicts(check_connector(target(project, url, honest)))
        assert again.get(promise, "ok") != "failed", "the honest declaration passes"


@pytest.mark.parametrize(
    ("key", "pages", "promise"),
    [("contacts", 1, "filter is whole"), ("by_page", 1, "full_scan")],
)
def test_what_is_not_read_is_not_proved(
    key: str, pages: int, promise: str, project: Project, url: str
) -> None:
    made = target(project, url, collection(project, key), pages=pages)
    assert verdicts(check_connector(made)).get(promise) in (None, "not_provable")


def test_reading_is_bounded(project: Project) -> None:
    served = simulator()
    with running(served) as url:
        check_connector(target(project, url, collection(project, "by_link"), pages=2))
    lists = [entry for entry in served.log.entries if entry.path == "/by_link"]
    assert len(lists) == 2 + 1 + 2
    assert {entry.method for entry in served.log.entries} == {"GET"}


def test_ids_that_come_twice_are_found(project: Project) -> None:
    with running(simulator(faults=Faults(duplicate=1))) as url:
        found = check_connector(target(project, url, collection(project, "by_offset")))
    assert verdicts(found)["id"] == "failed"


def test_wrong_totals_are_found(project: Project) -> None:
    spec = Collection(key="by_page", pagination="page", total="wrong")
    counted = {"total_records": {"$var": "$.body.total"}}
    with running(simulator(collections=[spec])) as url:
        found = check_connector(
            target(project, url, collection(project, "by_page", pagination=counted))
        )
    assert verdicts(found)["total_records"] == "failed"


def test_an_empty_list_proves_nothing(project: Project) -> None:
    with running(Simulator(collections=[Collection(key="by_page", records=0)])) as url:
        found = check_connector(target(project, url, collection(project, "by_page")))
    assert verdicts(found)["pages, ids, fields"] == "not_provable"


def test_credentials_that_are_refused_stop_the_check(project: Project, url: str) -> None:
    with pytest.raises(NotAuthorized):
        check_connector(target(project, url, token="wrong"))


def test_a_test_that_anybody_passes_is_found(project: Project) -> None:
    with running(Simulator(records=5, access=Access(kind="none"))) as url:
        assert verdicts(check_connector(target(project, url)))["test refuses others"] == "failed"


def test_rate_limit_headers_are_named(project: Project) -> None:
    from membrane_sync.testing.simulator import Limits, Quota

    limits = Limits(quotas=(Quota(requests=500, per_seconds=1),), dialect="ietf")
    with running(simulator(limits=limits)) as url:
        found = check_connector(target(project, url, collection(project, "at_once", list={})))
    seen = next(f.seen for f in found if f.promise == "rate limit headers")
    assert "ratelimit-remaining: " in seen


def test_writing_creates_changes_deletes_and_leaves_nothing(project: Project) -> None:
    served = simulator()
    before = served.truth("contacts")
    with running(served) as url:
        made = target(project, url, collection_of(project, "contacts"), write=True)
        found = verdicts(check_connector(made))
    assert [found[name] for name in ("create", "update", "delete")] == ["ok"] * 3
    assert served.truth("contacts") == before
    assert {"POST", "PATCH", "DELETE"} <= {entry.method for entry in served.log.entries}


WRITE_LIES: list[tuple[dict[str, Any], str]] = [
    ({"create": {"response": {"$var": "$.body.uid"}}}, "create"),
    ({"update": {"method": "GET"}}, "update"),
    ({"delete": {"method": "GET"}}, "delete"),
    ({"delete": {"method": "GET"}}, "cleaning up"),
]


@pytest.mark.parametrize(("changes", "promise"), WRITE_LIES, ids=lambda value: str(value)[:40])
def test_a_lie_about_writing_is_found(
    changes: dict[str, Mapping[str, Any]], promise: str, project: Project
) -> None:
    declared = collection_of(project, "contacts").model_dump(
        mode="json", by_alias=False, exclude_unset=True
    )
    declared["list"] = declared.pop("list_")
    for name, change in changes.items():
        declared[name] = {**declared[name], **change}
    with running(simulator()) as url:
        made = target(project, url, DataCollection.model_validate(declared), write=True)
        assert verdicts(check_connector(made))[promise] == "failed"


def test_what_cannot_be_deleted_is_said(project: Project) -> None:
    without = collection_of(project, "contacts").model_copy(update={"delete": None})
    with running(simulator()) as url:
        found = check_connector(target(project, url, without, write=True))
    finding = next(f for f in found if f.promise == "cleaning up")
    assert finding.verdict == "failed" and "contacts-" in finding.advice


def test_a_check_is_recorded_and_played_back_without_the_app(
    project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "simulator.json"
    collections = [collection_of(project, key) for key in ("contacts", "by_link", "by_next_url")]
    with running(simulator()) as url:
        made, recorder = recording(target(project, url, *collections, write=True))
        live = check_connector(made)
        save(made, recorder, file)
    text = file.read_text()
    assert TOKEN not in text and TOKEN[::-1] not in text
    connector: Connector = project.connector(KEY)
    played = check_connector(replaying(file, connector, collections, {}))
    assert played == live


def test_a_declaration_that_asks_for_something_else_fails_in_a_replay(
    project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "simulator.json"
    with running(simulator()) as url:
        made, recorder = recording(target(project, url, collection(project, "by_page")))
        check_connector(made)
        save(made, recorder, file)
    changed = collection(project, "by_page", pagination={"parameter": "p"})
    found = check_connector(replaying(file, project.connector(KEY), [changed], {}))
    finding = next(f for f in found if f.promise == "list")
    assert finding.verdict == "failed" and "no further answer" in finding.seen


def test_a_recording_of_another_connector_is_refused(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "simulator.json"
    with running(simulator()) as url:
        made, recorder = recording(target(project, url))
        check_connector(made)
        save(made, recorder, file)
    other = project.connector(KEY).model_copy(update={"key": "other"})
    with pytest.raises(Fatal, match="recorded for connector 'simulator'"):
        replaying(file, other, [], {})


def test_a_client_may_open_again_what_another_has_closed(project: Project) -> None:
    """The check with wrong credentials closes its client; the recorder goes on."""
    with running(simulator()) as url:
        made, recorder = recording(target(project, url))
        for _ in range(2):
            api = made.open_api(made.connection)
            assert isinstance(api, HttpApi)
            check_connector(made)
            api.close()
    assert len(recorder.exchanges) == 4
