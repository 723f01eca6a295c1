"""A real app's own webhooks, through the server and the worker, to the lake and the product's rows.

All of it as a user starts it: `membrane serve` and `membrane worker`, in processes of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from membrane_sync.apps.pocketbase import PocketBase, record_id, start_pocketbase
from membrane_sync.apps.process import free_port
from tests.cli.test_serve import answer, running
from tests.end_to_end.helpers import Row, Workspace, new_workspace, pocketbase_connection

PATIENCE = 120.0


@pytest.fixture
def app(apps_dir: Path, tmp_path: Path, pocketbase: PocketBase) -> Iterator[PocketBase]:
    """A server with an empty `contacts`; the session's own has seen to the installation."""
    with start_pocketbase(apps_dir / "pocketbase", data=tmp_path / "pocketbase") as running:
        running.create_contacts_collection()
        running.create_webhooks_collection()
        yield running


@pytest.fixture
def declared() -> Mapping[str, str]:
    """Files of the project besides the repository's own."""
    return {}


@pytest.fixture
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: Mapping[str, str]
) -> Iterator[Workspace]:
    """A project whose server and worker run."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MEMBRANE_PUBLIC_URL", url)
    workspace = new_workspace(tmp_path / "project")
    for path, text in declared.items():
        workspace.write(path, text)
    log = tmp_path / "serve.log"
    with ExitStack() as processes:
        words = ("serve", "--port", str(port))
        process = processes.enter_context(running(workspace.root, *words, log=log, at=url))
        answer(f"{url}/health", process, log, PATIENCE)
        processes.enter_context(
            running(workspace.root, "worker", log=tmp_path / "worker.log", at=url)
        )
        yield workspace


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, "it didn't come in time"
        time.sleep(0.2)


def names(workspace: Workspace, connection: str) -> dict[str, str]:
    lake = workspace.runtime.stores.lake_path(connection)
    if not lake.exists():
        return {}
    return {key: record["name"] for key, record in workspace.records(connection).items()}


def contact(number: int, name: str) -> Row:
    return {"id": record_id(number), "email": f"c{number}@example.org", "name": name}


def test_what_an_app_tells_of_is_in_the_lake_and_in_the_products_rows(
    served: Workspace, app: PocketBase
) -> None:
    connection = served.connect(pocketbase_connection(app))
    # The worker subscribes, for there is a connection whose syncs need it.
    until(lambda: bool(app.list("webhooks")))

    app.write("contacts", [contact(1, "Ada"), contact(2, "Grace"), contact(3, "Edsger")])
    until(lambda: len(names(served, connection)) == 3)
    app.update("contacts", [{"id": record_id(1), "name": "Ada L."}])
    app.delete("contacts", [record_id(2)])
    truth = {record_id(1): "Ada L.", record_id(3): "Edsger"}
    until(lambda: names(served, connection) == truth)
    until(lambda: served.runtime.ledger.inbox.waiting() == 0)
    delivered = served.delivered(connection)
    assert {key: row["full_name"] for key, row in delivered.items()} == truth

    # A poll finds nothing that the webhooks didn't tell of.
    assert served.sync(connection).written == 0

    # What isn't signed by the app is refused, and changes nothing.
    (made,) = served.runtime.ledger.subscriptions.of_connection(connection)
    url = f"{served.runtime.settings.connect.public_url}/webhooks/{made.key}"
    forged = {"id": "x", "change": "deleted", "record": contact(3, "Edsger"), "at": 0}
    for headers in ({}, {"X-Webhook-Signature": "sha256=" + "0" * 64}):
        refused = httpx.post(url, json=forged, headers=headers, trust_env=False)
        assert refused.status_code == 401
    until(lambda: served.runtime.ledger.inbox.waiting() == 0)
    assert names(served, connection) == truth
