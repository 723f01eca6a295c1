"""An export of a Membrane workspace becomes our files, and all of it is accounted for."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.cli.output import Exit
from membrane_sync.elements import KINDS
from membrane_sync.elements.base import yaml_keys
from membrane_sync.errors import Fatal, NotFound
from membrane_sync.formulas.locators import parse
from membrane_sync.project.membrane_export import Import, import_export, write_import
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors
from membrane_sync.project.yaml_file import read_value, write_yaml
from tests.cli.test_cli import Cli
from tests.project.projects import write

EXPORT = {
    "membrane/data-sources/people/spec.yaml": "{id: ds1, key: people, name: People, udm: contacts}",
    "membrane/field-mappings/people/spec.yaml": """\
        id: fm1
        key: people
        state: READY
        dataSourceKey: people
        direction: both
        appSchema: {$ref: schemas/people}
        defaultImportValue: {$var: $}
        defaultExportValue: {$var: $}
        """,
    "membrane/app-data-schemas/people/spec.yaml": """\
        key: people
        schema:
          type: object
          properties:
            email: {type: string, widget: fancy}
            boss: {$dataSchemaRef: bosses}
        """,
    "membrane/app-data-schemas/bosses/spec.yaml": "schema: {type: object}",
    "membrane/app-data-schemas/fields/spec.yaml": "code: 'export default () => 1'",
    "membrane/data-link-tables/people.yaml": "{id: dl1, key: people, name: People}",
    "membrane/appEventTypes/saved/saved.yaml": """\
        key: saved
        schema: {type: object}
        userIdFormula: {$var: $.tenant}
        globalWebhookUri: https://hooks.example/1
        subscribeRequest: {method: POST, uri: /subscribe}
        """,
    "membrane/actions/find/spec.yaml": """\
        key: find
        type: find-data-record-by-id
        inputSchema: {type: object}
        config:
          dataSource: {key: people}
          fieldMapping: {key: people, includeRawFields: true, input: {$var: $.input.fields}}
          id: {$var: $.input.id}
        """,
    "membrane/actions/list/spec.yaml": """\
        key: list
        type: list-data-records
        config:
          dataSource:
            collectionKey: notes
            collectionParameters: {owner: {$var: $.input.owner}, of: 1}
          fieldMapping: {}
          cursor: {$var: $.input.cursor}
        """,
    "membrane/actions/script/spec.yaml": """\
        {key: script, type: run-javascript, config: {code: 'export default () => 1'}}
        """,
    "membrane/actions/odd/spec.yaml": "{key: odd, type: connector-operation}",
    "membrane/flows/notify/spec.yaml": """\
        key: notify
        isDeactivated: true
        nodes:
          saved:
            type: app-event-trigger
            config: {appEvent: {key: saved}}
            links: [{key: tell}, {key: odd}]
          tell:
            type: api-request-to-your-app
            version: 2
            config: {request: {method: POST, uri: /tell, body: {$var: $.input.saved}}}
          odd: {type: integration-specific-operation, config: {operation: x}}
        """,
    "membrane/packages/crm/spec.yaml": "{version: 1.0.0, elements: [{type: flow, id: f}]}",
    "membrane/screens/home/spec.yaml": "{key: home}",
    "membrane/connectors/u1/1.0.0/src.zip": "PK",
    "membrane/integrations/crm/spec.yaml": """\
        {id: i1, key: crm, name: CRM, connectorVersion: 1.7.0, logoUri: x}
        """,
    "membrane/integrations/crm/data-sources/people/spec.yaml": """\
        key: people
        name: People
        udm: contacts
        collectionKey: contacts
        defaultPath: /data/contacts
        pullUpdatesIntervalSeconds: 60
        integration: {id: i1, key: crm}
        universalDataSourceId: ds1
        isCustomized: true
        """,
    "membrane/integrations/crm/field-mappings/people/spec.yaml": """\
        key: people
        dataSourceId: ds1
        dataSourceKey: people
        direction: both
        defaultImportValue: {$var: $}
        defaultExportValue: {$var: $}
        importValue:
          email: {$var: $.mail}
          name: {$shout: {$var: $.name}}
        isCustomized: false
        """,
    "membrane/integrations/crm/actions/find/spec.yaml": """\
        key: find
        type: find-data-record-by-id
        inputSchema: {type: object}
        config: {fieldMapping: {}, dataSource: {}}
        isCustomized: false
        """,
    "membrane/data-sources/old/crm/crm.yaml": "{key: old, path: /data/contacts}",
}


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    write(tmp_path, EXPORT)
    return import_export(tmp_path)


def said(imported: Import, file: str) -> dict[str, tuple[str, str]]:
    """Outcome and reason of each path of a file; the last one of the whole."""
    return {n.path: (n.outcome, n.reason) for n in imported.notes if n.file == file}


def test_what_is_written(imported: Import) -> None:
    people = {"data_source": "people", "direction": "both", "data_schema": "people"}
    identity = {"$var": "$"}
    assert imported.files == {
        "mappings/universal/data_sources/people.yaml": {"name": "People", "udm": "contacts"},
        "mappings/universal/field_mappings/people.yaml": {
            **people,
            "default_import_value": identity,
            "default_export_value": identity,
        },
        "mappings/universal/data_schemas/people.yaml": {
            "schema": {
                "type": "object",
                "properties": {"email": {"type": "string"}, "boss": {"$ref": "bosses"}},
            }
        },
        "mappings/universal/data_schemas/bosses.yaml": {"schema": {"type": "object"}},
        "mappings/universal/data_link_tables/people.yaml": {"name": "People"},
        "mappings/universal/internal_events/saved.yaml": {
            "schema": {"type": "object"},
            "tenant": {"$var": "$.tenant"},
            "subscribe": {"method": "POST", "url": "/subscribe"},
        },
        "mappings/universal/actions/find.yaml": {
            "type": "find_data_record_by_id",
            "input_schema": {"type": "object"},
            "config": {
                "id": {"$var": "$.input.id"},
                "data_source": "people",
                "input": {"$var": "$.input.fields"},
                "field_mapping": "people",
            },
        },
        "mappings/universal/actions/list.yaml": {
            "type": "list_data_records",
            "config": {"cursor": {"$var": "$.input.cursor"}, "data_source": "list"},
        },
        "mappings/universal/data_sources/list.yaml": {
            "collection_key": "notes",
            "collection_parameters": {"of": 1},
        },
        "mappings/universal/actions/script.yaml": {"type": "run_function", "config": {}},
        "mappings/universal/flows/notify.yaml": {
            "nodes": {
                "saved": {
                    "type": "internal_event_trigger",
                    "config": {"internal_event": "saved"},
                    "links": [{"key": "tell"}],
                },
                "tell": {
                    "type": "api_request_to_your_app",
                    "config": {
                        "request": {
                            "method": "POST",
                            "body": {"$var": "$.input.saved"},
                            "url": "/tell",
                        }
                    },
                },
            },
            "enabled": False,
        },
        "mappings/universal/packages/crm.yaml": {"version": "1.0.0"},
        "mappings/integrations/crm/integration.yaml": {"name": "CRM", "connector_version": "1.7.0"},
        # Customised, so it's all of it; the mapping isn't, so it's only what differs.
        "mappings/integrations/crm/data_sources/people.yaml": {
            "name": "People",
            "udm": "contacts",
            "collection_key": "contacts",
            "pull_updates_interval_seconds": 60,
        },
        "mappings/integrations/crm/field_mappings/people.yaml": {
            "import_value": {"email": {"$var": "$.mail"}}
        },
        "mappings/integrations/crm/data_sources/old.yaml": {"collection_key": "contacts"},
    }


@pytest.mark.parametrize(
    ("file", "path", "outcome", "reason"),
    [
        ("data-sources/people/spec.yaml", "", "carried", "mappings/universal/data_sources"),
        ("data-sources/people/spec.yaml", "id", "books", "kept by Membrane's service"),
        ("field-mappings/people/spec.yaml", "appSchema", "changed", "data_schema"),
        (
            "app-data-schemas/people/spec.yaml",
            "schema.properties.email.widget",
            "left out",
            "unknown schema keyword 'widget'",
        ),
        (
            "app-data-schemas/people/spec.yaml",
            "schema.properties.boss.$dataSchemaRef",
            "changed",
            "is called $ref",
        ),
        ("app-data-schemas/fields/spec.yaml", "code", "left out", "JavaScript isn't run"),
        ("app-data-schemas/fields/spec.yaml", "", "left out", "missing key 'schema'"),
        ("appEventTypes/saved/saved.yaml", "userIdFormula", "changed", "is called tenant"),
        (
            "actions/find/spec.yaml",
            "config.fieldMapping.includeRawFields",
            "left out",
            "include_raw_fields in the field mapping",
        ),
        ("actions/list/spec.yaml", "config.dataSource", "changed", "data_source list"),
        ("actions/list/spec.yaml", "config.fieldMapping", "changed", "empty"),
        (
            "actions/list/spec.yaml",
            "config.dataSource.collectionParameters.owner",
            "left out",
            "parameters are constant",
        ),
        ("actions/script/spec.yaml", "type", "changed", "is called run_function"),
        ("actions/script/spec.yaml", "config.code", "left out", "JavaScript isn't run"),
        ("actions/odd/spec.yaml", "type", "left out", "'connector_operation' is unknown"),
        ("actions/odd/spec.yaml", "", "left out", "missing key 'type'"),
        ("flows/notify/spec.yaml", "isDeactivated", "changed", "enabled: false"),
        ("flows/notify/spec.yaml", "nodes.tell.version", "books", "kept by Membrane's service"),
        ("flows/notify/spec.yaml", "nodes.odd", "left out", "missing key 'nodes.odd.type'"),
        ("flows/notify/spec.yaml", "nodes.saved.links[1]", "left out", "missing key"),
        ("packages/crm/spec.yaml", "elements", "left out", "unknown key 'elements'"),
        ("screens/home/spec.yaml", "", "left out", "there is no kind of ours for screens"),
        ("connectors/u1/1.0.0/src.zip", "", "left out", "not YAML"),
        (
            "integrations/crm/field-mappings/people/spec.yaml",
            "import_value.name",
            "left out",
            "$shout is no operator",
        ),
        ("integrations/crm/actions/find/spec.yaml", "", "carried", "inherits all of it"),
        ("data-sources/old/crm/crm.yaml", "path", "changed", "its last part is collection_key"),
    ],
)
def test_the_report_says_what_became_of_it(
    file: str, path: str, outcome: str, reason: str, imported: Import
) -> None:
    found = said(imported, file)[path]
    assert found[0] == outcome and reason in found[1]


def test_every_file_and_every_key_is_accounted_for(imported: Import) -> None:
    """A key of an export is in a file of ours, under our name for it, or there is a note on it."""
    assert {note.file for note in imported.notes} == {n.removeprefix("membrane/") for n in EXPORT}
    for name, text in EXPORT.items():
        notes = [n for n in imported.notes if n.file == name.removeprefix("membrane/")]
        wholes = [note for note in notes if not note.path]
        assert wholes, name
        if any(n.outcome == "left out" or "inherits" in n.reason for n in wholes):
            continue
        ours = {key for note in wholes for key in imported.files[note.reason]}
        noted = {note.path.split(".")[0] for note in notes}
        for key in set(yaml.safe_load(text)) - {"key", "isCustomized"} - SAME_AS_UNIVERSAL[name]:
            names = {key, _snake(key), RENAMED.get(key, key)}
            assert names & (ours | noted), f"{name}: {key}"


RENAMED = {"dataSourceKey": "data_source", "subscribeRequest": "subscribe"}
SAME_AS_UNIVERSAL = defaultdict(
    set[str],
    {
        "membrane/integrations/crm/field-mappings/people/spec.yaml": {
            "dataSourceKey",
            "direction",
            "defaultImportValue",
            "defaultExportValue",
        }
    },
)


def _snake(key: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in key)


def test_what_is_written_is_correct(imported: Import, tmp_path: Path) -> None:
    root = tmp_path / "project"
    write_import(imported, root)
    connector = "base_url: https://crm.example\nauthentication: {type: none}\n"
    collection = "id: $.id\nlist: {path: /contacts}\n"
    write(
        root,
        {
            "connectors/crm/connector.yaml": connector,
            "connectors/crm/data_collections/contacts.yaml": collection,
        },
    )
    assert errors(check(Project.load(root, {}))) == []


def test_files_that_are_there_are_not_overwritten(imported: Import, tmp_path: Path) -> None:
    there = {"mappings/universal/actions/find.yaml": "type: http_request\n"}
    write(tmp_path / "project", there)
    with pytest.raises(Fatal, match="actions/find.yaml; nothing was written"):
        write_import(imported, tmp_path / "project")
    assert [p for p in (tmp_path / "project").rglob("*") if p.is_file()] == [
        tmp_path / "project" / name for name in there
    ]


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("actions/a/spec.yaml", "type: [", "not YAML"),
        ("actions/a/spec.yaml", "{type: http-request, type: x}", "duplicate key 'type'"),
        ("actions/ä/spec.yaml", "type: http-request", "'ä' is no key"),
        ("actions/a/b/c/spec.yaml", "type: http-request", "should be actions/<key>/spec.yaml"),
        ("actions/a/other.yaml", "type: http-request", "should be actions/<key>/spec.yaml"),
        ("actions/b.yaml", "type: http-request", "actions/b/spec.yaml is the same element"),
        ("README.md", "# Hello", "not YAML"),
        ("field-mappings/f/spec.yaml", "{importValue: 1, import_value: 2}", "another spelling"),
    ],
)
def test_files_that_cannot_be_taken(file: str, text: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, {"actions/b/spec.yaml": "type: http-request\nconfig: {}\n", file: text})
    imported = import_export(tmp_path)
    reasons = [note.reason for note in imported.notes if note.outcome == "left out"]
    assert any(reason in found for found in reasons), reasons
    assert list(imported.files) == ["mappings/universal/actions/b.yaml"]


def test_keys_that_ours_may_not_be_are_made_so_wherever_they_stand(tmp_path: Path) -> None:
    files = {
        "data-sources/Job Offers/spec.yaml": "key: Job Offers\nudm: job-offers",
        "field-mappings/Job Offers/spec.yaml": "dataSourceKey: Job Offers\nimportValue: {a: 1}",
        "actions/list Job Offers/spec.yaml": """\
            type: list-data-records
            config: {dataSource: {key: Job Offers}}
            """,
    }
    write(tmp_path, files)
    imported = import_export(tmp_path)
    assert imported.files == {
        "mappings/universal/data_sources/Job-Offers.yaml": {"udm": "job-offers"},
        "mappings/universal/field_mappings/Job-Offers.yaml": {
            "data_source": "Job-Offers",
            "import_value": {"a": 1},
        },
        "mappings/universal/actions/list-Job-Offers.yaml": {
            "type": "list_data_records",
            "config": {"data_source": "Job-Offers"},
        },
    }
    for file in files:
        assert said(imported, file)["key"] == ("changed", said(imported, file)["key"][1])
        assert "which is its key now" in said(imported, file)["key"][1]


def test_frozen_fields_are_carried_over(tmp_path: Path) -> None:
    spec = """
