"""One universal mapping serves every app whose connector speaks the unified data model."""

from pathlib import Path
from typing import Any

import pytest

from membrane_sync.errors import NotFound
from membrane_sync.formulas import evaluate
from membrane_sync.project.explain import explain
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors
from membrane_sync.project.resolved_sync import ResolvedSync
from tests.project.projects import write

CONTACTS = """
data_schemas:
  contacts:
    schema:
      properties:
        {email: {type: string}, name: {type: string}, first: {type: string}, stage: {type: string}}
    table: {name: contacts, create: true}
data_sources:
  contacts: {udm: contacts}
field_mappings:
  contacts:
    data_source: contacts
    data_schema: contacts
    unified_import_value:
      email: {$var: $.primaryEmail}
      name: {$concat: {values: [{$var: $.firstName}, {$var: $.lastName}], delimiter: " "}}
      first: {$var: $.firstName}
      stage: {$var: $.stage}
data_link_tables: {contacts: {}}
syncs:
  contacts: {field_mapping: contacts, data_link_table: contacts}
"""

LISTED = "list: {path: /people}\n"


def project(root: Path, maps: dict[str, str], **files: str) -> Project:
    """A project with an app for each map of `unified_data_models`."""
    write(root, {"mappings/universal/packages/contacts.yaml": CONTACTS, **files})
    for app, unified in maps.items():
        write(
            root,
            {
                f"connectors/{app}/connector.yaml": f"base_url: https://{app}.example\n{unified}",
                f"connectors/{app}/data_collections/people.yaml": LISTED,
                f"mappings/integrations/{app}/integration.yaml": "",
            },
        )
    return Project.load(root)


def resolved(found: Project, app: str) -> ResolvedSync:
    sync = found.sync("contacts", app)
    assert sync is not None
    return sync


def imported(found: Project, app: str, record: dict[str, Any]) -> Any:
    return evaluate(resolved(found, app).mapping.import_value, record)


SPLIT = """
unified_data_models:
  contacts:
    collection_mappings:
      - key: people
        parameters: {kind: person}
        fields_from_collection:
          primaryEmail: {$var: $.mail}
          firstName: {$var: $.given}
          lastName: {$var: $.family}
"""
WHOLE = """
unified_data_models:
  contacts:
    default_collection: people
    collection_mappings:
      - key: people
        fields_from_collection: {fullName: {$var: $.n}, emails: {$var: $.mails}}
"""
LEADS_ONLY = """
unified_data_models:
  contacts:
    collection_mappings: [{key: people, fields_from_collection: {primaryEmail: {$var: $.e}}}]
"""


def test_each_app_gives_what_it_has(tmp_path: Path) -> None:
    found = project(tmp_path, {"split": SPLIT, "whole": WHOLE})
    assert errors(check(found)) == []
    ada = {"mail": "ada@x", "given": "Ada", "family": "Lovelace"}
    assert imported(found, "split", ada) == {
        "email": "ada@x",
        "name": "Ada Lovelace",
        "first": "Ada",
    }
    assert resolved(found, "split").source.collection_parameters == {"kind": "person"}
    # What the app lacks, other fields of the model can give.
    grace = {"n": "Grace Hopper", "mails": [{"value": "grace@x"}]}
    assert imported(found, "whole", grace) == {
        "email": "grace@x",
        "name": "Grace Hopper",
        "first": "Grace",
    }


def test_an_app_may_say_its_own(tmp_path: Path) -> None:
    path = "mappings/integrations/split/field_mappings/contacts.yaml"
    own = {path: "import_value: {email: {$var: $.m2}}\n"}
    found = project(tmp_path, {"split": SPLIT}, **own)
    assert imported(found, "split", {"m2": "x", "mail": "y"}) == {"email": "x"}


def test_another_model_can_stand_in(tmp_path: Path) -> None:
    leads = {"mappings/universal/data_sources/contacts.yaml": "udm: leads\n"}
    write(tmp_path, leads)
    text = CONTACTS.replace("data_sources:\n  contacts: {udm: contacts}\n", "")
    found = project(
        tmp_path, {"app": LEADS_ONLY}, **{"mappings/universal/packages/contacts.yaml": text}
    )
    assert imported(found, "app", {"e": "ada@x"}) == {"email": "ada@x"}


TASKS_ONLY = """
unified_data_models:
  tasks:
    collection_mappings:
      - key: people
        fields_from_collection: {id: {$var: $.i}, subject: {$var: $.s}, ownerId: {$var: $.o.id}}
        fields_to_collection:
          {s: {$var: $.subject}, o: {id: {$var: $.ownerId}}, p: {$var: $.priority}}
"""
ACTIVITIES = """
data_schemas: {contacts: {schema: {type: object, additionalProperties: true}}}
data_sources: {contacts: {udm: activities}}
field_mappings:
  contacts:
    data_source: contacts
    data_schema: contacts
    unified_import_value:
      {id: {$var: $.id}, title: {$var: $.title}, owner: {$var: $.ownerId}, s: {$var: $.subject}}
    unified_export_value: {title: {$var: $.title}, ownerId: {$var: $.owner}, priority: high}
data_link_tables: {contacts: {}}
syncs: {contacts: {field_mapping: contacts, data_link_table: contacts}}
"""


