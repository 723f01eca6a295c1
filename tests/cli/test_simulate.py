"""`membrane simulate`: a process that says where it is, serves, and ends on Ctrl+C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from membrane_sync.cli.main import app
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors

TOKEN = {"Authorization": "Bearer token-acme"}


def test_it_serves_what_was_asked_for_until_it_is_interrupted(tmp_path: Path) -> None:
    project = tmp_path / "project"
    arguments = ["simulate", "--port", "0", "--records", "7", "--fault", "2=error", "--json"]
    arguments += ["--quota", "3/60", "--dialect", "zero", "--project", str(project)]
    command = [sys.executable, "-m", "membrane_sync.cli.main", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("\n}\n"):
                text += process.stdout.readline()
            said = json.loads(text)
            answers = [httpx.get(f"{said['url']}/contacts", headers=TOKEN) for _ in range(5)]
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=20)
    assert [answer.status_code for answer in answers[:1] + answers[2:]] == [200, 200, 429, 429]
    assert answers[1].status_code >= 500
    assert answers[0].json()["total"] == 7
    assert answers[4].headers["retry-after"] == "0"
    assert code == 0
    assert errors(check(Project.load(project))) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "eror=1"], "eror"),
        (["--fault", "error"], "--fault error=0.05"),
        (["--fault", "error=2"], "error"),
        (["--hook", "lat=1"], "lat"),
        (["--quota", "10"], "--quota 100/10"),
        (["--quota", "0/1"], "quotas.0.requests"),
        (["--dialect", "klingon"], "dialect"),
    ],
)
def test_a_wrong_switch_is_named(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["simulate", "--port", "0", *arguments])
    assert result.exit_code == 1
    assert said in result.output


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(app, ["simulate", "--port", "0", "--project", str(tmp_path)])
    assert result.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