exportValue: {mail: {$var: $.email}}
defaultExportValue: {primaryEmail: {$var: $.email}}
frozenImportFields: [email]
frozenExportFields: [mail]
frozenUnifiedExportFields: [primaryEmail]
"""
    write(tmp_path, {"field-mappings/people/spec.yaml": spec})
    (content,) = import_export(tmp_path).files.values()
    assert {name: fields for name, fields in content.items() if name.startswith("frozen")} == {
        "frozen_import_fields": ["email"],
        "frozen_export_fields": ["mail"],
        "frozen_unified_export_fields": ["primaryEmail"],
    }


def test_what_is_named_by_an_id_alone_is_named_by_its_key(tmp_path: Path) -> None:
    action = "type: list-data-records\nconfig: {dataSource: {uuid: u1}, fieldMapping: {id: gone}}"
    write(
        tmp_path,
        {
            "data-sources/people/spec.yaml": "{id: ds1, uuid: u1, udm: contacts}",
            "field-mappings/known/spec.yaml": "{dataSourceId: ds1, importValue: {a: 1}}",
            "field-mappings/gone/spec.yaml": "{dataSourceUuid: ds9, importValue: {a: 1}}",
            "actions/list/spec.yaml": action,
        },
    )
    imported = import_export(tmp_path)
    files = {path.rpartition("/")[2]: content for path, content in imported.files.items()}
    assert files["known.yaml"]["data_source"] == "people"
    assert files["list.yaml"]["config"] == {"data_source": "people"}
    for file, path in (("field-mappings/gone", "dataSourceUuid"), ("actions/list", "config.f")):
        left = [n for n in imported.notes if n.file.startswith(file) and n.outcome == "left out"]
        (note,) = (n for n in left if n.path.startswith(path))
        assert note.reason == "no file of the export has this id"


def test_a_path_of_a_data_source_is_a_collection_with_parameters(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "data-sources/a/spec.yaml": "{udm: contacts, defaultPath: /data/objects?type=Lead&x=}",
            "data-sources/b/spec.yaml": "{collectionKey: leads, path: /data/contacts}",
            "data-sources/c/spec.yaml": "{collectionKey: leads, defaultPath: /data/leads}",
        },
    )
    imported = import_export(tmp_path)
    assert list(imported.files.values()) == [
        {
            "udm": "contacts",
            "collection_key": "objects",
            "collection_parameters": {"type": "Lead", "x": ""},
        },
        {"collection_key": "leads"},
        {"collection_key": "leads"},
    ]
    assert said(imported, "data-sources/b/spec.yaml")["path"][0] == "left out"
    assert said(imported, "data-sources/c/spec.yaml")["defaultPath"][0] == "books"


def test_elements_within_others_of_like_names_are_kept_apart(tmp_path: Path) -> None:
    source = "dataSource: {collectionKey: %s}"
    action = f"type: list-data-records\nconfig: {{{source}}}"
    node = f"nodes: {{b: {{type: list-data-records, config: {{{source}}}}}}}"
    write(
        tmp_path,
        {
            "actions/a-b/spec.yaml": action % "one",
            "flows/a/spec.yaml": node % "two",
            "integrations/crm/actions/a-b/spec.yaml": action % "three",
        },
    )
    files = import_export(tmp_path).files
    made = {path: content for path, content in files.items() if "data_sources" in path}
    assert made == {
        "mappings/universal/data_sources/a-b.yaml": {"collection_key": "one"},
        "mappings/universal/data_sources/a-b-inline.yaml": {"collection_key": "two"},
        "mappings/integrations/crm/data_sources/a-b.yaml": {"collection_key": "three"},
    }
    assert files["mappings/universal/flows/a.yaml"]["nodes"]["b"]["config"] == {
        "data_source": "a-b-inline"
    }


def test_what_is_archived_is_left_out(tmp_path: Path) -> None:
    spec = "{udm: contacts, archivedAt: '2026-01-02T03:04:05Z'}"
    write(tmp_path, {"data-sources/a/spec.yaml": spec})
    write(tmp_path, {"data-sources/b/spec.yaml": "{udm: deals, archivedAt: null}"})
    imported = import_export(tmp_path)
    assert list(imported.files) == ["mappings/universal/data_sources/b.yaml"]
    assert said(imported, "data-sources/a/spec.yaml")[""] == ("left out", "it's archived")


def test_only_schemas_name_schemas(tmp_path: Path) -> None:
    spec = "importValue: {shape: {$dataSchemaRef: people}}\nmeta: {a: {$dataSchemaRef: people}}"
    write(tmp_path, {"field-mappings/a/spec.yaml": spec})
    assert import_export(tmp_path).files["mappings/universal/field_mappings/a.yaml"] == {
        "import_value": {"shape": {"$dataSchemaRef": "people"}},
        "meta": {"a": {"$dataSchemaRef": "people"}},
    }


def _blocks(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from _blocks(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _blocks(inner, (*path, index))


PLACES = [
    (name, path)
    for name, text in EXPORT.items()
    if name.endswith(".yaml")
    for path, _ in _blocks(yaml.safe_load(text))
]
KNOWN = {key for model in KINDS.values() for key in yaml_keys(model)}
WORDS = sorted({word for word in re.findall(r"\w+", str(EXPORT)) if not word[0].isdigit()} | KNOWN)


@settings(max_examples=100, deadline=None)
@given(
    place=st.sampled_from(PLACES),
    key=st.sampled_from([*WORDS, "madeUp", "frozenUnifiedImportFields"]),
    value=st.sampled_from(["sentinel", {"key": "sentinel"}, {"sentinel": 1}, ["sentinel"]]),
)
def test_every_key_is_carried_or_reported(
    place: tuple[str, tuple[Any, ...]], key: str, value: Any, tmp_path_factory: Any
) -> None:
    """Wherever it stands, and whether we know it there or not."""
    root = tmp_path_factory.mktemp("export")
    name, path = place
    spec = yaml.safe_load(EXPORT[name])
    block = spec
    for step in path:
        block = block[step]
    block[key] = value
    write(root, {"membrane/data-sources/x.yaml": "udm: x", name: json.dumps(spec)})
    imported = import_export(root)
    if "sentinel" in json.dumps(imported.files):
        return
    notes = [n for n in imported.notes if n.file == name.removeprefix("membrane/")]
    wholes = [n for n in notes if not n.path and n.outcome == "left out"]
    assert wholes or any(_tells(note.path, path, key) for note in notes), notes


def _tells(told: str, path: tuple[Any, ...], key: str) -> bool:
    """Is the path told of that of the key, of what it's a part of, or of a part of it?"""
    whole = [_spelt(step) for step in parse(f"$.{told}")]
    own = [_spelt(step) for step in (*path, key)]
    shared = min(len(whole), len(own))
    return bool(whole) and (whole[:shared] == own[:shared] or whole[-1] == own[-1])


