"""`check` says everything that's wrong: the file, the line, the words, and nothing twice.

The cases are data: each changes the valid project in `valid/` and lists every problem it then has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from membrane_sync.errors import ProjectError
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors
from membrane_sync.project.settings import load_settings
from tests.project.projects import edit, valid_project, write

CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted((Path(__file__).parent / "cases").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("case", CASES)
def test_broken_project(case: dict[str, Any], tmp_path: Path) -> None:
    root = valid_project(tmp_path)
    write(root, case.get("write", {}))
    edit(root, case.get("edit", {}))
    problems = check(Project.load(root, {}))
    found = [f"{problem.file}:{problem.line} {problem.severity}" for problem in problems]
    listing = "\n".join(map(str, problems))
    expected = case["problems"]
    assert found == [f"{p['at']} {p.get('severity', 'error')}" for p in expected], listing
    for problem, wanted in zip(problems, expected, strict=True):
        for words in wanted["says"]:
            assert words in problem.message, listing


def test_there_are_enough_kinds_of_broken_projects() -> None:
    names = [case.values[0]["name"] for case in CASES]
    assert len(names) == len(set(names)) >= 35


def test_valid_project_has_no_problem(tmp_path: Path) -> None:
    assert check(Project.load(valid_project(tmp_path), {})) == []


def test_problems_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    root = valid_project(tmp_path)
    edit(
        root,
        {
            "pyproject.toml": {"data_dir": "data_dri"},
            "connectors/crm/connector.yaml": {"type: bearer": "type: bearr"},
            "mappings/universal/field_mappings/contacts.yaml": {
                "data_source: contacts": "data_source: contcts",
                "$concat": "$concta",
            },
            "mappings/universal/syncs/contacts.yaml": {"delete: hard": "delet: hard"},
            "mappings/connections/acme/field_mappings/contacts.yaml": {"name:": "nme:"},
        },
    )
    write(root, {"mappings/universal/data_sources/broken.yaml": "a: ["})
    places = [f"{problem.file}:{problem.line}" for problem in check(Project.load(root, {}))]
    assert places == [
        "connectors/crm/connector.yaml:4",
        "mappings/connections/acme/field_mappings/contacts.yaml:2",
        "mappings/universal/data_sources/broken.yaml:2",
        "mappings/universal/field_mappings/contacts.yaml:1",
        "mappings/universal/field_mappings/contacts.yaml:5",
        "mappings/universal/syncs/contacts.yaml:8",
        "pyproject.toml:5",
    ]


def test_not_utf8(tmp_path: Path) -> None:
    root = valid_project(tmp_path)
    path = root / "mappings/universal/syncs/contacts.yaml"
    path.write_bytes(path.read_bytes() + "name: Kontakte für Ä\n".encode("latin-1"))
    [problem] = check(Project.load(root, {}))
    assert (problem.file, problem.line) == ("mappings/universal/syncs/contacts.yaml", 9)
    assert "not UTF-8" in problem.message


def test_key_in_both_spellings(tmp_path: Path) -> None:
    root = valid_project(tmp_path)
    path = root / "mappings/universal/syncs/contacts.yaml"
    path.write_text(path.read_text() + "fieldMapping: companies\n")
    [problem] = check(Project.load(root, {}))
    assert (problem.line, "'field_mapping', which is already in line 1" in problem.message) == (
        9,
        True,
    )


def test_parts_that_are_there_may_be_named_by_any_layer(tmp_path: Path) -> None:
    """A universal sync may name a mapping that each integration declares by itself."""
    root = valid_project(tmp_path)
    mapping = "mappings/universal/field_mappings/contacts.yaml"
    text = (root / mapping).read_text()
    write(root, {mapping: None, "mappings/integrations/crm/field_mappings/contacts.yaml": text})
    assert check(Project.load(root, {})) == []


def test_layers_complete_each_other(tmp_path: Path) -> None:
    """What's required may come from any layer."""
    root = valid_project(tmp_path)
    edit(root, {"mappings/universal/syncs/contacts.yaml": {"data_link_table: contacts\n": ""}})
    write(root, {"mappings/integrations/crm/syncs/contacts.yaml": "data_link_table: contacts"})
    assert check(Project.load(root, {})) == []


def test_environment_variable_in_parameters(tmp_path: Path) -> None:
    root = valid_project(tmp_path)
    text = "parameters:\n  scopes: [a]\n  client_secret: ${CRM_SECRET}\n"
    write(root, {"mappings/integrations/crm/integration.yaml": text})
    [problem] = check(Project.load(root, {}))
    assert (problem.line, "${CRM_SECRET} is not set" in problem.message) == (3, True)
    project = Project.load(root, {"CRM_SECRET": "s3cret"})
    assert check(project) == []
    integration = project.integration("crm")
    assert integration.parameters == {"scopes": ["a"], "client_secret": "s3cret"}
    assert "s3cret" not in repr(integration)


def test_errors_leaves_warnings_out(tmp_path: Path) -> None:
    root = valid_project(tmp_path)
    write(root, {"mappings/universal/actions/ping.yaml": "type: http_request"})
    [problem] = check(Project.load(root, {}))
    assert problem.severity == "warning"
    assert errors([problem]) == []


def test_load_settings_raises_all_their_problems(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": '[tool.membrane_sync]\nx = 1\ndatabases = {crm = "${NO}"}'})
    with pytest.raises(ProjectError) as caught:
        load_settings(tmp_path, {})
    assert [problem.line for problem in caught.value.problems] == [3, 2]
