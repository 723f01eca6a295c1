"""The JSON Schemas that editors use accept every file of this repository, and refuse typos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from membrane_sync.elements import CONNECTOR_KINDS, KINDS, LAYERED_KINDS, folder_of
from membrane_sync.elements.json_schema import DIALECT, json_schema

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted(
    path for folder in ("connectors", "mappings") for path in (REPOSITORY / folder).rglob("*.yaml")
)
FOLDERS = {folder_of(kind): kind for kind in (*CONNECTOR_KINDS, *LAYERED_KINDS, "package")}


def kind_of(path: Path) -> str:
    return FOLDERS.get(path.parent.name, path.stem)


def complaints(kind: str, value: Any, *, partial: bool = False) -> list[str]:
    validator = Draft202012Validator(json_schema(kind, partial=partial))
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.parametrize("kind", [*KINDS, "authentication"])
def test_schemas_are_schemas(kind: str) -> None:
    schema = json_schema(kind)
    assert schema["$schema"] == DIALECT
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_of_the_repository(path: Path) -> None:
    value = yaml.safe_load(path.read_text())
    partial = "universal" not in path.parts and path.parent.name in FOLDERS
    assert complaints(kind_of(path), value, partial=partial) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_with_a_typo(path: Path) -> None:
    value = {**yaml.safe_load(path.read_text()), "nmae": "x"}
    assert complaints(kind_of(path), value)


def test_there_are_files() -> None:
    assert {kind_of(path) for path in FILES} >= {"connector", "data_collection", "package"}


def main_definition(kind: str) -> Any:
    schema = json_schema(kind)
    return schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]


def test_keys_are_spelt_as_in_yaml() -> None:
    assert "list" in main_definition("data_collection")["properties"]
    assert main_definition("data_schema")["required"] == ["schema"]
    for kind in [*KINDS, "authentication"]:
        for definition in json_schema(kind)["$defs"].values():
            for name in definition["properties"]:
                assert name == name.lower().strip("_")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_place_says_is_not_required(kind: str) -> None:
    required = main_definition(kind)["required"]
    assert "key" not in required
    assert kind != "integration" or required == []


def test_descriptions_are_kept() -> None:
    assert main_definition("sync")["description"].startswith("One kind of record kept in sync")
    assert "description" in main_definition("sync")["properties"]["match"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("sync", {"field_mapping": "a", "data_link_table": "a", "delete": "maybe"}),
        ("sync", {"field_mapping": "a"}),
        ("sync", {"field_mapping": "a", "data_link_table": "a", "schedule": {"evry": 1}}),
        ("data_collection", {"list": {"path": "/a", "cursor": {"field": "$.a"}}}),
        ("package", {"syncs": {"a": {"field_mapping": "a", "data_link_table": "a", "x": 1}}}),
        ("package", {"data_schemas": {"a": {}}}),
        ("authentication", {"type": "magic"}),
    ],
)
def test_wrong_values(kind: str, value: Any) -> None:
    assert complaints(kind, value)


def test_packages_may_leave_elements_empty() -> None:
    assert complaints("package", {"data_link_tables": {"contacts": None}}) == []


def test_files_of_other_layers_require_nothing() -> None:
    override = {"match": ["email"], "schedule": {"every_minutes": 5}}
    assert complaints("sync", override)
    assert complaints("sync", override, partial=True) == []
    assert complaints("sync", {"mtch": ["email"]}, partial=True)
