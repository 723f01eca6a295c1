"""What Dagster loads of the repository's own project, and what loading it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from membrane_sync.errors import ProjectError
from membrane_sync.orchestration.definitions import build_definitions
from tests.end_to_end.helpers import Workspace
from tests.fixtures import REPOSITORY

SNAPSHOT = Path(__file__).with_name("asset_graph.json")
HEAVY = ("pandas", "numpy", "duckdb", "pyarrow", "httpx", "authlib")

LOAD = """
import json, socket, sys

def refuse(*arguments, **named):
    raise AssertionError("loading definitions opened a socket")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import definitions
definitions.defs.get_repository_def()
print(json.dumps(sorted(sys.modules)))
"""


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """This Python in a project's folder, with nothing but the environment of the test."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def snapshot(definitions: dg.Definitions) -> dict[str, Any]:
    """All that a user of the UI sees of the definitions, but for descriptions and versions."""
    repository = definitions.get_repository_def()
    return {
        "assets": {
            spec.key.to_user_string(): {
                "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
                "group": spec.group_name,
                "kinds": sorted(spec.kinds),
                "partitions": getattr(spec.partitions_def, "name", None),
                "metadata": sorted(spec.metadata),
            }
            for spec in sorted(definitions.resolve_all_asset_specs(), key=lambda spec: spec.key)
        },
        "jobs": {
            job.name: {
                "selection": sorted(
                    key.to_user_string() for key in job.asset_layer.executable_asset_keys
                ),
                "tags": dict(job.tags),
            }
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "schedules": {
            schedule.name: {
                "job": schedule.job_name,
                "cron": schedule.cron_schedule,
                "timezone": schedule.execution_timezone,
                "status": schedule.default_status.value,
            }
            for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
        },
        "sensors": {
            sensor.name: {
                "seconds": sensor.minimum_interval_seconds,
                "status": sensor.default_status.value,
            }
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
    }


def test_the_asset_graph_of_the_repository_is_as_recorded() -> None:
    found = json.dumps(snapshot(build_definitions(REPOSITORY)), indent=2) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8"), (
        "the asset graph has changed. If that's what you want, record it and look at its diff:\n"
        f"  UPDATE_SNAPSHOTS=1 python -m pytest {Path(__file__).relative_to(REPOSITORY)}"
    )


def test_every_asset_says_what_it_is() -> None:
    for spec in build_definitions(REPOSITORY).resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description and spec.code_version, name
        assert 1 <= len(spec.kinds) <= 3, name
        if spec.partitions_def is not None:
            assert spec.metadata["dagster/column_schema"].columns, name


def test_a_mapped_column_shows_its_formula() -> None:
    specs = build_definitions(REPOSITORY).resolve_all_asset_specs()
    (mapped,) = [spec for spec in specs if spec.key.path == ["kinto", "contacts_mapped"]]
    columns = {c.name: c for c in mapped.metadata["dagster/column_schema"].columns}
    assert columns["email"].description == "`{$var: $.email}`"
    assert not columns["email"].constraints.nullable
    assert str(columns["full_name"].description).startswith("`{$concat: {")
    assert columns["signed_up_on"].type == "string (date)"


def test_a_formula_as_deep_as_may_be_shows(workspace: Workspace) -> None:
    formula = '{"$concat": [' * 200 + '"x"' + "]}" * 200
    city = f"import_value: {{city: {formula}}}"
    workspace.write("mappings/integrations/kinto/field_mappings/contacts.yaml", city)
    specs = build_definitions(workspace.root).resolve_all_asset_specs()
    (mapped,) = [spec for spec in specs if spec.key.path == ["kinto", "contacts_mapped"]]
    columns = {c.name: c for c in mapped.metadata["dagster/column_schema"].columns}
    # As YAML, or as JSON where that would go too deep for its writer.
    description = columns["city"].description or ""
    assert description.count("$concat") == 200


def test_each_column_says_where_it_comes_from(workspace: Workspace) -> None:
    specs = build_definitions(workspace.root).resolve_all_asset_specs()
    lineage = {
        spec.key.to_user_string(): {
            column: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
            for column, deps in found.deps_by_column.items()
        }
        for spec in specs
        if (found := spec.metadata.get("dagster/column_lineage"))
    }
    mapped = lineage["kinto/contacts_mapped"]
    source = "kinto/contacts"
    assert mapped["full_name"] == [(source, "first_name"), (source, "last_name")]
    assert mapped["city"] == [(source, "address")]
    assert mapped["stage"] == [(source, "score")]
    delivered = lineage["kinto/contacts_delivered"]
    assert delivered["city"] == [("kinto/contacts_mapped", "city")]
    assert delivered.keys() == mapped.keys()
    assert ("pocketbase/contacts", "name") in lineage["pocketbase/contacts_mapped"]["full_name"]


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("{$var: $}", {"city": ["city"], "email": ["email"]}),
        ("{email: {$concat: [{$var: $}, x]}}", {"email": ["...", "email", "tags"]}),
        ("{email: x}", {"email": []}),
        ("{email: {a: {$var: $.b}, c: {$var: $.d}}}", {"email": ["b", "d"]}),
        ("{email: {$var: '$.a\\.b[0].c'}}", {"email": ["a.b"]}),
        ("{$mergeObjects: [{$var: $}, {$var: $.tags}]}", {"city": ["city", "tags"]}),
    ],
)
def test_lineage_of_formulas_of_every_form(
    formula: str, columns: dict[str, list[str]], workspace: Workspace
) -> None:
    workspace.write(
        "mappings/integrations/kinto/field_mappings/contacts.yaml",
        f"import_value: {{$remove: true}}\ndefault_import_value: {formula}\n",
    )
    specs = build_definitions(workspace.root).resolve_all_asset_specs()
    (mapped,) = [spec for spec in specs if spec.key.path == ["kinto", "contacts_mapped"]]
    found = mapped.metadata["dagster/column_lineage"].deps_by_column
    for column, wanted in columns.items():
        names = {dep.column_name for dep in found[column]}
        if "..." in wanted:
            assert names > set(wanted) - {"..."}
        else:
            assert names == set(wanted)


