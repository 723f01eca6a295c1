"""Custom fields: asked of the app once in a while, kept in the lake, and columns of their types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from membrane_sync.calls import MOST_CALLS
from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.custom_fields import CustomFields
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import AppUnavailable, Fatal, MembraneError, UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call, Report
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.sync.custom_fields import CUSTOM_FIELDS, custom_fields, with_fields
from membrane_sync.sync.run import pull_and_store
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake, answer
from membrane_sync.testing.simulator import Access, Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.sync.parts import parties, resolved

TYPES = {"text": {"type": "string"}, "day": {"type": "string", "format": "date"}}
ASKED = {
    "path": "/fields",
    "records": "$.body.fields",
    "name": {"$var": "$.key"},
    "label": {"$var": "$.label"},
    "type": {"$var": "$.kind"},
    "types": TYPES,
}


def collection(custom: Mapping[str, Any] | None = None, **more: Any) -> DataCollection:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}}
    return DataCollection.model_validate(
        {
            "key": "contacts",
            "list": {"path": "/contacts", "records": "$.body.data"},
            "custom_fields": {**ASKED, **(custom or {})},
            "fields_schema": schema,
            **more,
        }
    )


class App:
    """Contacts with fields of the account's own; `fail` raises when it's asked for those."""

    def __init__(self, *fields: dict[str, Any]) -> None:
        self.fields = list(fields)
        self.records: list[dict[str, Any]] = []
        self.fail: Exception | None = None
        self.asked = 0

    def respond(self, call: Call) -> Answer:
        if call.url == "/contacts":
            return answer({"data": self.records})
        self.asked += 1
        if self.fail is not None:
            raise self.fail
        return answer({"fields": self.fields})


def learnt(spec: Mapping[str, Any], respond: Any, functions: Any = None) -> dict[str, Any]:
    of = collection(spec)
    assert of.custom_fields is not None
    scope = {"input": {}, "parameters": {"kind": "people"}}
    return custom_fields(of, of.custom_fields, FakeApi(respond), scope, functions or {})


def sync(of: ResolvedSync | DataCollection, app: App, lake: Any, mode: Any = "incremental") -> Any:
    report = Report()
    made = resolved(of) if isinstance(of, DataCollection) else of
    pull_and_store(
        made,
        parties(FakeApi(app.respond), lake, MemoryDestination()),
        report,
        mode=mode,
    )
    return report


def test_definitions_become_schemas() -> None:
    app = App(
        {"key": "born", "kind": "day", "label": "Born on"},
        {"key": 17, "kind": "number", "label": ""},
        {"key": "color", "kind": "picklist"},
        {"key": None, "kind": "text"},
    )
    assert learnt({}, app.respond) == {
        "born": {"type": "string", "format": "date", "title": "Born on"},
        "17": {"type": "number"},
        "color": {},
    }
    schema = {"type": {"type": {"$var": "$.kind"}}}
    app.fields = [{"key": "score", "kind": "integer"}]
    assert learnt(schema, app.respond) == {"score": {"type": "integer"}}


def test_definitions_come_in_pages() -> None:
    pages = [["a", "b"], ["c"], []]

    def respond(call: Call) -> Answer:
        return answer({"fields": [{"key": k} for k in pages[call.query["page"] - 1]]})

    paged = {"pagination": {"type": "page", "parameter": "page"}}
    assert list(learnt(paged, respond)) == ["a", "b", "c"]


def test_an_answer_without_names_is_said_to_be_one() -> None:
    with pytest.raises(UnexpectedAnswer, match="no definition of a custom field has a name"):
        learnt({}, App({"title": "a"}).respond)
    assert learnt({}, App().respond) == {}


FOUND = {"type": "object", "properties": {"a": {"type": "integer"}}}


def one_call(scope: Any) -> Any:
    return {"path": f"/{scope['parameters']['kind']}"}


def a_schema(_: Any) -> Any:
    return FOUND


def calls(scope: Any) -> Any:
    found = yield {"path": "/fields"}
    more = yield {"path": "/fields"}
    names = [field["key"] for field in found.body["fields"] + more.body["fields"]]
    return {"properties": {name: {"type": "string"} for name in names}}


@pytest.mark.parametrize(
    ("function", "names"), [(one_call, ["k"]), (a_schema, ["a"]), (calls, ["k"])]
)
def test_a_function_gives_a_call_or_the_schema(function: Any, names: list[str]) -> None:
    app = App({"key": "k", "kind": "text"})
    spec = {"function": "mine", "path": None}
    assert list(learnt(spec, app.respond, {"mine": function})) == names


def test_a_function_that_never_ends_is_stopped() -> None:
    def endless(_: Any) -> Any:
        while True:
            yield {"path": "/fields"}

    def long(_: Any) -> Any:
        for _call in range(MOST_CALLS):
            yield {"path": "/fields"}
        return FOUND

    app, spec = App({"key": "k"}), {"function": "mine", "path": None}
    with pytest.raises(Fatal, match="'mine' of hooks.py made 1,000 calls without coming to an end"):
        learnt(spec, app.respond, {"mine": endless})
    assert app.asked == MOST_CALLS
    assert list(learnt(spec, app.respond, {"mine": long})) == ["a"]


def test_a_function_that_gives_no_schema_is_said_to() -> None:
    with pytest.raises(MembraneError, match="no schema"):
        learnt({"function": "mine", "path": None}, None, {"mine": lambda _: {"properties": 3}})
    with pytest.raises(Fatal, match="'mine'"):
        learnt({"function": "mine", "path": None}, None, {})


def test_what_is_declared_wins_and_inside_leads_into_an_object() -> None:
    own = {"a": {"type": "string"}, "b": {"type": "integer"}}
    declared = {"properties": {"a": {"type": "number"}}}
    assert with_fields(collection(fields_schema=declared), own)["properties"] == {
        "a": {"type": "number"},
        "b": {"type": "integer"},
    }
    nested = {"properties": {"properties": {"type": "object", "properties": declared}}}
    inside = collection({"inside": "$.properties.extra"}, fields_schema=nested)
    found = with_fields(inside, own)["properties"]["properties"]["properties"]
    assert found["extra"] == {"type": "object", "properties": own}
    with pytest.raises(ValidationError, match="names alone"):
        collection({"inside": "$.properties[0]"})


def test_they_are_asked_for_once_in_a_while_and_by_a_full_sync() -> None:
    app, lake = App({"key": "a", "kind": "text"}), MemoryLake()
    of = collection()
    first = sync(of, app, lake)
    assert (first.requests, app.asked) == (2, 1)
    assert list(lake.schemas["contacts"]["properties"]) == ["id", "a"]
    assert (sync(of, app, lake).requests, app.asked) == (1, 1)
    sync(of, app, lake, "full")
    assert app.asked == 2
    kept = lake.note("contacts", CUSTOM_FIELDS)
    for age, asked in ((timedelta(hours=23), 2), (timedelta(hours=25), 3), (timedelta(-1), 4)):
        at = (datetime.now(UTC) - age).isoformat()
        lake.keep_note("contacts", CUSTOM_FIELDS, {**kept, "at": at})
        sync(of, app, lake)
        assert app.asked == asked
    sync(collection({"name": {"$var": "$.label"}}), App({"label": "b"}), lake)
    assert list(lake.schemas["contacts"]["properties"]) == ["id", "b"]


def test_what_is_known_holds_on_while_the_app_does_not_answer() -> None:
    app, lake = App({"key": "a", "kind": "text"}), MemoryLake()
    app.fail = AppUnavailable("the app is away")
    with pytest.raises(AppUnavailable):
        sync(collection(), app, lake)
    app.fail = None
    sync(collection(), app, lake)
    app.fail = AppUnavailable("the app is away")
    report = sync(collection(), app, lake, "full")
    assert report.requests == 2
    [warning] = report.warnings
    assert "custom fields of contacts" in warning and "the app is away" in warning
    assert list(lake.schemas["contacts"]["properties"]) == ["id", "a"]


def columns(lake: DuckDbLake, stream: str = "contacts") -> dict[str, str]:
    rows = lake.select(f'DESCRIBE records."{stream}"').to_pylist()
    return {r["column_name"]: r["column_type"] for r in rows if r["column_name"][0] != "_"}


def test_columns_follow_the_definitions(tmp_path: Path) -> None:
    app, of = App({"key": "born", "kind": "text"}), collection()
    app.records = [{"id": "1", "born": "2001-02-03"}, {"id": "2", "born": "long ago"}]
    lake = DuckDbLake(tmp_path / "acme.duckdb")
    sync(of, app, lake)
    assert columns(lake) == {"id": "VARCHAR", "born": "VARCHAR"}
    app.fields = [{"key": "born", "kind": "day"}, {"key": "size", "kind": "integer"}]
    sync(of, app, lake)
    assert columns(lake) == {"id": "VARCHAR", "born": "VARCHAR"}, "they aren't due yet"
    app.records = []
    report = sync(of, app, lake, "full")
    assert (report.pulled, report.written) == (0, 0)
    assert columns(lake) == {"id": "VARCHAR", "born": "DATE", "size": "BIGINT"}
    born = lake.select("SELECT id, CAST(born AS VARCHAR) AS born FROM records.contacts ORDER BY id")
    assert [row["born"] for row in born.to_pylist()] == ["2001-02-03", None]
    letters = lake.select("SELECT external_id, field, value FROM dead_letters").to_pylist()
    assert letters == [{"external_id": "2", "field": "born", "value": "long ago"}]
    before = lake.path.read_bytes()
    sync(of, app, lake)
    assert lake.path.read_bytes() == before
    lake.close()


def test_each_account_has_its_own(tmp_path: Path) -> None:
    write_project(tmp_path)
    project = Project.load(tmp_path)
    of = project.find("data_collection", "custom", integration="simulator")
    assert isinstance(of, DataCollection)
    access = Access(custom_fields=2, accounts=("acme", "umbrella"))
    found = {}
    with running(Simulator(seed=5, records=30, access=access)) as url:
        for account in access.accounts:
            given = {"input": {"url": url}, "credentials": {"token": f"token-{account}"}}
            record = ConnectionRecord(account, "simulator", account, **given)
            api = HttpApi(project.connector("simulator"), record)
            lake = DuckDbLake(tmp_path / f"{account}.duckdb")
            pull_and_store(resolved(of), parties(api, lake, MemoryDestination()), Report())
            own = f"{account}_field_0"
            count = lake.count(f'SELECT count(DISTINCT "{own}") FROM records.custom')
            found[account] = (set(columns(lake, "custom")), count)
            lake.close()
            api.close()
    declared = {"id", "name", "email", "updated_at"}
    assert found == {a: (declared | {f"{a}_field_0", f"{a}_field_1"}, 30) for a in access.accounts}


def test_a_day_is_how_long_they_hold() -> None:
    assert CustomFields.model_validate({"path": "/fields"}).refresh_seconds == 86_400
