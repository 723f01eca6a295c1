"""`explain` tells each value of an element, and who said it."""

from __future__ import annotations

from pathlib import Path

import pytest

from membrane_sync.errors import NotFound
from membrane_sync.project.explain import Leaf, explain
from membrane_sync.project.project import Project
from tests.project.projects import valid_project, write

UNIVERSAL = "mappings/universal/field_mappings/contacts.yaml"
ACME = "mappings/connections/acme/field_mappings/contacts.yaml"
EMAIL = {"$var": "$.email"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.load(valid_project(tmp_path), {})


def test_each_value_with_its_layer_file_and_line(project: Project) -> None:
    leaves = explain(project, "field_mapping", "contacts", connection="acme")
    assert leaves == [
        Leaf("data_source", "contacts", "universal", UNIVERSAL, 1),
        Leaf("data_schema", "contacts", "universal", UNIVERSAL, 2),
        Leaf("import_value.email", EMAIL, "universal", UNIVERSAL, 4),
        Leaf("import_value.name", {"$var": "$.full_name"}, "connection", ACME, 2),
        Leaf("import_value.address.city", {"$var": "$.city"}, "universal", UNIVERSAL, 7),
    ]


def test_without_a_connection_its_values_are_left_out(project: Project) -> None:
    leaves = explain(project, "field_mapping", "contacts", integration="crm")
    assert {leaf.layer for leaf in leaves} == {"universal"}


def test_items_of_lists_have_an_index(tmp_path: Path) -> None:
    text = "nodes:\n  start:\n    type: api_trigger\n    links:\n      - key: end\n"
    write(tmp_path, {"mappings/universal/flows/hello.yaml": text})
    leaves = explain(Project.load(tmp_path, {}), "flow", "hello")
    assert [leaf.path for leaf in leaves] == ["nodes.start.type", "nodes.start.links[0].key"]
    assert leaves[1].line == 5


def test_elements_of_a_connector(project: Project) -> None:
    leaves = explain(project, "data_collection", "contacts", integration="crm")
    [cursor] = [leaf for leaf in leaves if leaf.path == "list.cursor.field"]
    assert (cursor.value, cursor.layer, cursor.line) == ("$.updated", "connector", 10)


@pytest.mark.parametrize(
    ("kind", "key", "integration", "connection", "says"),
    [
        ("field_maping", "contacts", "", "", "did you mean 'field_mapping'?"),
        ("field_mapping", "contcts", "", "", "did you mean 'contacts'?"),
        ("field_mapping", "x", "crm", "", "declared are: companies, contacts"),
        ("field_mapping", "contacts", "cmr", "", "did you mean 'crm'?"),
        ("field_mapping", "contacts", "", "acne", "did you mean 'acme'?"),
        ("data_collection", "contacts", "", "", "name an integration: crm"),
    ],
)
def test_unknown_names(
    kind: str, key: str, integration: str, connection: str, says: str, project: Project
) -> None:
    with pytest.raises(NotFound) as caught:
        explain(project, kind, key, integration=integration, connection=connection)
    assert says in caught.value.hint


def test_a_connection_that_only_the_ledger_knows(project: Project) -> None:
    leaves = explain(project, "sync", "contacts", integration="crm", connection="globex")
    assert {leaf.layer for leaf in leaves} == {"universal"}
