"""Real servers and a browser as fixtures; a test that names one gets it running.

Installations are kept in `MEMBRANE_APPS_DIR` (by default `.membrane/apps` in the repository). Every
test process runs servers of its own there, in `runs/<its pid>`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser

from membrane_sync.apps.install import install_from_npm
from membrane_sync.apps.kinto import Kinto, install_kinto, start_kinto
from membrane_sync.apps.oidc_provider import (
    OidcProvider,
    install_oidc_provider,
    start_oidc_provider,
)
from membrane_sync.apps.pocketbase import PocketBase, install_pocketbase, start_pocketbase
from membrane_sync.apps.process import stop_leftover
from membrane_sync.machine import is_dead, machine
from tests.apps.chromium import browser, chromium_program
from tests.apps.postgresql import postgresql_programs, postgresql_server

GITHUB_EXAMPLES = "@octokit/webhooks-examples@7.6.1"
"""Of npm, under the MIT licence."""

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def apps_dir() -> Path:
    """Where apps are installed, for all runs and all test processes."""
    given = os.environ.get("MEMBRANE_APPS_DIR")
    directory = Path(given).resolve() if given else REPOSITORY / ".membrane" / "apps"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def apps_run(apps_dir: Path) -> Iterator[Path]:
    """Where this process keeps what its servers write; earlier runs that crashed are cleared."""
    runs = apps_dir / "runs"
    with FileLock(apps_dir / "runs.lock"):
        clear_crashed(runs)
        mine = runs / str(os.getpid())
        mine.mkdir(parents=True, exist_ok=True)
    yield mine
    shutil.rmtree(mine, ignore_errors=True)


@pytest.fixture(scope="session")
def kinto(apps_dir: Path, apps_run: Path) -> Iterator[Kinto]:
    """A Kinto for the whole test process: give each test accounts and buckets of its own."""
    with FileLock(apps_dir / "kinto.lock"):
        install_kinto(apps_dir / "kinto")
    with start_kinto(apps_dir / "kinto", data=apps_run / "kinto") as running:
        yield running


@pytest.fixture(scope="session")
def pocketbase(apps_dir: Path, apps_run: Path) -> Iterator[PocketBase]:
    """A PocketBase for the whole test process: give each test a collection of its own."""
    with FileLock(apps_dir / "pocketbase.lock"):
        install_pocketbase(apps_dir / "pocketbase")
    with start_pocketbase(apps_dir / "pocketbase", data=apps_run / "pocketbase") as running:
        yield running


@pytest.fixture(scope="session")
def oidc_provider_dir(apps_dir: Path) -> Path:
    """Where the OAuth provider is installed: start one of your own from it for other settings."""
    with FileLock(apps_dir / "oidc_provider.lock"):
        return install_oidc_provider(apps_dir / "oidc_provider")


@pytest.fixture(scope="session")
def github_examples(apps_dir: Path) -> Path:
    """Webhooks of GitHub as they were recorded: a JSON file of events with their payloads."""
    with FileLock(apps_dir / "github_examples.lock"):
        modules = install_from_npm(apps_dir / "github_examples", GITHUB_EXAMPLES)
    return modules / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json"


@pytest.fixture(scope="session")
def oidc_provider(oidc_provider_dir: Path, apps_run: Path) -> Iterator[OidcProvider]:
    """An OAuth provider for the whole test process: log in by a name of your own in each test."""
    with start_oidc_provider(oidc_provider_dir, data=apps_run / "oidc_provider") as running:
        yield running


@pytest.fixture(scope="session")
def postgresql_url(apps_dir: Path, apps_run: Path) -> Iterator[str]:
    """The URL of an empty PostgreSQL database: give each test a schema of its own."""
    with FileLock(apps_dir / "apt.lock"):
        postgresql_programs()
    with postgresql_server(apps_run / "postgresql") as url:
        yield url


# Not for the session: while the browser is open, nothing else in the process can `asyncio.run`.
@pytest.fixture(scope="module")
def chromium(apps_dir: Path) -> Iterator[Browser]:
    """A headless browser for one test module."""
    with FileLock(apps_dir / "apt.lock"):
        chromium_program()
    with browser() as opened:
        yield opened


def clear_crashed(runs: Path) -> None:
    """Stop what test processes that no longer live have left running, and remove their files."""
    for run in runs.glob("*"):
        if run.name.isdigit() and is_dead(int(run.name), machine()):
            for pid_file in run.glob("*/server.pid"):
                stop_leftover(pid_file.parent)
            shutil.rmtree(run, ignore_errors=True)
