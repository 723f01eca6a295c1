"""Several who pause, resume, archive and reconnect one connection at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from membrane_sync.connections.lifecycle import archive, pause, resume
from membrane_sync.ports import ConnectionRecord
from membrane_sync.stores.ledger.sql_ledger import SqlLedger

KEY = "acme_crm"
ROUNDS = 15


def connect(ledger: SqlLedger, secret: str) -> None:
    ledger.connect(ConnectionRecord(KEY, "crm", "acme", credentials={"token": secret}))


def nobody(_: ConnectionRecord) -> None:
    """Tells no app."""


def at_once(*acts: Callable[[], object]) -> list[BaseException]:
    """All of them in threads that begin together; gives what they raised."""
    barrier = threading.Barrier(len(acts))
    raised: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        barrier.wait(60)
        try:
            act()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return raised


def test_what_is_archived_stays_so_whoever_pauses_or_resumes_it(ledger: SqlLedger) -> None:
    for number in range(ROUNDS):
        connect(ledger, f"secret-{number}")
        raised = at_once(
            lambda: pause(ledger, KEY),
            lambda: resume(ledger, KEY),
            lambda: archive(ledger, KEY, nobody),
            lambda: archive(ledger, KEY, nobody),
            lambda: pause(ledger, KEY),
            lambda: resume(ledger, KEY),
        )
        assert [error for error in raised if "is archived" not in str(error)] == []
        left = ledger.connection(KEY)
        assert (left.status, left.credentials) == ("archived", {}), f"round {number}"


def test_one_that_has_to_be_connected_again_is_not_made_ready_by_who_looked_before(
    ledger: SqlLedger,
) -> None:
    for number in range(ROUNDS):
        connect(ledger, f"secret-{number}")
        version = ledger.connection(KEY).version
        raised = at_once(
            partial(ledger.credentials.revoke, KEY, version, "uninstalled"),
            lambda: resume(ledger, KEY),
            lambda: resume(ledger, KEY),
        )
        left = ledger.connection(KEY)
        assert [error for error in raised if "uninstalled" not in str(error)] == []
        assert (left.status, left.reason) == ("reconnect_needed", "uninstalled")
        ledger.archive(KEY)


def test_one_that_is_paused_while_it_is_connected_again_stays_paused(ledger: SqlLedger) -> None:
    connect(ledger, "first")
    for number in range(ROUNDS):
        resume(ledger, KEY)
        raised = at_once(
            lambda: pause(ledger, KEY, "moving house"), lambda: connect(ledger, "second")
        )
        left = ledger.connection(KEY)
        assert (raised, left.status, left.reason) == ([], "paused", "moving house"), number


def test_credentials_that_come_while_the_app_is_told_are_ended_too(ledger: SqlLedger) -> None:
    connect(ledger, "first")
    told: list[str] = []

    def tell(connection: ConnectionRecord) -> None:
        told.append(connection.credentials["token"])
        if len(told) == 1:
            connect(ledger, "second")

    archive(ledger, KEY, tell)
    left = ledger.connection(KEY)
    assert (told, left.status, left.credentials) == (["first", "second"], "archived", {})