def _spelt(step: Any) -> str:
    return str(step).replace("_", "").lower()


def test_a_folder_that_is_no_export(tmp_path: Path) -> None:
    write(tmp_path, {"notes.txt": "hello"})
    with pytest.raises(NotFound, match="is no export of a Membrane workspace"):
        import_export(tmp_path)


def test_the_command_writes_reports_and_refuses(tmp_path: Path) -> None:
    write(tmp_path / "export", EXPORT)
    cli = Cli(tmp_path)
    project = f"--output={tmp_path / 'project'}"
    result = cli("import", "membrane-export", str(tmp_path / "export"), project)
    assert result.exit_code == Exit.DONE, result.output
    assert "screens/home/spec.yaml: there is no kind of ours for screens" in result.stdout
    assert "left out as Membrane's own books: " in result.stdout
    assert (tmp_path / "project/mappings/universal/actions/find.yaml").exists()
    checked = Cli(tmp_path / "project")("check")
    assert "there is no connector 'crm'" in checked.stderr
    again = cli("import", "membrane-export", str(tmp_path / "export"), project)
    assert (again.exit_code, "nothing was written" in again.stderr) == (Exit.FAILED, True)
    other = f"--output={tmp_path / 'other'}"
    said = cli.json("import", "membrane-export", str(tmp_path / "export"), other)
    assert len(said["files"]) == 16
    assert {note["outcome"] for note in said["notes"]} == {
        "carried",
        "changed",
        "left out",
        "books",
    }


