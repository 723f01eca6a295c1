"""Commands about events: what they list, what they only show, and what they let happen again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.output import Exit
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.events import Arrival, Event, Failure, Webhook
from tests.cli.test_cli import Cli

ONE = Event(
    "webhook", "record", "contacts", "acme", "acme_kinto", payload='{"name": "planted-name"}'
)
TOLD = Event("internal", "internal", "order_paid", "acme", status="ignored", payload='{"order": 1}')
HOOK = Webhook("webhook", "a-key", b"planted-body", {"x-app": "kinto"})


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    scaffold(tmp_path / "crm")
    event = tmp_path / "crm/mappings/universal/internal_events/order_paid.yaml"
    event.parent.mkdir()
    event.write_text("schema: {type: object}\n", encoding="utf-8")
    return Cli(tmp_path / "crm")


@pytest.fixture
def runtime(cli: Cli) -> Runtime:
    opened = open_runtime(cli.root)
    opened.ledger.connect(ConnectionRecord("acme_kinto", "kinto", "acme"))
    return opened


def put(runtime: Runtime, *events: Event, webhook: Webhook | None = None) -> list[int]:
    return list(runtime.ledger.inbox.put([Arrival(webhook, events)])[0].events)


def fail(runtime: Runtime, ids: list[int]) -> None:
    runtime.ledger.inbox.settle([], [Failure(id, "no such field", None) for id in ids], "run-1")


def test_the_list_has_no_payloads(cli: Cli, runtime: Runtime) -> None:
    assert cli("events", "list").stdout == "0 shown; of all: none\n"
    ids = put(runtime, replace(ONE, external_id="c1"), TOLD)
    fail(runtime, ids[:1])
    shown = cli("events", "list").stdout
    assert "no such field" in shown and "1 dead, 1 ignored" in shown and "planted" not in shown
    found = cli.json("events", "list")
    assert [(one["id"], one["status"]) for one in found] == [(ids[1], "ignored"), (ids[0], "dead")]
    for options in (["--status=dead"], ["--kind=record", "--name=contacts"], ["-c", "acme_kinto"]):
        assert [one["id"] for one in cli.json("events", "list", *options)] == ids[:1]
    assert cli.json("events", "list", "--tenant=globex") == []
    assert cli.json("events", "list", "--since=2199-01-01") == []
    assert cli("events", "list", "--status=lost").exit_code == Exit.USAGE


def test_one_is_shown_with_all_there_is(cli: Cli, runtime: Runtime) -> None:
    (id,) = put(runtime, ONE, webhook=HOOK)
    shown = cli("events", "show", str(id)).stdout
    assert "planted-name" in shown and "planted-body" in shown and "x-app: kinto" in shown
    found = cli.json("events", "show", str(id))
    assert found["payload"] == {"name": "planted-name"}
    assert found["webhook"]["body"] == "planted-body"
    assert cli("events", "show", "4711").exit_code == Exit.FAILED


def test_dead_events_are_replayed_by_id_or_all_that_fit(cli: Cli, runtime: Runtime) -> None:
    ids = put(runtime, *[ONE] * 3)
    fail(runtime, ids)
    assert cli.json("events", "replay", str(ids[1])) == {"events": [ids[1]], "refused": {}}
    assert cli.json("events", "replay", "--name=others")["events"] == []
    assert "2 wait again" in cli("events", "replay", "-c", "acme_kinto").stdout
    assert runtime.ledger.event_log(None).counts() == {"pending": 3}
    assert cli("events", "replay", "4711").exit_code == Exit.FAILED


def test_what_nothing_asks_for_is_said_to_stay(cli: Cli, runtime: Runtime) -> None:
    (id,) = put(runtime, TOLD)
    done = cli("events", "replay", "--status=ignored")
    assert done.exit_code == Exit.SOME_FAILED
    assert f"{id}: " in done.stdout and "nothing of theirs asks for 'order_paid'" in done.stdout


def test_webhooks_are_listed_and_shown(cli: Cli, runtime: Runtime) -> None:
    assert cli("events", "webhooks").stdout == "no webhooks\n"
    put(runtime, webhook=replace(HOOK, status="unmatched", name="unheard-of"))
    assert "planted" not in cli("events", "webhooks").stdout
    (hook,) = cli.json("events", "webhooks", "--status=unmatched")
    shown = cli.json("events", "webhooks", str(hook["id"]))
    assert (shown["name"], shown["body"]) == ("unheard-of", "planted-body")
    assert "planted-body" in cli("events", "webhooks", str(hook["id"])).stdout
    assert cli("events", "webhooks", "--replay").exit_code == Exit.USAGE
    gone = cli("events", "webhooks", str(hook["id"]), "--replay")
    assert gone.exit_code == Exit.FAILED and "nothing takes in webhook" in gone.stderr


def test_what_ended_long_ago_is_forgotten(cli: Cli, runtime: Runtime) -> None:
    fail(runtime, put(runtime, ONE))
    assert cli.json("events", "prune") == {"events": 0, "webhooks": 0, "keys": 0}
    assert "forgot 0 events" in cli("events", "prune").stdout
    assert cli("events", "prune", MEMBRANE_KEEP_EVENTS_DAYS="0").exit_code == Exit.PROJECT
