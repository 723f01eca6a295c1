"""A tenant's own values through the commands: they reach the product, and go again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from membrane_sync.apps.kinto import Kinto
from membrane_sync.cli.main import app
from membrane_sync.cli.output import Exit
from tests.cli.test_cli import Cli
from tests.docs.pages import sections, text_of
from tests.end_to_end.helpers import Tenant, Workspace, new_workspace, person

CITY = ("field_mapping", "contacts", "import_value.city")
PACKAGE = "mappings/universal/packages/contacts.yaml"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MEMBRANE_LEDGER_URL", raising=False)
    return new_workspace(tmp_path / "project")


@pytest.fixture
def cli(workspace: Workspace) -> Cli:
    return Cli(workspace.root)


@pytest.fixture
def tenants(workspace: Workspace, kinto: Kinto) -> list[Tenant]:
    """Two customers, connected and with the same records."""
    made = [Tenant(kinto), Tenant(kinto)]
    for tenant in made:
        tenant.write(person(n) for n in range(1, 6))
        workspace.connect(tenant.connection)
    return made


def delivered(workspace: Workspace, tenant: Tenant, field: str) -> set[Any]:
    workspace.__dict__.pop("runtime", None)
    rows = workspace.delivered(tenant.connection.key).values()
    return {row[field] for row in rows}


def test_an_override_changes_what_is_delivered_for_its_connection_alone(
    cli: Cli, workspace: Workspace, tenants: list[Tenant]
) -> None:
    mine, other = tenants
    key = mine.connection.key
    assert cli("sync", "contacts").exit_code == Exit.DONE
    before = {tenant.name: delivered(workspace, tenant, "city") for tenant in tenants}
    assert before[mine.name] == before[other.name] != {"SE"}

    [made] = cli.json("override", "set", *CITY, "{$var: $.address.country}", "-c", key)
    assert made["path"] == "import_value.city"
    reports = {r["connection"]: r for r in cli.json("sync", "contacts")["reports"]}
    assert (reports[key]["pulled"], reports[key]["delivered"] > 0) == (0, True)
    assert reports[other.connection.key]["delivered"] == 0
    assert delivered(workspace, mine, "city") == {"SE", None}
    assert delivered(workspace, other, "city") == before[other.name]

    assert cli.json("override", "reset", *CITY, "-c", key) == {"reset": 1}
    assert cli("sync", "contacts").exit_code == Exit.DONE
    assert delivered(workspace, mine, "city") == before[mine.name]


def test_another_instance_is_a_sync_of_its_own(
    cli: Cli, workspace: Workspace, tenants: list[Tenant]
) -> None:
    key = tenants[0].connection.key
    assert cli("sync", "contacts", "-c", key).exit_code == Exit.DONE
    cli.json("override", "set", *CITY, "HQ", "-c", key, "--instance", "emea")
    [made] = cli.json("sync", "contacts", "-c", key, "--instance", "emea")["reports"]
    assert (made["sync"], made["delivered"], made["created"]) == ("contacts@emea", 5, 0)
    both = cli.json("sync", "contacts", "-c", key)["reports"]
    assert [(r["sync"], r["delivered"]) for r in both] == [("contacts", 0), ("contacts@emea", 0)]
    cities = [row["city"] for row in workspace.rows() if row["connection"] == key]
    assert len(cities) == 10 and cities.count("HQ") == 5, "each instance has rows of its own"
    lake = workspace.runtime.lake(workspace.runtime.ledger.connection(key))
    links = lake.select("SELECT instance_key, count(DISTINCT app_id) AS n FROM links GROUP BY 1")
    assert sorted(tuple(row.values()) for row in links.to_pylist()) == [("default", 5), ("emea", 5)]
    lake.close()
    shown = {
        s.sync: (s.records, s.links) for s in workspace.runtime.overview() if s.connection == key
    }
    assert shown["contacts@emea"] == shown["contacts"] == (5, 5)
    wrong = cli("sync", "contacts", "-c", key, "--instance", "emae")
    assert wrong.exit_code == Exit.FAILED and "contacts@emea" in wrong.stderr
    [other] = cli.json("sync", "contacts", "-c", tenants[1].connection.key)["reports"]
    assert other["sync"] == "contacts", "another connection has no such instance"


def test_a_removed_field_is_delivered_empty(
    cli: Cli, workspace: Workspace, tenants: list[Tenant]
) -> None:
    mine, other = tenants
    result = cli("override", "set", *CITY, "{$remove: true}", "-c", mine.connection.key)
    assert "removed import_value.city" in result.stdout
    assert cli("sync", "contacts").exit_code == Exit.DONE
    assert delivered(workspace, mine, "city") == {None}
    assert delivered(workspace, other, "city") != {None}


def test_list_and_explain_show_overrides_and_conflicts(
    cli: Cli, workspace: Workspace, tenants: list[Tenant]
) -> None:
    key = tenants[0].connection.key
    cli("override", "set", *CITY, "Oslo", "-c", key)
    cli("override", "set", "sync", "contacts", "delete", "soft", "--connection", key)
    cli("override", "set", *CITY, "Rome", "-c", key, "--instance", "second")
    rows = cli.json("override", "list", "-c", key)
    assert [(r["line"], r["instance"], r["path"], r["value"]) for r in rows] == [
        (1, "default", "import_value.city", "Oslo"),
        (2, "second", "import_value.city", "Rome"),
    ]
    assert cli.json("override", "list", "-c", key, "--conflicts") == []
    assert cli("override", "list", "-c", tenants[1].connection.key).stdout == "no overrides\n"

    workspace.replace(PACKAGE, "{$var: $.address.city}", "{$var: $.town}")
    conflicts = cli.json("override", "list", "-c", key, "--conflicts")
    assert [row["line"] for row in conflicts] == [1, 2]
    assert '{"$var": "$.town"}' in conflicts[0]["conflict"]
    table = cli("override", "list", "-c", key).stdout
    assert "conflict in line 1, import_value.city: the files have changed here too" in table
    leaves = cli.json("explain", "field_mapping", "contacts", "-c", key)
    [leaf] = [leaf for leaf in leaves if leaf["layer"] == "override"]
    assert (leaf["path"], leaf["value"], leaf["file"], leaf["line"]) == (
        "import_value.city",
        "Oslo",
        "ledger",
        1,
    )
    assert leaf["conflict"] == conflicts[0]["conflict"]
    assert "conflict: the files" in cli("explain", "field_mapping", "contacts", "-c", key).stdout
    second = cli.json("explain", "field_mapping", "contacts", "-c", key, "--instance", "second")
    assert [leaf["value"] for leaf in second if leaf["layer"] == "override"] == ["Rome"]


def test_what_cannot_be_overridden_is_refused(cli: Cli, tenants: list[Tenant]) -> None:
    key = tenants[0].connection.key
    for arguments, says, code in [
        ([*CITY, "{$vra: $.x}"], "$vra is no operator", Exit.PROJECT),
        ([*CITY, "{$var: "], "not YAML", Exit.PROJECT),
        (["field_mapping", "contcats", "name", "x"], "did you mean 'contacts'?", Exit.FAILED),
    ]:
        result = cli("override", "set", *arguments, "-c", key)
        assert (result.exit_code, says in result.stderr) == (code, True), result.output
    result = cli("override", "set", *CITY, "{$vra: $.x}", "-c", key, "--json")
    assert json.loads(result.stdout)["error"]["code"] == "override_refused"
    assert cli("override", "set", *CITY, "x", "-c", "nobody").exit_code == Exit.FAILED
    assert cli("override", "set", *CITY, "x").exit_code == Exit.USAGE
    assert cli("override", "list", "-c", "nobody").exit_code == Exit.FAILED
    result = cli("override", "reset", *CITY, "-c", key)
    assert (result.exit_code, "override list" in result.stderr) == (Exit.FAILED, True)
    assert cli.json("override", "list", "-c", key) == []


def test_reset_of_all_of_an_element(cli: Cli, tenants: list[Tenant]) -> None:
    key = tenants[0].connection.key
    cli(
        "override",
        "set",
        "field_mapping",
        "contacts",
        "import_value",
        "{city: a, phone: b}",
        "-c",
        key,
    )
    cli("override", "set", "data_source", "contacts", "name", "People", "-c", key)
    result = cli("override", "reset", "field_mapping", "contacts", "-c", key)
    assert "dropped 2 overrides" in result.stdout
    assert [row["kind"] for row in cli.json("override", "list", "-c", key)] == ["data_source"]


@pytest.mark.parametrize("group", ["override", "import"])
def test_every_subcommand_is_described_with_all_its_options(group: str) -> None:
    described = dict(sections(text_of("cli.md"), 3))
    commands = typer.main.get_group(app).commands[group].commands  # type: ignore[attr-defined]
    assert commands
    for name, command in commands.items():
        section = described[f"`membrane {group} {name}`"]
        for parameter in command.params:
            names = parameter.opts if parameter.param_type_name == "option" else []
            names = names or [re.sub("_$", "", parameter.name).upper()]
            assert [n for n in names if f"`{n}`" not in section] == [], name
