"""The production settings work with a real PostgreSQL, and their page is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from membrane_sync.apps.kinto import Kinto
from tests.end_to_end.helpers import Tenant, Workspace, person
from tests.fixtures import REPOSITORY
from tests.orchestration.helpers import numbers, run_job

DEPLOY = REPOSITORY / "docs" / "deploy"


@pytest.fixture
def database(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.URL]:
    """An empty database, which the environment says is Dagster's."""
    server = sa.make_url(postgresql_url)
    name = f"dagster_{token_hex(4)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    values = {
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.username,
        "PASSWORD": "unused",
        "DB": name,
    }
    for key, value in values.items():
        monkeypatch.setenv(f"DAGSTER_PG_{key}", str(value))
    yield server.set(database=name)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def production(workspace: Workspace, database: sa.URL) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance with the settings of docs/deploy."""
    home = workspace.root / "home"
    home.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_runs_are_kept_in_postgresql(
    workspace: Workspace,
    production: dg.DagsterInstance,
    database: sa.URL,
    kinto: Kinto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger and the product's rows are in the same server, as the page advises."""
    url = database.render_as_string(hide_password=False)
    monkeypatch.setenv("MEMBRANE_LEDGER_URL", url)
    monkeypatch.setenv("MEMBRANE_DATABASE_APP", url)
    monkeypatch.setenv("MEMBRANE_SECRET_KEY", secret_key())
    tenant = Tenant(kinto)
    tenant.write(person(n) for n in range(20))
    connection = workspace.connect(tenant.connection)

    result = run_job(workspace, production, connection)

    assert numbers(result)["contacts_delivered"]["delivered"] == 20
    assert len(workspace.rows()) == 20
    engine = sa.create_engine(database)
    with engine.connect() as connected:
        runs = connected.execute(sa.text("SELECT run_id FROM runs")).scalars().all()
        events = connected.execute(sa.text("SELECT count(*) FROM event_logs")).scalar_one()
    engine.dispose()
    assert runs == [result.run_id] and events > 20
    assert not (workspace.data / "ledger.db").exists()
    assert not (workspace.data / "secret.key").exists()


def test_the_settings_are_those_the_project_relies_on(production: dg.DagsterInstance) -> None:
    assert "PostgresRunStorage" in str(production.info_dict())
    settings = production.get_concurrency_config().run_queue_config
    assert settings is not None and settings.max_concurrent_runs == 16
    limited = {limit["key"]: limit for limit in settings.tag_concurrency_limits}
    for key in ("membrane/connection", "dagster/partition"):
        assert limited[key]["limit"] == 1
        assert limited[key]["value"] == {"applyLimitPerUniqueValue": True}
    assert production.run_retries_enabled and not production.run_retries_max_retries > 2
    assert production.run_monitoring_enabled and not production.telemetry_enabled


def test_one_machine_and_production_limit_runs_of_a_connection_alike() -> None:
    for path in (REPOSITORY / "dagster.yaml", DEPLOY / "dagster.yaml"):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        limits = settings["concurrency"]["runs"]["tag_concurrency_limits"]
        assert {limit["key"] for limit in limits} >= {"membrane/connection", "dagster/partition"}
        places = settings["concurrency"]["runs"]["max_concurrent_runs"]
        (most,) = (limit["limit"] for limit in limits if limit["key"] == "dagster/backfill")
        assert most < places, "a backfill leaves room for the scheduled syncs"


def test_the_page_names_every_variable_that_the_settings_take() -> None:
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    settings = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")
    for name in re.findall(r"env: (\w+)", settings):
        assert name in page
    for name in ("MEMBRANE_LEDGER_URL", "MEMBRANE_DATABASE_APP", "MEMBRANE_SECRET_KEY"):
        assert name in page


def test_the_commands_of_the_page_work(workspace: Workspace, database: sa.URL) -> None:
    """All but the installation, in a project that has this folder."""
    shutil.copytree(DEPLOY, workspace.root / "docs" / "deploy")
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"```bash\n(.+?)```", page, re.DOTALL))
    script = re.sub(r"^pip install .*\n", "", commands, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=workspace.root,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PostgresRunStorage" in done.stdout
    engine = sa.create_engine(database)
    assert "runs" in sa.inspect(engine).get_table_names()
    engine.dispose()


def secret_key() -> str:
    """A key made by the command on the page."""
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    command = re.search(r"MEMBRANE_SECRET_KEY=\"\$\((.+)\)\"", page)
    assert command is not None
    made = subprocess.run(
        ["bash", "-c", command[1]], capture_output=True, text=True, check=True, timeout=30
    )
    return made.stdout.strip()
