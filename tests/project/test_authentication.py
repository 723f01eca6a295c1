"""Options made whole, offered or not; and what people type in against the schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from membrane_sync.errors import Fatal, InvalidInput, NotFound
from membrane_sync.project.authentication import access, accesses, parameters_schema
from membrane_sync.project.inputs import checked_input
from membrane_sync.project.project import Project
from tests.project.projects import project_of

CONNECTOR = """\
base_url: https://app.test
test: {path: /me}
parameters_schema: {properties: {region: {type: string}}, required: [region]}
authentication:
  title: App
  prefix: "Key "
  input_schema:
    properties: {site: {type: string}}
    required: [site]
  oauth2:
    authorize_url: https://app.test/allow
    token_url: https://app.test/token
    scopes: [read]
  options:
    oauth:
      type: oauth2
      title: Log in
      oauth2: {scopes: [read, write]}
      parameters_schema: {properties: {client_id: {type: string}}, required: [client_id]}
      enabled: {$var: $.parameters.client_id}
    key:
      type: api_key
      token: {$var: $.credentials.key}
      input_schema:
        properties: {key: {type: string, isSensitive: true}}
        required: [key]
      test: {path: /key}
"""


def project(root: Path, integration: str = "parameters: {region: eu}\n") -> Project:
    return project_of(
        root,
        {
            "connectors/app/connector.yaml": CONNECTOR,
            "mappings/integrations/app/integration.yaml": integration,
        },
    )


def test_an_option_falls_back_to_what_is_beside_it(tmp_path: Path) -> None:
    found = access(project(tmp_path), "app", "oauth")
    declared = found.authentication
    assert (declared.type, declared.title, declared.prefix) == ("oauth2", "Log in", "Key ")
    assert declared.oauth2 is not None
    assert declared.oauth2.token_url == "https://app.test/token"
    assert declared.oauth2.scopes == ["read", "write"]
    assert found.connector.test is not None
    assert found.connector.test.path == "/me"
    assert not found.connector.authentication.options


def test_schemas_become_one(tmp_path: Path) -> None:
    found = access(project(tmp_path), "app", "key")
    schema = found.authentication.input_schema
    assert list(schema["properties"]) == ["site", "key"]
    assert list(schema["required"]) == ["site", "key"]
    assert found.connector.test is not None
    assert found.connector.test.path == "/key"
    oauth = access(project(tmp_path), "app", "oauth").connector
    assert parameters_schema(oauth)["required"] == ["region", "client_id"]


@pytest.mark.parametrize(
    ("integration", "offered"),
    [
        ("parameters: {region: eu}\n", ["key"]),
        ("parameters: {region: eu, client_id: c}\n", ["oauth", "key"]),
        ("authentication_options: {oauth: {parameters: {client_id: c}}}\n", ["oauth", "key"]),
        ("authentication_options: {key: {disabled: true}}\n", []),
        (
            "parameters: {client_id: c}\nauthentication_options: {key: {disabled: true}}\n",
            ["oauth"],
        ),
    ],
)
def test_what_is_offered(tmp_path: Path, integration: str, offered: list[str]) -> None:
    assert [a.option for a in accesses(project(tmp_path, integration), "app")] == offered


def test_the_only_one_need_not_be_named(tmp_path: Path) -> None:
    assert access(project(tmp_path), "app").option == "key"
    both = project(tmp_path / "both", "parameters: {region: eu, client_id: c}\n")
    with pytest.raises(Fatal, match="offers several ways: oauth, key"):
        access(both, "app")
    none = project(tmp_path / "none", "authentication_options: {key: {disabled: true}}\n")
    with pytest.raises(Fatal, match="offers no way"):
        access(none, "app")
    with pytest.raises(NotFound, match="no authentication option 'keys'") as caught:
        access(both, "app", "keys")
    assert "'key'" in caught.value.hint


def test_who_uses_a_disabled_option_goes_on(tmp_path: Path) -> None:
    found = access(
        project(tmp_path, "authentication_options: {key: {disabled: true, parameters: {a: 1}}}\n"),
        "app",
        "key",
    )
    assert not found.offered
    assert found.parameters == {"a": 1}


def test_an_options_parameters_take_variables(tmp_path: Path) -> None:
    given = "authentication_options: {oauth: {parameters: {client_id: '${CLIENT}'}}}\n"
    loaded = Project.load(project(tmp_path, given).root, {"CLIENT": "planted-client"})
    found = access(loaded, "app", "oauth")
    assert found.parameters["client_id"] == "planted-client"
    assert "planted" not in repr(found)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "site": {"type": "string", "pattern": "^[a-z]+$"},
        "pages": {"type": "integer", "default": 5},
        "beta": {"type": "boolean"},
        "email": {"type": "string", "format": "email"},
        "level": {"type": "string", "enum": ["low", "high"]},
    },
    "required": ["site", "level"],
}


def test_typed_values_get_their_types() -> None:
    given = {"site": "acme", "pages": "7", "beta": "true", "email": "", "level": "low"}
    assert checked_input(SCHEMA, given) == {
        "site": "acme",
        "pages": 7,
        "beta": True,
        "level": "low",
    }
    assert checked_input(SCHEMA, {"site": "acme", "level": "high"})["pages"] == 5
    assert checked_input({}, {}) == {}


def test_all_that_is_wrong_is_said_and_no_value() -> None:
    given = {"site": "Planted!", "pages": "planted", "email": "planted", "levl": "planted"}
    with pytest.raises(InvalidInput) as caught:
        checked_input(SCHEMA, given)
    assert set(caught.value.fields) == {"site", "pages", "email", "level", "levl"}
    assert caught.value.fields["level"] == "is required"
    assert caught.value.fields["pages"] == "should be integer, is text"
    assert "did you mean 'level'?" in caught.value.fields["levl"]
    assert "lanted" not in str(caught.value)


def test_without_a_schema_nothing_is_asked_for() -> None:
    with pytest.raises(InvalidInput, match="is not asked for"):
        checked_input({}, {"token": "planted"})
