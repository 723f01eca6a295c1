"""The commands around the lake: history, changes, schema, compaction, backup and restore."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from membrane_sync.apps.kinto import Account, Kinto
from membrane_sync.cli.output import Exit
from tests.cli.test_cli import Cli, account, cli, connected

__all__ = ["account", "cli", "connected"]
"""Fixtures of the other commands' tests, used here too."""

SOURCE = "mappings/universal/packages/contacts.yaml"


@pytest.fixture
def kept(connected: Cli) -> Cli:
    """A connected project whose contacts have a history, and are open to new fields."""
    folder = connected.root / "mappings" / "integrations" / "kinto" / "data_sources"
    folder.mkdir(parents=True)
    (folder / "contacts.yaml").write_text("history: true\n")
    return connected


def write(kinto: Kinto, account: Account, **fields: Any) -> None:
    kinto.write(
        account, account.user, "contacts", [{"id": "p1", "email": "p1@x.example", **fields}]
    )


def sync(cli: Cli) -> None:
    result = cli("sync", "--connection=acme_kinto")
    assert result.exit_code == Exit.DONE, result.output


def feed(cli: Cli, *options: str) -> list[dict[str, Any]]:
    result = cli("changes", "acme_kinto", "contacts", *options)
    assert result.exit_code == Exit.DONE, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_history_and_as_of(kept: Cli, kinto: Kinto, account: Account) -> None:
    sync(kept)
    write(kinto, account, first_name="Grace")
    sync(kept)
    records = ("records", "contacts", "-c", "acme_kinto")
    versions = kept.json(*records, "--history", "p1")
    assert [row["first_name"] for row in versions] == ["Ada", "Grace"]
    assert kept.json(*records, "--as-of", "2001-01-01") == []
    at = versions[0]["_valid_from"].split(".")[0].replace(" ", "T")
    before = kept.json(*records, "--as-of", f"{at}.999999Z", "-n", "99")
    assert len(before) in (0, 30)
    now = kept.json(*records, "--as-of", "2999-01-01T00:00:00Z", "-n", "99")
    assert {row["_external_id"]: row["first_name"] for row in now}["p1"] == "Grace"
    assert len(now) == 30


def test_two_ways_to_look_back_are_one_too_many(connected: Cli) -> None:
    both = ("--as-of", "2026-01-01", "--history", "p1")
    assert connected("records", "contacts", "-c", "acme_kinto", *both).exit_code == Exit.USAGE
    assert connected("records", "-c", "acme_kinto", "--history", "x").exit_code == Exit.USAGE


def test_no_history_says_how_to_get_one(connected: Cli) -> None:
    sync(connected)
    result = connected("records", "contacts", "-c", "acme_kinto", "--history", "p1", "--json")
    assert result.exit_code == Exit.FAILED
    assert "history: true" in json.loads(result.stdout)["error"]["hint"]


def test_the_change_feed_is_read_from_where_one_stopped(
    connected: Cli, kinto: Kinto, account: Account
) -> None:
    sync(connected)
    first = feed(connected, "--limit", "20")
    rest = feed(connected, "--after", str(first[-1]["seq"]))
    assert [len(first), len(rest)] == [20, 10]
    assert {line["id"] for line in first + rest} == {f"p{n}" for n in range(30)}
    assert {line["kind"] for line in first + rest} == {"created"}
    write(kinto, account, score=12345678901234567)
    sync(connected)
    (changed,) = feed(connected, "--after", str(rest[-1]["seq"]))
    assert (changed["id"], changed["kind"]) == ("p1", "updated")
    assert changed["payload"]["score"] == 12345678901234567
    unknown = connected("changes", "acme_kinto", "nothing")
    assert unknown.exit_code == Exit.FAILED
    assert "contacts" in unknown.output


def test_the_schema_of_a_lake(connected: Cli, kinto: Kinto, account: Account) -> None:
    sync(connected)
    collection = connected.root / "connectors" / "kinto" / "data_collections" / "contacts.yaml"
    text = collection.read_text()
    declared = "fields_schema:\n  type: object\n"
    assert declared in text
    collection.write_text(text.replace(declared, f"{declared}  additionalProperties: true\n"))
    write(kinto, account, nickname="Countess")
    sync(connected)
    found = connected.json("lake", "schema", "contacts", "-c", "acme_kinto")
    origins = {row["column"]: (row["type"], row["origin"]) for row in found["columns"]}
    assert origins["email"] == ("VARCHAR", "declared")
    assert origins["nickname"] == ("VARCHAR", "found")
    assert origins["_payload"] == ("JSON", "")
    (added,) = found["changes"]
    assert (added["column"], added["from"], added["to"]) == ("nickname", None, "VARCHAR")
    shown = connected("lake", "schema", "-c", "acme_kinto")
    assert shown.exit_code == Exit.DONE
    assert "nickname" in shown.stdout


def test_compacting_says_what_it_gave_back(connected: Cli) -> None:
    sync(connected)
    (done,) = connected.json("lake", "compact")
    assert (done["connection"], done["dropped"]) == ("acme_kinto", 0)
    assert 0 < done["after"] <= done["before"]
    assert len(feed(connected)) == 30
    assert connected("lake", "compact", "-c", "nobody").exit_code == Exit.FAILED


def test_a_sync_goes_on_after_a_restore(
    connected: Cli, kinto: Kinto, account: Account, tmp_path: Path
) -> None:
    sync(connected)
    copy = str(tmp_path / "copy")
    made = connected.json("backup", copy)
    assert (made["lakes"], made["ledger"]) == (["acme_kinto"], True)
    write(kinto, account, first_name="Grace")
    sync(connected)
    assert connected("restore", copy).exit_code == Exit.FAILED

    data = connected.root / ".membrane"
    shutil.rmtree(data / "lake")
    (data / "ledger.db").unlink()
    assert connected("restore", copy).exit_code == Exit.DONE
    report = connected.json("sync", "--connection=acme_kinto")
    assert connected.json("lake", "schema", "-c", "acme_kinto")["columns"]
    assert [line["kind"] for line in feed(connected, "--after", "30")] == ["updated"], report
    links = connected.json("links", "-c", "acme_kinto", "-n", "99")
    assert len(links) == 30