def test_loading_opens_nothing_and_imports_nothing_heavy(workspace: Workspace) -> None:
    before = {path.relative_to(workspace.root) for path in workspace.root.rglob("*")}
    loaded = python(workspace.root, "-B", "-c", LOAD)
    assert loaded.returncode == 0, loaded.stderr
    modules = json.loads(loaded.stdout)
    assert "membrane_sync.orchestration.stages" in modules
    heavy = [name for name in modules if name.startswith(HEAVY)]
    assert heavy == [], f"loading definitions imports {heavy[:3]}: import them inside functions"
    assert {path.relative_to(workspace.root) for path in workspace.root.rglob("*")} == before


def test_a_broken_project_fails_to_load_with_every_problem(workspace: Workspace) -> None:
    contacts = "mappings/universal/packages/contacts.yaml"
    workspace.replace(contacts, "field_mapping: contacts", "field_mapping: contcts")
    workspace.replace(contacts, "$concat", "$concatt")
    workspace.replace("connectors/kinto/connector.yaml", "type: basic", "type: basicc")
    lines = [
        (contacts, "field_mapping: contcts"),
        (contacts, "$concatt"),
        ("connectors/kinto/connector.yaml", "type: basicc"),
    ]
    expected = [f"{path}:{line_of(workspace.root / path, text)}: " for path, text in lines]

    with pytest.raises(ProjectError) as caught:
        build_definitions(workspace.root)
    assert [place for place in expected if place not in str(caught.value)] == []

    validated = python(
        workspace.root, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"
    )
    said = validated.stdout + validated.stderr
    assert validated.returncode != 0
    assert [place for place in expected if place not in said] == []


def test_dagster_validates_the_workspace(workspace: Workspace) -> None:
    for root in (workspace.root, REPOSITORY):
        validated = python(root, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml")
        said = validated.stdout + validated.stderr
        assert validated.returncode == 0, said
        assert "membrane_sync" in said


def line_of(path: Path, text: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)
