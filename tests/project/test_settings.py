"""Settings come from pyproject.toml and the environment; paths are below the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from membrane_sync.errors import ProjectError
from membrane_sync.project.settings import Settings, load_settings


def settings_of(root: Path, text: str = "", environ: dict[str, str] | None = None) -> Settings:
    (root / "pyproject.toml").write_text(text)
    return load_settings(root, environ or {})


def test_defaults_without_a_file(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    data = tmp_path.resolve() / ".membrane"
    assert settings == Settings(
        data_dir=data,
        ledger_url=f"sqlite:///{data}/ledger.db",
        databases={"app": f"sqlite:///{data}/app.db"},
        lock_wait_seconds=60.0,
        quota_wait_seconds=300.0,
    )


@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1\n", "[tool.membrane_sync]\n"])
def test_nothing_said_is_the_default(text: str, tmp_path: Path) -> None:
    assert settings_of(tmp_path, text) == load_settings(tmp_path / "nowhere" / "..", {})


def test_the_file_is_read(tmp_path: Path) -> None:
    text = """
[tool.membrane_sync]
data_dir = "data"
ledger_url = "postgresql+psycopg://db/ledger"
lock_wait_seconds = 2.5
[tool.membrane_sync.databases]
crm = "postgresql+psycopg://db/crm"
"""
    settings = settings_of(tmp_path, text)
    assert settings.data_dir == tmp_path.resolve() / "data"
    assert settings.ledger_url == "postgresql+psycopg://db/ledger"
    assert settings.lock_wait_seconds == 2.5
    assert settings.databases == {
        "app": f"sqlite:///{tmp_path.resolve()}/data/app.db",
        "crm": "postgresql+psycopg://db/crm",
    }


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///data/app.db", "sqlite:///{root}/data/app.db"),
        ("sqlite+pysqlite:///app.db?timeout=5", "sqlite+pysqlite:///{root}/app.db?timeout=5"),
        ("sqlite:////var/app.db", "sqlite:////var/app.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql://db/app", "postgresql://db/app"),
    ],
)
def test_sqlite_paths_are_below_the_project(url: str, resolved: str, tmp_path: Path) -> None:
    text = f'[tool.membrane_sync]\nledger_url = "{url}"\ndatabases = {{app = "{url}"}}\n'
    settings = settings_of(tmp_path, text)
    expected = resolved.format(root=tmp_path.resolve())
    assert (settings.ledger_url, settings.databases["app"]) == (expected, expected)


def test_paths_do_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path(), {}) == load_settings(tmp_path, {})


def test_the_environment_wins(tmp_path: Path) -> None:
    text = """
[tool.membrane_sync]
data_dir = "data"
lock_wait_seconds = 1
databases = {app = "${UNSET}", crm = "sqlite:///crm.db"}
"""
    environ = {
        "MEMBRANE_DATA_DIR": "/srv/data",
        "MEMBRANE_LEDGER_URL": "postgresql://db/ledger",
        "MEMBRANE_SECRET_KEY": "secret",
        "MEMBRANE_DATABASE_APP": "postgresql://me:${x}@db/app",
        "MEMBRANE_LOCK_WAIT_SECONDS": "0",
    }
    settings = settings_of(tmp_path, text, environ)
    assert settings.data_dir == Path("/srv/data")
    assert settings.ledger_url == "postgresql://db/ledger"
    assert settings.databases["app"] == "postgresql://me:${x}@db/app"
    assert settings.databases["crm"] == f"sqlite:///{tmp_path.resolve()}/crm.db"
    assert settings.lock_wait_seconds == 0.0
    assert settings.secret_key == "secret"
    assert "secret" not in repr(settings)
    assert "me:" not in repr(settings)


def test_variables_in_the_file(tmp_path: Path) -> None:
    text = '[tool.membrane_sync.databases]\napp = "postgresql://${USER}:${PASSWORD}@db/app"\n'
    settings = settings_of(tmp_path, text, {"USER": "me", "PASSWORD": "p"})
    assert settings.databases["app"] == "postgresql://me:p@db/app"


def test_a_waiting_time_in_the_environment_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="MEMBRANE_LOCK_WAIT_SECONDS must be a number"):
        load_settings(tmp_path, {"MEMBRANE_LOCK_WAIT_SECONDS": "long"})
