"""Subscriptions of a project's connections, made with a real app over HTTP."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.subscriptions import Subscription
from membrane_sync.testing.simulator import Faults, Hooks, Simulator, running
from membrane_sync.testing.simulator.project import write_project
from tests.stores.databases import fresh_database

PACKAGE = "mappings/universal/packages/contacts.yaml"
COLLECTION = "connectors/simulator/data_collections/contacts.yaml"


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(records=5)


@pytest.fixture
def url(simulator: Simulator) -> Iterator[str]:
    with running(simulator, sending=False) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    root = tmp_path / "project"
    scaffold(root, examples=False)
    write_project(root)
    with fresh_database(request.param, tmp_path, request) as ledger:
        monkeypatch.setenv("MEMBRANE_LEDGER_URL", ledger)
        yield root


@pytest.fixture
def runtime(root: Path, url: str) -> Iterator[Runtime]:
    opened = open_runtime(root)
    connect(opened, url)
    yield opened
    opened.close()


def connect(runtime: Runtime, url: str, key: str = "acme") -> None:
    given = {"token": "token-acme"}
    runtime.register(ConnectionRecord(key, "simulator", key, input={"url": url}, credentials=given))


def edit(root: Path, file: str, old: str, new: str) -> Runtime:
    """The project with another declaration, as the next process has it."""
    path = root / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return open_runtime(root)


def switched_off(root: Path) -> Runtime:
    link = "data_link_table: contacts"
    return edit(root, PACKAGE, link, f"{link}\n    enabled: false")


def only(runtime: Runtime) -> Subscription:
    (found,) = runtime.ledger.subscriptions.of_connection("acme")
    return found


def alter(runtime: Runtime, **changes: object) -> None:
    """Change what the ledger has of it, as if that had happened before."""
    runtime.ledger.subscriptions.keep(replace(only(runtime), **changes))  # type: ignore[arg-type]


def test_a_sync_that_needs_events_makes_one_subscription(
    runtime: Runtime, simulator: Simulator
) -> None:
    (looked,) = runtime.events.reconcile_subscriptions()
    made = only(runtime)
    assert (looked.connection, list(looked.subscriptions), looked.error) == ("acme", [made], "")
    assert (made.status, made.error, made.refresh_at) == ("subscribed", "", None)
    assert made.config["stream"] == "contacts" and made.config["change"] == "all"
    (hook,) = simulator.webhooks.hooks.values()
    assert hook.url == f"http://127.0.0.1:8700/webhooks/{made.key}"
    assert (hook.secret, made.state) == (made.secret, {"id": hook.id})
    assert len(made.key) >= 43 and len(made.secret) >= 43
    assert runtime.events.reconcile_subscriptions() == []
    assert runtime.events.subscriptions.covered("acme") == {"contacts"}


def test_nothing_to_do_asks_the_app_nothing(
    root: Path, runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    before = simulator.log.count
    other = open_runtime(root)
    assert other.events.reconcile_subscriptions() == []
    assert runtime.events.subscriptions.one("acme").error == ""
    assert simulator.log.count == before
    other.close()


def test_one_that_ends_is_renewed_before(runtime: Runtime, simulator: Simulator) -> None:
    simulator.webhooks.switches = Hooks(longest_seconds=4_000)
    runtime.events.reconcile_subscriptions()
    made = only(runtime)
    assert made.refresh_at is not None and 300 < made.refresh_at - time.time() < 2_100
    alter(runtime, refresh_at=1.0)
    simulator.webhooks.switches = Hooks(longest_seconds=9_000)
    runtime.events.subscriptions.one("acme")
    renewed = only(runtime)
    assert (renewed.key, renewed.state, renewed.status) == (made.key, made.state, "subscribed")
    assert renewed.refresh_at is not None and renewed.refresh_at - time.time() > 4_000
    assert len(simulator.webhooks.hooks) == 1


def test_what_the_app_has_forgotten_is_asked_for_anew(
    runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    made = only(runtime)
    simulator.webhooks.expire()
    alter(runtime, refresh_at=1.0)
    runtime.events.subscriptions.one("acme")
    (hook,) = simulator.webhooks.hooks.values()
    again = only(runtime)
    assert again.state == {"id": hook.id} != made.state
    assert hook.url.endswith(made.key) and hook.secret == made.secret


def test_without_a_refresh_it_is_subscribed_to_anew_and_the_old_one_goes(
    root: Path, runtime: Runtime, simulator: Simulator
) -> None:
    text = (root / COLLECTION).read_text(encoding="utf-8")
    (refresh,) = [line for line in text.splitlines() if line.startswith("    refresh:")]
    plain = edit(root, COLLECTION, refresh, "    refresh_before_seconds: 10")
    simulator.webhooks.switches = Hooks(longest_seconds=30)
    plain.events.reconcile_subscriptions()
    (first,) = simulator.webhooks.hooks
    simulator.webhooks.hooks[first] = replace(
        simulator.webhooks.hooks[first], ends_at=time.time() + 5
    )
    alter(plain, refresh_at=1.0)
    plain.events.subscriptions.one("acme")
    (second,) = simulator.webhooks.hooks
    assert second != first and only(plain).state == {"id": second}
    plain.close()


def test_after_a_crash_what_was_asked_for_is_found_again(
    runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    (hook,) = simulator.webhooks.hooks
    # Killed before the answer was noted: the row is there, and says that the app was asked.
    alter(runtime, status="unsubscribed", state={}, attempts=1, refresh_at=1.0)
    runtime.events.subscriptions.one("acme")
    assert list(simulator.webhooks.hooks) == [hook]
    assert (only(runtime).status, only(runtime).state) == ("subscribed", {"id": hook})


def test_what_the_app_has_twice_is_made_one(runtime: Runtime, simulator: Simulator) -> None:
    runtime.events.reconcile_subscriptions()
    (hook,) = simulator.webhooks.hooks.values()
    simulator.webhooks.subscribe(hook.url, "contacts", "", "acme")
    alter(runtime, status="unsubscribed", state={}, attempts=1, refresh_at=1.0)
    runtime.events.subscriptions.one("acme")
    assert len(simulator.webhooks.hooks) == 1


def test_an_app_that_is_down_is_asked_again_later(
    runtime: Runtime, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("membrane_sync.bootstrap.events.INTERACTIVE_SECONDS", 0.1)
    simulator.dice.faults = Faults(error=1)
    runtime.events.reconcile_subscriptions()
    failed = only(runtime)
    assert (failed.status, failed.attempts) == ("error", 1)
    assert "500" in failed.error or "50" in failed.error
    assert failed.refresh_at is not None and 0 < failed.refresh_at - time.time() < 40
    assert runtime.events.subscriptions.covered("acme") == set()
    simulator.dice.faults = Faults()
    runtime.events.subscriptions.one("acme")
    assert only(runtime) == failed, "not before its time"
    alter(runtime, refresh_at=1.0)
    runtime.events.subscriptions.one("acme")
    assert (only(runtime).status, only(runtime).attempts) == ("subscribed", 0)


def test_a_sync_that_is_switched_off_takes_its_subscription_along(
    root: Path, runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    off = edit(
        root, PACKAGE, "data_link_table: contacts", "data_link_table: contacts\n    enabled: false"
    )
    off.events.reconcile_subscriptions()
    assert simulator.webhooks.hooks == {}
    assert off.ledger.subscriptions.of_connection("acme") == []
    off.close()


def test_what_the_app_no_longer_knows_is_unsubscribed_too(
    root: Path, runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    simulator.webhooks.expire()
    off = edit(
        root, PACKAGE, "data_link_table: contacts", "data_link_table: contacts\n    enabled: false"
    )
    off.events.reconcile_subscriptions()
    assert off.ledger.subscriptions.of_connection("acme") == []
    off.close()


def test_another_declaration_is_told_to_the_app(
    root: Path, runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    first = only(runtime)
    changed = edit(root, COLLECTION, "collection: contacts, secret", "collection: notes, secret")
    changed.events.reconcile_subscriptions()
    (hook,) = simulator.webhooks.hooks.values()
    assert (hook.collection, only(changed).key) == ("notes", first.key)
    assert only(changed).state == {"id": hook.id} != first.state
    changed.close()


def test_a_connection_that_ends_is_unsubscribed_first(
    runtime: Runtime, simulator: Simulator
) -> None:
    runtime.events.reconcile_subscriptions()
    assert runtime.archive("acme").warning == ""
    assert simulator.webhooks.hooks == {}
    assert runtime.ledger.subscriptions.of_connection("acme") == []


def test_a_paused_one_keeps_its_subscription_alive(runtime: Runtime, simulator: Simulator) -> None:
    simulator.webhooks.switches = Hooks(longest_seconds=4_000)
    runtime.events.reconcile_subscriptions()
    before = only(runtime)
    runtime.pause("acme")
    alter(runtime, refresh_at=1.0)
    runtime.events.reconcile_subscriptions()
    after = only(runtime)
    assert (after.status, after.state) == ("subscribed", before.state)
    assert after.refresh_at is not None and after.refresh_at > time.time()


def test_connected_again_all_is_looked_at(runtime: Runtime, simulator: Simulator, url: str) -> None:
    runtime.events.reconcile_subscriptions()
    runtime.ledger.set_status("acme", "reconnect_needed", "revoked")
    simulator.webhooks.expire()
    runtime.events.reconcile_subscriptions()
    assert simulator.webhooks.hooks == {}
    connect(runtime, url)
    runtime.events.reconcile_subscriptions()
    assert list(simulator.webhooks.hooks) == [only(runtime).state["id"]]


def test_told_to_it_is_asked_for_anew(runtime: Runtime, simulator: Simulator) -> None:
    runtime.events.reconcile_subscriptions()
    (first,) = simulator.webhooks.hooks
    runtime.events.subscriptions.one("acme", anew=True)
    (second,) = simulator.webhooks.hooks
    assert first != second


def test_an_app_out_there_cannot_reach_this_machine(root: Path) -> None:
    away = edit(
        root,
        "connectors/simulator/connector.yaml",
        "{$var: $.input.url}",
        "https://api.example.com",
    )
    connect(away, "https://api.example.com")
    away.events.reconcile_subscriptions()
    failed = only(away)
    assert failed.status == "error"
    assert "MEMBRANE_PUBLIC_URL" in failed.error and "8700" in failed.error
    away.close()


LOOK = """
import sys
from pathlib import Path
from membrane_sync.bootstrap import open_runtime
runtime = open_runtime(Path(sys.argv[1]))
runtime.ledger.living()
print("ready", flush=True)
sys.stdin.readline()
print(len(runtime.events.reconcile_subscriptions()), flush=True)
runtime.close()
"""


def test_processes_that_look_at_once_make_one(
    root: Path, runtime: Runtime, simulator: Simulator, url: str
) -> None:
    for n in range(6):
        connect(runtime, url, f"more_{n}")
    command = [sys.executable, "-c", LOOK, str(root)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [int(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert sum(found) == 7
    urls = [hook.url for hook in simulator.webhooks.hooks.values()]
    assert len(urls) == len({*urls}) == 7
