"""What the command line says of an account's own fields."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from membrane_sync.cli.main import app
from membrane_sync.testing.simulator import Access, Simulator, running
from membrane_sync.testing.simulator.project import write_project


def membrane(root: Path, *arguments: str, given: str = "") -> str:
    result = CliRunner().invoke(app, [*arguments, "--project", str(root)], input=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def custom_project(root: Path, more: str = "") -> None:
    write_project(root)
    package = root / "mappings" / "universal" / "packages" / "contacts.yaml"
    text = package.read_text().replace("collection_key: contacts", "collection_key: custom")
    package.write_text(text.replace("    import_value:", f"{more}    import_value:"))


def connect(root: Path, url: str) -> None:
    given = [f"--set=url={url}", "--credential=token=token-acme", "--key=acme"]
    membrane(root, "connect", "simulator", "--tenant=acme", *given)


def test_explain_shows_the_fields_of_a_connection(tmp_path: Path) -> None:
    custom_project(tmp_path)
    simulator = Simulator(records=3, access=Access(custom_fields=1))
    with running(simulator) as url:
        connect(tmp_path, url)
        before = membrane(tmp_path, "explain", "data_collection", "custom", "-c", "acme")
        assert "acme_field_0" not in before
        membrane(tmp_path, "pull", "contacts", "-c", "acme")
    shown = json.loads(
        membrane(tmp_path, "explain", "data_collection", "custom", "-c", "acme", "--json")
    )
    field = shown[-1]
    assert (field["path"], field["layer"]) == ("custom_fields acme_field_0", "account")
    assert field["value"] == {"type": "string", "title": "Acme_field_0"}
    assert "acme.duckdb, learnt 20" in field["file"]
    records = membrane(tmp_path, "records", "custom", "-c", "acme")
    assert "acme_field_0" in records


def test_an_export_knows_the_fields_of_a_connection(tmp_path: Path) -> None:
    export = "    export_value: {acme_field_0: {$var: $.nickname}}\n"
    custom_project(tmp_path, export)
    collection = tmp_path / "connectors" / "simulator" / "data_collections" / "custom.yaml"
    collection.write_text(collection.read_text() + "create: {method: POST, path: /custom}\n")
    simulator = Simulator(records=3, access=Access(custom_fields=1))
    with running(simulator) as url:
        connect(tmp_path, url)
        asked = ["map", "contacts", "--direction=export", "-c", "acme"]
        assert json.loads(membrane(tmp_path, *asked, given='{"nickname": 7}')) == {}
        membrane(tmp_path, "pull", "contacts", "-c", "acme")
    shown = json.loads(membrane(tmp_path, *asked, given='{"nickname": "Ada"}'))
    assert shown == {"acme_field_0": "Ada"}
