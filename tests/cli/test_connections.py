"""Commands about single connections: what they say, and what they never say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from membrane_sync.apps.kinto import Kinto
from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.output import Exit
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from tests.cli.test_cli import Cli
from tests.end_to_end.helpers import Tenant

ACME = ConnectionRecord(
    "acme_kinto",
    "kinto",
    "acme",
    input={"url": "http://127.0.0.1:9/v1", "bucket": "planted-input"},
    credentials={"username": "acme", "password": "planted-secret"},
    expires_at=1_800_000_000.0,
    secret_fields=("bucket",),
)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    scaffold(tmp_path / "crm")
    return Cli(tmp_path / "crm")


@pytest.fixture
def connected(cli: Cli) -> Cli:
    ledger = open_runtime(cli.root).ledger
    ledger.connect(ACME)
    ledger.connect(ConnectionRecord("globex_pb", "pocketbase", "globex"))
    return cli


def test_without_connections_the_list_says_so(cli: Cli) -> None:
    assert cli("connections", "list").stdout == "no connection\n"
    assert cli.json("connections", "list") == []


def test_the_list_says_how_each_stands(connected: Cli) -> None:
    connected("connections", "pause", "acme_kinto", "--reason=moving house")
    shown = connected("connections", "list").stdout
    assert "paused" in shown and "moving house" in shown and "2027-01-15" in shown
    found = connected.json("connections", "list")
    assert [(one["key"], one["status"]) for one in found] == [
        ("acme_kinto", "paused"),
        ("globex_pb", "ready"),
    ]
    assert found[0]["expires_at"] == "2027-01-15T08:00:00+00:00"
    by_tenant = connected.json("connections", "list", "--tenant=globex")
    by_app = connected.json("connections", "list", "--integration=pocketbase")
    assert [one["key"] for one in by_tenant] == [one["key"] for one in by_app] == ["globex_pb"]


def test_no_secret_is_shown(connected: Cli) -> None:
    for command in (["list"], ["show", "acme_kinto"]):
        for mode in ([], ["--json"]):
            result = connected("connections", *command, *mode)
            assert result.exit_code == Exit.DONE
            assert "acme_kinto" in result.stdout and "planted" not in result.output
    shown = connected.json("connections", "show", "acme_kinto")
    assert shown["input"] == {"url": "http://127.0.0.1:9/v1"}
    assert shown["lake"].endswith("acme_kinto.duckdb")


def test_pause_and_resume(connected: Cli) -> None:
    assert connected.json("connections", "pause", "acme_kinto")["status"] == "paused"
    assert connected.json("connections", "resume", "acme_kinto")["status"] == "ready"
    result = connected("connections", "pause", "nobody")
    assert result.exit_code == Exit.FAILED
    assert "there is no connection 'nobody'" in result.stderr


def test_archiving_asks_and_says_where_the_lake_is(connected: Cli) -> None:
    refused = connected("connections", "archive", "acme_kinto")
    assert refused.exit_code == Exit.FAILED
    assert "--yes" in refused.stderr
    result = connected("connections", "archive", "acme_kinto", "--yes")
    assert result.exit_code == Exit.DONE
    assert "acme_kinto.duckdb" in result.stdout.replace("\n", "")
    runtime = open_runtime(connected.root)
    assert runtime.ledger.connection("acme_kinto").credentials == {}
    for command in ("pause", "resume", "test"):
        result = connected("connections", command, "acme_kinto")
        assert result.exit_code == Exit.FAILED
        assert "is archived" in result.stderr
        assert "membrane connect kinto" in result.stderr
    again = connected.json("connections", "archive", "acme_kinto", "--yes")
    assert (again["status"], again["warning"]) == ("archived", "")


def test_credentials_are_tested_at_the_app(cli: Cli, kinto: Kinto) -> None:
    tenant = Tenant(kinto)
    key = tenant.connection.key
    runtime = open_runtime(cli.root)
    runtime.register(tenant.connection)
    assert "its credentials work" in cli("connections", "test", key).stdout
    runtime.register(
        ConnectionRecord(
            key, "kinto", tenant.name, input=tenant.connection.input, credentials={"username": "x"}
        )
    )
    result = cli("connections", "test", key, "--json")
    assert result.exit_code == Exit.FAILED
    assert json.loads(result.stdout)["error"]["code"] == "not_authorized"


def test_what_cannot_be_refreshed_says_so(connected: Cli) -> None:
    result = connected("connections", "refresh", "acme_kinto")
    assert result.exit_code == Exit.FAILED
    assert "can't be refreshed" in result.stderr


def test_disconnecting_frees_the_key(connected: Cli) -> None:
    assert connected("disconnect", "acme_kinto").exit_code == Exit.DONE
    assert [one["key"] for one in connected.json("connections", "list")] == ["globex_pb"]
