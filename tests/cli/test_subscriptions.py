"""Commands that show what an app was asked to tell of, and ask anew."""

from __future__ import annotations

from pathlib import Path

from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.output import Exit
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.testing.simulator import Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.cli.test_cli import Cli


def test_what_is_subscribed_to_is_shown_and_asked_for_anew(tmp_path: Path) -> None:
    scaffold(tmp_path / "crm", examples=False)
    write_project(tmp_path / "crm")
    cli, simulator = Cli(tmp_path / "crm"), Simulator(records=3)
    with running(simulator, sending=False) as url:
        runtime = open_runtime(cli.root)
        given = {"token": "token-acme"}
        runtime.ledger.connect(
            ConnectionRecord("acme", "simulator", "acme", input={"url": url}, credentials=given)
        )
        before = cli.json("connections", "subscriptions", "acme")
        assert before == {"syncs": {"contacts": "pull latest every 5 min"}, "subscriptions": []}
        assert "no subscription" in cli("connections", "subscriptions", "acme").stdout

        runtime.events.reconcile_subscriptions()
        (made,) = runtime.ledger.subscriptions.of_connection("acme")
        shown = cli("connections", "subscriptions", "acme").stdout
        assert "contacts: webhook, poll every 5 min" in shown and "subscribed" in shown
        assert made.key not in shown and made.secret not in shown

        (first,) = simulator.webhooks.hooks
        (again,) = cli.json("connections", "resubscribe", "acme")["subscriptions"]
        assert (again["about"], again["change"], again["status"]) == (
            "contacts",
            "all",
            "subscribed",
        )
        assert len(simulator.webhooks.hooks) == 1 and first not in simulator.webhooks.hooks
        runtime.close()


def test_of_a_connection_that_is_not_there_it_says_so(tmp_path: Path) -> None:
    scaffold(tmp_path / "crm")
    cli = Cli(tmp_path / "crm")
    for verb in ("subscriptions", "resubscribe"):
        assert cli("connections", verb, "nobody").exit_code == Exit.FAILED
