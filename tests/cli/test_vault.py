"""The keys as a person changes them, with the key file and with the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.output import Exit
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.vault import key_id
from tests.cli.test_cli import Cli
from tests.stores.secret_server import secret_server

NEW, OLD = "n" * 20, "o" * 20


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    scaffold(tmp_path / "crm")
    made = Cli(tmp_path / "crm")
    connect(made)
    return made


def connect(cli: Cli) -> None:
    ledger = open_runtime(cli.root).ledger
    for name in ("acme", "globex"):
        ledger.connect(
            ConnectionRecord(f"{name}_kinto", "kinto", name, credentials={"password": "planted"})
        )


def key_file(cli: Cli) -> Path:
    return cli.root / ".membrane" / "secret.key"


def credentials(cli: Cli) -> object:
    return open_runtime(cli.root).ledger.connection("acme_kinto").credentials


def test_a_key_of_the_file_is_changed_and_pruned(cli: Cli) -> None:
    (first,) = key_file(cli).read_bytes().split()
    running = open_runtime(cli.root)
    assert running.ledger.connection("acme_kinto").credentials == {"password": "planted"}
    done = cli.json("vault", "rotate")
    second, then = key_file(cli).read_bytes().split()
    assert then == first
    assert done == {"key": key_id(second), "made": True, "sealed": 2, "unread": {}}
    assert cli.json("vault", "status") == [
        {"key": key_id(second), "use": "seals and opens", "secrets": 2},
        {"key": key_id(first), "use": "opens", "secrets": 0},
    ]
    # A process that ran before reads what was sealed, and seals with the new key.
    assert running.ledger.connection("acme_kinto").credentials == {"password": "planted"}
    assert running.stores.vault.newest == key_id(second)
    assert cli.json("vault", "prune") == {"dropped": [key_id(first)]}
    assert key_file(cli).read_bytes().split() == [second]
    assert cli.json("vault", "prune") == {"dropped": []}
    assert credentials(cli) == {"password": "planted"}


def test_a_rotation_that_was_cut_off_makes_no_other_key(cli: Cli) -> None:
    open_runtime(cli.root).stores.secret_keys.add()
    done = cli.json("vault", "rotate")
    assert (done["made"], done["sealed"]) == (False, 2)
    assert len(key_file(cli).read_bytes().split()) == 2
    assert cli.json("vault", "rotate")["made"]


def test_a_key_of_the_environment_takes_over(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMBRANE_SECRET_KEY", OLD)
    assert cli.json("vault", "rotate")["key"] == key_id(OLD.encode())
    key_file(cli).unlink()
    monkeypatch.setenv("MEMBRANE_SECRET_KEY", NEW)
    lost = cli("vault", "rotate")
    assert lost.exit_code == Exit.SOME_FAILED
    assert key_id(OLD.encode()) in lost.stdout
    assert "lost" in cli("vault", "status").stdout
    monkeypatch.setenv("MEMBRANE_SECRET_KEYS_OLD", f"{'z' * 16}, {OLD}")
    assert cli.json("vault", "rotate") == {
        "key": key_id(NEW.encode()),
        "made": False,
        "sealed": 2,
        "unread": {},
    }
    monkeypatch.delenv("MEMBRANE_SECRET_KEYS_OLD")
    assert credentials(cli) == {"password": "planted"}
    assert not key_file(cli).exists()


def test_secrets_move_to_an_external_store(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with secret_server() as server:
        monkeypatch.setenv("MEMBRANE_VAULT", server.url)
        monkeypatch.setenv("MEMBRANE_VAULT_TOKEN", server.token)
        done = cli.json("vault", "rotate")
        assert (done["key"], done["sealed"], len(server.entries)) == ("store", 2, 2)
        assert credentials(cli) == {"password": "planted"}
        result = cli("connections", "archive", "acme_kinto", "--yes")
        assert result.exit_code == Exit.DONE
        assert len(server.entries) == 1


def test_secret_input_that_an_older_ledger_has_in_plain_is_shown_nowhere_and_sealed(
    cli: Cli,
) -> None:
    connector = cli.root / "connectors/kinto/connector.yaml"
    declared = yaml.safe_load(connector.read_text())
    pin = {"type": "string", "isSensitive": True}
    runtime = open_runtime(cli.root)
    ledger = runtime.ledger
    typed = {"url": "http://x/v1", "pin": "planted"}
    ledger.connect(ConnectionRecord("acme_kinto", "kinto", "acme", input=typed))
    assert "none" not in {row["key"] for row in cli.json("vault", "status")}
    declared["input_schema"]["properties"]["pin"] = pin
    connector.write_text(yaml.safe_dump(declared))
    for shown in (("show", "acme_kinto"), ("list",)):
        assert "planted" not in cli("connections", *shown, "--json").stdout
    row = {"key": "none", "use": "not sealed", "secrets": 1}
    assert cli.json("vault", "status")[-1] == row
    assert "membrane vault rotate" in cli("vault", "status").stdout
    assert cli.json("vault", "rotate")["sealed"] == 3
    assert row not in cli.json("vault", "status")
    assert ledger.known("acme_kinto").input == {"url": "http://x/v1"}
    assert ledger.connection("acme_kinto").input == typed
