"""Backup and restore: all lakes and the ledger, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from membrane_sync.errors import Fatal, LockTimeout, SecretError
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Link, LinkKey, Offset
from membrane_sync.stores.backup import Place, back_up, restore
from membrane_sync.stores.file_lock import held
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.vault import AesVault
from tests.stores.records import batch, raw

KEY = LinkKey("people")
SECRET = "planted-secret-4711"


def place_at(folder: Path) -> Place:
    return Place(folder, f"sqlite:///{folder / 'ledger.db'}", wait_seconds=5)


def vault(byte: bytes = b"k") -> AesVault:
    return AesVault(byte * 32)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A project with two connections, each with a record and a link."""
    place = place_at(tmp_path / "data")
    ledger = SqlLedger(place.ledger_url, vault())
    for key in ("acme", "globex"):
        ledger.connect(ConnectionRecord(key, "crm", key, credentials={"token": SECRET}))
        lake = lake_of(place, key)
        lake.store(batch(raw(key, name="A"), cursor=7))
        offset = Offset("push:contacts", 1)
        lake.keep_links(KEY, [Link(key, f"app-{key}")], [], [], offset, [key])
        lake.close()
    return place


def lake_of(place: Place, key: str) -> DuckDbLake:
    return DuckDbLake(place.lakes / f"{key}.duckdb")


def test_what_was_backed_up_comes_back(place: Place, tmp_path: Path) -> None:
    made = back_up(place, tmp_path / "copy")
    assert (made.lakes, made.ledger) == (["acme", "globex"], True)
    elsewhere = place_at(tmp_path / "elsewhere")
    assert restore(elsewhere, tmp_path / "copy") == made
    for key in made.lakes:
        lake = lake_of(elsewhere, key)
        assert lake.cursor("contacts") == 7
        assert lake.links(KEY, [key])[key].app_id == f"app-{key}"
        assert [c.payload for c in lake.changes("contacts", 0, 9)] == [raw(key, name="A").payload]
        lake.store(batch(raw("new"), cursor=8))
    ledger = SqlLedger(elsewhere.ledger_url, vault())
    assert ledger.connection("acme").credentials == {"token": SECRET}


def test_credentials_stay_encrypted(place: Place, tmp_path: Path) -> None:
    back_up(place, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes()
    assert (tmp_path / "copy" / "ledger.db").stat().st_mode & 0o077 == 0
    elsewhere = place_at(tmp_path / "elsewhere")
    restore(elsewhere, tmp_path / "copy")
    with pytest.raises(SecretError):
        SqlLedger(elsewhere.ledger_url, vault(b"x")).connection("acme")


def test_nothing_is_overwritten_without_force(place: Place, tmp_path: Path) -> None:
    back_up(place, tmp_path / "copy")
    lake_of(place, "acme").store(batch(raw("later"), cursor=8))
    with pytest.raises(Fatal, match=r"acme\.duckdb, globex\.duckdb, ledger\.db would be over"):
        restore(place, tmp_path / "copy")
    assert lake_of(place, "acme").cursor("contacts") == 8
    restore(place, tmp_path / "copy", force=True)
    assert lake_of(place, "acme").cursor("contacts") == 7


def test_a_restored_lake_forgets_a_reading_that_was_under_way(place: Place, tmp_path: Path) -> None:
    back_up(place, tmp_path / "copy")
    log = lake_of(place, "acme").page_log("contacts")
    log.begin({"name": "of another state"})
    log.close()
    restore(place, tmp_path / "copy", force=True)
    assert lake_of(place, "acme").page_log("contacts").begun() is None


def test_a_ledger_that_is_written_meanwhile_is_copied_in_one_piece(
    place: Place, tmp_path: Path
) -> None:
    assert place.ledger is not None
    writer = sqlite3.connect(place.ledger)
    writer.execute("CREATE TABLE two (x)")
    writer.commit()
    writer.execute("INSERT INTO two VALUES (1)")
    back_up(place, tmp_path / "copy")
    writer.rollback()
    writer.close()
    copy = sqlite3.connect(tmp_path / "copy" / "ledger.db")
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert copy.execute("SELECT count(*) FROM two").fetchone() == (0,)
    copy.close()


def test_a_backup_needs_an_empty_place(place: Place, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    back_up(place, tmp_path / "copy")
    with pytest.raises(Fatal, match="isn't empty"):
        back_up(place, tmp_path / "copy")


def test_a_lake_in_use_is_waited_for_and_leaves_no_half_backup(
    place: Place, tmp_path: Path
) -> None:
    lock = place.lakes / "acme.duckdb.lock"
    with held(lock, "sync", 1), pytest.raises(LockTimeout, match="sync"):
        back_up(replace(place, wait_seconds=0.1), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    back_up(place, tmp_path / "copy")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda copy: (copy / "manifest.json").unlink(), "holds no backup"),
        (lambda copy: (copy / "manifest.json").write_text("[]"), "holds no backup"),
        (lambda copy: (copy / "manifest.json").write_text('{"format": 1}'), "holds no backup"),
        (lambda copy: (copy / "lake" / "globex.duckdb").unlink(), r"globex\.duckdb is missing"),
        (lambda copy: (copy / "ledger.db").unlink(), r"ledger\.db is missing"),
    ],
)
def test_what_is_no_whole_backup_changes_nothing(
    place: Place, tmp_path: Path, spoil: object, message: str
) -> None:
    back_up(place, tmp_path / "copy")
    assert callable(spoil)
    spoil(tmp_path / "copy")
    elsewhere = place_at(tmp_path / "elsewhere")
    with pytest.raises(Fatal, match=message):
        restore(elsewhere, tmp_path / "copy")
    assert not elsewhere.data_dir.exists()


def test_a_newer_backup_is_refused(place: Place, tmp_path: Path) -> None:
    back_up(place, tmp_path / "copy")
    manifest = tmp_path / "copy" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 2}))
    with pytest.raises(Fatal, match="newer version"):
        restore(place, tmp_path / "copy", force=True)


def test_a_ledger_in_a_server_is_left_to_its_own_tools(place: Place, tmp_path: Path) -> None:
    served = replace(place, ledger_url="postgresql+psycopg://db/ledger")
    made = back_up(served, tmp_path / "copy")
    assert (made.lakes, made.ledger) == (["acme", "globex"], False)
    assert not (tmp_path / "copy" / "ledger.db").exists()
    back_up(place, tmp_path / "whole")
    with pytest.raises(Fatal, match="is in a database server"):
        restore(replace(served, data_dir=tmp_path / "elsewhere"), tmp_path / "whole")
