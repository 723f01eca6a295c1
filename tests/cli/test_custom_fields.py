"""What the command line says of an account's own fields."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from membrane_sync.cli.main import app
from membrane_sync.testing.simulator import Access, Simulator, running
from membrane_sync.testing.simulator.project import write_project


def membrane(root: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--project", str(root)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_explain_shows_the_fields_of_a_connection(tmp_path: Path) -> None:
    write_project(tmp_path)
    package = tmp_path / "mappings" / "universal" / "packages" / "contacts.yaml"
    text = package.read_text().replace("collection_key: contacts", "collection_key: custom")
    package.write_text(text)
    simulator = Simulator(records=3, access=Access(custom_fields=1))
    with running(simulator) as url:
        given = [f"--set=url={url}", "--credential=token=token-acme", "--key=acme"]
        membrane(tmp_path, "connect", "simulator", "--tenant=acme", *given)
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