def test_what_a_model_that_stands_in_has_by_the_same_name_is_kept(tmp_path: Path) -> None:
    """A task has an owner as an activity has; its subject is the title, its priority nothing."""
    found = project(
        tmp_path, {"app": TASKS_ONLY}, **{"mappings/universal/packages/contacts.yaml": ACTIVITIES}
    )
    record = {"i": "1", "s": "Call", "o": {"id": "o1"}}
    assert imported(found, "app", record) == {"id": "1", "title": "Call", "owner": "o1"}
    assert exported(found, "app", {"title": "Call", "owner": "o1"}) == {
        "s": "Call",
        "o": {"id": "o1"},
    }


def test_an_own_model_lies_over_the_packages_and_an_unknown_one_is_said(tmp_path: Path) -> None:
    own = "singular_name: person\nfield_fallbacks: {firstName: {$remove: true}}\n"
    file = "mappings/universal/unified_data_models/contacts.yaml"
    found = project(tmp_path, {"whole": WHOLE}, **{file: own})
    model = found.unified_data_model("contacts")
    assert model is not None and model.singular_name == "person"
    assert {"firstName", "lastName"} & {*model.field_fallbacks} == {"lastName"}
    assert "primaryEmail" in model.fields_schema["properties"]
    whole = imported(found, "whole", {"n": "Ada Lovelace", "mails": [{"value": "ada@x"}]})
    assert whole == {"email": "ada@x", "name": "Lovelace"}
    assert found.unified_data_model("nonsense") is None


def test_explain_shows_the_packages_models(tmp_path: Path) -> None:
    file = "mappings/universal/unified_data_models/notes.yaml"
    found = project(tmp_path, {}, **{file: "singular_name: memo\n"})
    leaves = {leaf.path: leaf for leaf in explain(found, "unified_data_model", "notes")}
    named, content = leaves["singular_name"], leaves["fields_schema.properties.content.type"]
    assert (named.value, named.layer, named.file) == ("memo", "universal", file)
    assert (content.layer, content.file) == ("built-in", "membrane_sync/udm/notes.yaml")
    with pytest.raises(NotFound) as error:
        explain(found, "unified_data_model", "contact")
    assert "'contacts'" in error.value.hint


def test_an_app_without_the_model_takes_no_part(tmp_path: Path) -> None:
    found = project(tmp_path, {"whole": WHOLE, "other": ""})
    assert found.sync("contacts", "other") is None
    assert errors(check(found)) == []


EXPORT = CONTACTS.replace(
    "    unified_import_value:",
    """    unified_export_value:
      primaryEmail: {$var: $.email}
      fullName: {$var: $.name}
      stage: {$map: {value: {$var: $.stage}, mapping: [{from: vip, to: customer}]}}
    unified_import_value:""",
)
TO_SPLIT = """
unified_data_models:
  contacts:
    collection_mappings:
      - key: people
        fields_from_collection: {primaryEmail: {$var: $.mail}}
        fields_to_collection:
          mail: {$var: $.primaryEmail}
          given: {$var: $.firstName}
          family: {$upper: {$var: $.lastName}}
          phone: {$var: $.primaryPhone}
"""


def exported(found: Project, app: str, record: dict[str, Any]) -> Any:
    return evaluate(resolved(found, app).mapping.export_value, record)


def test_an_export_through_a_model(tmp_path: Path) -> None:
    package = {"mappings/universal/packages/contacts.yaml": EXPORT}
    same = "\nunified_data_models: {contacts: {default_collection: people}}\n"
    found = project(tmp_path, {"split": TO_SPLIT, "same": same}, **package)
    assert errors(check(found)) == []
    ada = {"email": "ada@x", "name": "Ada Lovelace", "stage": "vip"}
    # What the mapping doesn't give, other fields of the model can; the phone nobody has.
    expected = {"mail": "ada@x", "given": "Ada", "family": "LOVELACE"}
    assert exported(found, "split", ada) == expected
    expected = {"primaryEmail": "ada@x", "fullName": "Ada Lovelace", "stage": "customer"}
    assert exported(found, "same", ada) == expected


def test_an_export_that_the_app_says_itself(tmp_path: Path) -> None:
    path = "mappings/integrations/split/field_mappings/contacts.yaml"
    own = {
        "mappings/universal/packages/contacts.yaml": EXPORT,
        path: "export_value: {mail: {$var: $.m}}\n",
    }
    found = project(tmp_path, {"split": TO_SPLIT}, **own)
    assert exported(found, "split", {"m": 1, "email": 2}) == {"mail": 1}


def test_an_export_through_a_model_that_stands_in(tmp_path: Path) -> None:
    """What becomes an activity over there is a task: its subject is the title."""
    unified = """
unified_data_models:
  tasks: {collection_mappings: [{key: people, fields_to_collection: {t: {$var: $.subject}}}]}
"""
    package = EXPORT.replace("udm: contacts", "udm: activities").replace("fullName:", "title:")
    found = project(
        tmp_path, {"app": unified}, **{"mappings/universal/packages/contacts.yaml": package}
    )
    assert exported(found, "app", {"name": "Call Ada"}) == {"t": "Call Ada"}
