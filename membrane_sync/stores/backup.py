"""Copies of all lakes and the ledger in one folder, and the way back.

Each lake is copied in one piece under its lock; the ledger comes last. So a connection that is made
meanwhile is in the ledger without a lake, which its next sync makes, and never the other way round.
Credentials stay encrypted. The key that opens them isn't in the copy.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from membrane_sync.errors import Fatal
from membrane_sync.stores.file_lock import held
from membrane_sync.stores.lake.file import LakeFile, put_in_place

FORMAT = 1
"""Version of the folder's layout; a newer one is refused."""

_MANIFEST = "manifest.json"
_LEDGER = "ledger.db"


@dataclass(frozen=True)
class Place:
    """Where a project keeps its data, and how long to wait for a lake in use."""

    data_dir: Path
    ledger_url: str
    wait_seconds: float = 60.0

    @property
    def lakes(self) -> Path:
        """The folder of lake files."""
        return self.data_dir / "lake"

    @property
    def ledger(self) -> Path | None:
        """The ledger's file; None if it's in a database server."""
        url = make_url(self.ledger_url)
        in_file = url.get_backend_name() == "sqlite" and url.database
        return Path(str(url.database)) if in_file else None


@dataclass(frozen=True)
class Backup:
    """What a copy holds; without `ledger`, that is elsewhere and has to be copied by itself."""

    lakes: list[str]
    ledger: bool
    made_at: str


def back_up(place: Place, target: Path) -> Backup:
    """Copy everything to a new folder, which is there when all of it is.

    Raises Fatal if something is there already, and LockTimeout if a lake stays in use.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Fatal(f"{target} isn't empty", hint="name a new folder")
    unfinished = target.with_name(f"{target.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "lake").mkdir(parents=True, mode=0o700)
    lakes = sorted(place.lakes.glob("*.duckdb"))
    for lake in lakes:
        file = LakeFile(lake, place.wait_seconds)
        try:
            file.copy_to(unfinished / "lake" / lake.name)
        finally:
            file.close()
    has_ledger = place.ledger is not None and place.ledger.exists()
    if has_ledger and place.ledger is not None:
        _copy_sqlite(place.ledger, unfinished / _LEDGER)
    made = Backup(
        [lake.stem for lake in lakes], has_ledger, datetime.now(UTC).isoformat(timespec="seconds")
    )
    manifest = {"format": FORMAT, **vars(made)}
    (unfinished / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    if target.exists():
        target.rmdir()
    unfinished.replace(target)
    return made


def restore(place: Place, source: Path, *, force: bool = False) -> Backup:
    """Put a copy in place; each file is the former or the restored one, even after a crash.

    Raises Fatal, and changes nothing, if `source` is no complete copy, or would overwrite what is
    there without `force`. Connections that the copy doesn't have keep their lakes.
    """
    made = _read(source)
    files = list(_files(place, source, made))
    present = [to.name for _, to in files if to.exists()]
    if present and not force:
        raise Fatal(
            f"{', '.join(present[:3])}{' and more' * (len(present) > 3)} would be overwritten",
            hint="stop all syncs and repeat with --force, or restore into another data_dir",
        )
    for copy, to in files:
        to.parent.mkdir(parents=True, exist_ok=True)
        with held(to.with_name(f"{to.name}.lock"), "restore", place.wait_seconds):
            _restore_file(copy, to)
    return made


def _read(source: Path) -> Backup:
    try:
        manifest: dict[str, Any] = json.loads((source / _MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest.pop("format"))
        made = Backup(**manifest)
    except (OSError, ValueError, TypeError, KeyError):
        raise Fatal(
            f"{source} holds no backup", hint="name a folder that membrane backup made"
        ) from None
    if version > FORMAT:
        raise Fatal(f"{source} was made by a newer version", hint="install the newer membrane-sync")
    return made


def _files(place: Place, source: Path, made: Backup) -> Iterator[tuple[Path, Path]]:
    """Each file of the copy, and where it belongs; the ledger last."""
    copies = [
        (source / "lake" / f"{name}.duckdb", place.lakes / f"{name}.duckdb") for name in made.lakes
    ]
    if made.ledger:
        if place.ledger is None:
            raise Fatal(
                "the backup's ledger is SQLite, and this project's is in a database server",
                hint="restore with the former ledger_url, and move the ledger afterwards",
            )
        copies.append((source / _LEDGER, place.ledger))
    for copy, to in copies:
        if not copy.is_file():
            raise Fatal(f"the backup is incomplete: {copy.name} is missing", hint="take another")
        yield copy, to


def _restore_file(copy: Path, to: Path) -> None:
    unfinished = to.with_name(f"{to.name}.new")
    shutil.copyfile(copy, unfinished)
    # What was written beside the former file belongs to that one alone.
    for suffix in (".wal", "-wal", "-shm"):
        to.with_name(f"{to.name}{suffix}").unlink(missing_ok=True)
    for pages in to.parent.glob(f"{to.stem}.*.pages"):
        pages.unlink()
    put_in_place(unfinished, to)


def _copy_sqlite(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)
