"""The project gives elements as an integration or a connection sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import NotFound, ProjectError
from membrane_sync.project.project import Project
from membrane_sync.project.validation import Invalid
from tests.project.projects import edit, project_of, valid_project, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The valid project with a second app, which offers other collections."""
    write(
        valid_project(tmp_path),
        {
            "connectors/shop/connector.yaml": "base_url: https://shop.example\n",
            "connectors/shop/data_collections/orders.yaml": "list: {path: /orders}\n",
            "mappings/integrations/store/integration.yaml": "connector: shop\n",
        },
    )
    return tmp_path


def load(root: Path) -> Project:
    return Project.load(root, {})


def test_get_gives_the_connections_own_formula_and_the_rest_of_the_mapping(root: Path) -> None:
    project = load(root)
    universal = project.get(FieldMapping, "contacts")
    own = project.get(FieldMapping, "contacts", integration="crm", connection="acme")
    assert own.import_value["name"] == {"$var": "$.full_name"}
    assert own.import_value["email"] == universal.import_value["email"]
    assert "$concat" in universal.import_value["name"]
    other = project.get(FieldMapping, "contacts", integration="crm", connection="other")
    assert other == universal


def test_get_names_the_nearest_key(root: Path) -> None:
    with pytest.raises(NotFound, match="there is no field_mapping 'contcts'") as caught:
        load(root).get(FieldMapping, "contcts")
    assert caught.value.hint == "did you mean 'contacts'?"