AMBIGUOUS = ["on", "no", "1e3", "0o17", "0x1f", ".5", "~", "2026-01-02", "12:30", "=", "<<", ""]
TEXTS = st.sampled_from(AMBIGUOUS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES)
def test_what_is_written_as_yaml_reads_back_the_same(value: Any) -> None:
    written = write_yaml(value)
    assert read_value(written) == value
    assert yaml.safe_load(written) == value


def test_what_is_too_deep_for_pyyaml_is_written_too() -> None:
    value: Any = {"$var": "$.a"}
    for _ in range(200):
        value = {"$concat": [value]}
    assert read_value(write_yaml({"a\u2028": value})) == {"a\u2028": value}


def test_expressions_are_carried_over_but_for_those_that_can_not_be_read(tmp_path: Path) -> None:
    spec = """
importValue:
  total: {$jsonata: "$sum(lines.price)"}
  made: {$jsonata: {$concat: [a, " & ", b]}}
  wrong: {$jsonata: "(a"}
exportValue: {$jsonata: '{"x": a}'}
"""
    folder = tmp_path / "membrane/field-mappings/orders"
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    found = import_export(tmp_path)
    (content,) = found.files.values()
    assert content == {
        "import_value": {
            "total": {"$jsonata": "$sum(lines.price)"},
            "made": {"$jsonata": {"$concat": ["a", " & ", "b"]}},
        },
        "export_value": {"$jsonata": '{"x": a}'},
    }
    (left,) = [note for note in found.notes if note.outcome == "left out"]
    assert left.path == "import_value.wrong" and "$jsonata" in left.reason
