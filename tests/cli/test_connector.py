"""`membrane connector check`: a table for people, JSON for scripts, 1 if a promise fails."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from membrane_sync.cli.main import app
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import CONNECTOR, write_project


def check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["connector", "check", "simulator", *arguments])


def only(*keys: str) -> list[str]:
    return [word for key in keys for word in ("--collection", key)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


def test_against_the_simulator_without_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = check("--simulate", "--write", *only("contacts"))
    assert result.exit_code == 0, result.output
    assert "create" in result.output and "failed" not in result.output


def test_a_failed_promise_exits_with_1(project: Path) -> None:
    result = check("--simulate", "--project", str(project), *only("clamped"))
    assert result.exit_code == 1
    assert "the app's most is 50" in result.output


def test_an_app_that_runs_by_url_and_credentials(project: Path) -> None:
    with running(Simulator(records=120)) as url:
        given = ["--set", f"url={url}", "--credential", "token=token-acme"]
        result = check("--project", str(project), "--json", *given, *only("by_page"))
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        again = ["--set", "url=http://127.0.0.1:1", "--url", url, "--credential", "token=wrong"]
        refused = check("--project", str(project), *again)
    assert {"collection", "promise", "verdict", "seen", "advice"} == set(found[0])
    assert refused.exit_code == 1
    assert "401" in refused.output and "wrong" not in refused.output.lower().replace("wrongly", "")


def test_a_recording_is_played_back(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    where = ["--project", str(project), "--json"]
    recorded = check("--simulate", "--record", str(file), *where, *only("contacts", "by_link"))
    assert recorded.exit_code == 0, recorded.output
    assert "token-acme" not in file.read_text()
    played = check("--replay", str(file), *where)
    assert json.loads(played.stdout) == json.loads(recorded.stdout)


def test_mistakes_are_named(project: Path, tmp_path: Path) -> None:
    where = ["--project", str(project)]
    unknown = check("--simulate", *where, *only("contact"))
    assert unknown.exit_code == 1 and "contacts" in unknown.output
    missing = check(*where)
    assert missing.exit_code == 1 and "--set url=" in missing.output
    sample = tmp_path / "sample.json"
    sample.write_text("[]")
    wrong = check("--simulate", "--write", "--sample", str(sample), *where)
    assert wrong.exit_code == 1 and "no JSON object of records" in wrong.output


def test_a_sample_is_what_is_created(project: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps({"contacts": {"email": "mine@example.org"}}))
    simulator = Simulator(records=10)
    with running(simulator) as url:
        given = ["--set", f"url={url}", "--credential", "token=token-acme"]
        result = check(
            "--project", str(project), "--write", "--sample", str(sample), *given, *only("contacts")
        )
    assert "a record with 1 fields as given" in " ".join(result.output.split())


def test_a_declaration_that_is_wrong_is_said_before_anything_is_asked(project: Path) -> None:
    file = project / "connectors" / "simulator" / "data_collections" / "by_page.yaml"
    file.write_text("list: {path: /by_page, recrods: $.body}\n")
    result = check("--simulate", "--project", str(project))
    assert result.exit_code == 3
    assert "by_page.yaml:1" in result.output


def test_the_packaged_files_are_in_the_package() -> None:
    assert (CONNECTOR / "connector.yaml").is_file()