def test_get_lists_what_is_declared_where_nothing_is_near(root: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load(root).get(DataCollection, "x", integration="store")
    assert caught.value.hint == "declared are: orders"


def test_find_gives_none_for_what_no_layer_has(root: Path) -> None:
    project = load(root)
    assert project.find("sync", "deals") is None
    assert project.block("sync", "deals") is None
    assert project.find("data_collection", "contacts", integration="store") is None


def test_find_remembers_what_it_resolved(root: Path) -> None:
    project = load(root)
    assert project.find("sync", "contacts") is project.find("sync", "contacts")


def test_find_raises_all_problems_of_an_element(root: Path) -> None:
    text = "field_mapping: 1\ndata_link_table: contacts\nmatch: email\n"
    write(root, {"mappings/universal/syncs/contacts.yaml": text})
    with pytest.raises(Invalid) as caught:
        load(root).find("sync", "contacts")
    assert [problem.line for problem in caught.value.problems] == [1, 3]
    assert isinstance(caught.value, ProjectError)


def test_keys_of_the_layers_in_question(root: Path) -> None:
    write(
        root,
        {
            "mappings/integrations/crm/data_sources/deals.yaml": "collection_key: deals\n",
            "mappings/connections/acme/data_sources/notes.yaml": "collection_key: notes\n",
        },
    )
    project = load(root)
    assert project.keys("data_source") == ["companies", "contacts"]
    assert project.keys("data_source", "crm") == ["companies", "contacts", "deals"]
    assert project.keys("data_source", "crm", "acme") == ["companies", "contacts", "deals", "notes"]
    assert project.keys("data_source", "store") == ["companies", "contacts"]
    assert project.keys("data_collection", "store") == ["orders"]
    assert project.keys("integration") == project.integrations == ["crm", "store"]
    assert project.keys("connection") == project.connections == ["acme"]


def test_sync_is_resolved_with_all_its_elements(root: Path) -> None:
    sync = load(root).sync("contacts", "crm", "acme")
    assert sync is not None
    assert sync.sync.key == sync.mapping.key == sync.links.key == "contacts"
    assert sync.collection.key == sync.source.collection_key == "contacts"
    assert sync.connector.name == "CRM"
    assert sync.schema is not None
    assert sync.schema.table is not None
    assert sync.stream == "contacts"
    assert sync.mapping.import_value["name"] == {"$var": "$.full_name"}


def test_sync_is_none_where_the_app_has_no_such_collection(root: Path) -> None:
    project = load(root)
    assert project.sync("contacts", "store") is None
    assert [sync.sync.key for sync in project.syncs("store")] == []
    assert [sync.sync.key for sync in project.syncs("crm")] == ["contacts"]


@pytest.mark.parametrize("layer", ["universal", "integrations/crm", "connections/acme"])
def test_sync_is_none_where_any_layer_disables_it(layer: str, root: Path) -> None:
    path = root / f"mappings/{layer}/syncs/contacts.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("enabled: false\n")
    assert load(root).syncs("crm", "acme") == []


@pytest.mark.parametrize(("named", "offered"), [("[crm]", 1), ("[store]", 0), ("[]", 0)])
def test_sync_is_for_the_integrations_it_names(named: str, offered: int, root: Path) -> None:
    text = {"match: [email]": f"integrations: {named}"}
    edit(root, {"mappings/universal/syncs/contacts.yaml": text})
    assert len(load(root).syncs("crm")) == offered


def test_sync_is_none_for_a_list_that_is_masked(root: Path) -> None:
    write(
        root,
        {"connectors/crm/data_collections/contacts.yaml": "list: {not_supported: true}\n"},
    )
    assert load(root).sync("contacts", "crm") is None


def test_sync_names_what_is_missing(root: Path) -> None:
    text = {"field_mapping: contacts": "field_mapping: people"}
    edit(root, {"mappings/universal/syncs/contacts.yaml": text})
    with pytest.raises(NotFound, match="field_mapping 'people'"):
        load(root).sync("contacts", "crm")


def test_connections_layer_may_change_the_sync_itself(root: Path) -> None:
    write(root, {"mappings/connections/acme/syncs/contacts.yaml": "match: [name]\n"})
    project = load(root)
    assert project.get(Sync, "contacts", integration="crm").match == ["email"]
    sync = project.sync("contacts", "crm", "acme")
    assert sync is not None
    assert sync.sync.match == ["name"]


def test_parameters_of_a_source_make_a_stream_of_their_own(root: Path) -> None:
    text = "collection_key: contacts\ncollection_parameters: {list: 7}\n"
    write(root, {"mappings/connections/acme/data_sources/contacts.yaml": text})
    project = load(root)
    plain, own = project.sync("contacts", "crm"), project.sync("contacts", "crm", "acme")
    assert plain is not None
    assert own is not None
    assert plain.stream == "contacts"
    assert own.stream.startswith("contacts__")


def test_version_changes_with_the_formulas_and_not_with_words(root: Path) -> None:
    before = load(root).sync("contacts", "crm")
    write(root, {"mappings/integrations/crm/field_mappings/contacts.yaml": "description: Ours\n"})
    described = load(root).sync("contacts", "crm")
    own = load(root).sync("contacts", "crm", "acme")
    assert before is not None
    assert described is not None
    assert own is not None
    assert described.version == before.version
    assert own.version != before.version


def test_a_formula_of_200_levels_has_a_version(root: Path) -> None:
    formula = "{$concat: [" * 200 + "{$var: $.name}" + "]}" * 200
    text = f"import_value: {{name: {formula}}}\n"
    write(root, {"mappings/integrations/crm/field_mappings/contacts.yaml": text})
    sync = load(root).sync("contacts", "crm")
    assert sync is not None and sync.version


def test_collection_by_unified_data_model(tmp_path: Path) -> None:
    connector = """\
        base_url: https://crm.example
        unified_data_models:
          contacts: {collection_mappings: [{key: leads}, {key: people}]}
          companies: {default_collection: firms, collection_mappings: [{key: leads}]}
        """
    files = {
        "connectors/crm/connector.yaml": connector,
        **{
            f"connectors/crm/data_collections/{name}.yaml": "list: {path: /x}\n"
            for name in ("leads", "people", "firms")
        },
        "mappings/integrations/crm/integration.yaml": "",
        "mappings/universal/data_sources/contacts.yaml": "udm: contacts\n",
        "mappings/universal/data_sources/companies.yaml": "udm: companies\n",
        "mappings/universal/data_sources/deals.yaml": "udm: deals\n",
    }
    project = project_of(tmp_path, files)
    found: dict[str, Any] = {
        key: project.collection_of("crm", project.find("data_source", key))  # type: ignore[arg-type]
        for key in project.keys("data_source")
    }
    keys = {key: collection and collection.key for key, collection in found.items()}
    assert keys == {"contacts": "leads", "companies": "firms", "deals": None}


def test_connection_says_what_its_file_says(root: Path) -> None:
    project = load(root)
    connection = project.connection("acme")
    assert connection is not None
    assert (connection.integration, connection.tenant) == ("crm", "acme")
    assert project.connection("other") is None


def test_two_integrations_of_one_app(root: Path) -> None:
    text = "connector: crm\nparameters: {region: eu}\n"
    write(root, {"mappings/integrations/crm_eu/integration.yaml": text})
    project = load(root)
    assert project.connector("crm_eu") == project.connector("crm")
    assert project.integration("crm_eu").parameters == {"region": "eu"}
    assert [sync.sync.key for sync in project.syncs("crm_eu")] == ["contacts"]
