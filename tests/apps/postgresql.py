"""A PostgreSQL server of its own for a test run, from Debian's package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from membrane_sync.apps.process import HOST, AppError, AppProcess, free_port
from tests.apps.debian import find_or_install

CREATECLUSTER = Path("/etc/postgresql-common/createcluster.d/no-main-cluster.conf")
# Durability is of no use to a test; each of these makes writing faster.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def postgresql_programs() -> Path:
    """The directory with `initdb` and `postgres`, of the newest version there is."""
    return find_or_install(_find, "postgresql", prepare=_keep_package_from_starting_a_server)


@contextmanager
def postgresql_server(directory: Path, *, durable: bool = False) -> Iterator[str]:
    """A new, empty server on loopback, as an SQLAlchemy URL; it and its data are gone afterwards.

    Unless it's `durable`, a crash of the machine loses what it committed last.

    `directory` receives the log and the pid. PostgreSQL refuses to run as root, so for root the
    server belongs to the user that the package made, as does its data directory.
    """
    programs = postgresql_programs()
    user = "postgres" if os.geteuid() == 0 else None
    port = free_port()
    directory = directory.resolve()
    # Not below `directory`: the other user may not be allowed to reach it.
    data = Path(tempfile.mkdtemp(prefix="membrane-postgresql-"))
    try:
        if user:
            shutil.chown(data, user, user)
        _initdb(programs, data, user)
        with AppProcess(
            name="PostgreSQL",
            command=[str(programs / "postgres"), "-D", str(data), *_options(port, durable)],
            directory=directory,
            ready=lambda: _accepts(programs, port),
            user=user,
            # Don't wait for clients to leave.
            stop_signal=signal.SIGINT,
        ):
            yield f"postgresql+psycopg://tests@{HOST}:{port}/postgres"
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _find() -> Path | None:
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: float(path.parent.parent.name), default=None)
    return newest.parent if newest else None


def _keep_package_from_starting_a_server() -> None:
    CREATECLUSTER.parent.mkdir(parents=True, exist_ok=True)
    CREATECLUSTER.write_text("create_main_cluster = false\n")


def _initdb(programs: Path, data: Path, user: str | None) -> None:
    done = subprocess.run(
        [
            *(str(programs / "initdb"), "-D", str(data), "-U", "tests", "-A", "trust"),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
        ],
        cwd=data,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AppError(f"initdb could not make a database cluster in {data}:\n{done.stdout}")


def _options(port: int, durable: bool) -> list[str]:
    settings = [f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories="]
    settings += [] if durable else FAST
    return [part for setting in settings for part in ("-c", setting)]


def _accepts(programs: Path, port: int) -> bool:
    command = [str(programs / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
    return subprocess.run(command, check=False).returncode == 0
