"""What a person may do to a connection, and what its state then is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from membrane_sync.connections.lifecycle import archive, pause, resume
from membrane_sync.errors import AppUnavailable, Fatal, NotConnected
from membrane_sync.ports import ConnectionRecord
from membrane_sync.testing import MemoryLedger

ACME = ConnectionRecord("acme_crm", "crm", "acme", credentials={"token": "planted-secret"})


@pytest.fixture
def ledger() -> MemoryLedger:
    made = MemoryLedger()
    made.connect(ACME)
    return made


def nobody(_: ConnectionRecord) -> None:
    raise AssertionError("the app should not have been told")


def test_a_paused_connection_says_why_and_resumes(ledger: MemoryLedger) -> None:
    pause(ledger, "acme_crm", "moving house")
    paused = ledger.connection("acme_crm")
    assert (paused.status, paused.reason) == ("paused", "moving house")
    assert paused.credentials == ACME.credentials
    resume(ledger, "acme_crm")
    resumed = ledger.connection("acme_crm")
    assert (resumed.status, resumed.reason) == ("ready", "")
    pause(ledger, "acme_crm")
    assert ledger.connection("acme_crm").reason == "paused by a person"


@pytest.mark.parametrize("act", [pause, resume])
def test_one_that_must_be_connected_again_is_neither_paused_nor_resumed(
    ledger: MemoryLedger, act: Callable[[MemoryLedger, str], None]
) -> None:
    ledger.set_status("acme_crm", "reconnect_needed", "the app was uninstalled")
    with pytest.raises(Fatal, match="the app was uninstalled"):
        act(ledger, "acme_crm")
    ledger.archive("acme_crm")
    with pytest.raises(Fatal, match="is archived") as caught:
        act(ledger, "acme_crm")
    assert caught.value.hint == "membrane connect crm --tenant acme --key acme_crm"
    assert ledger.connection("acme_crm").status == "archived"
    with pytest.raises(NotConnected):
        act(ledger, "globex_crm")


def test_archiving_tells_the_app_once(ledger: MemoryLedger) -> None:
    told: list[ConnectionRecord] = []
    assert archive(ledger, "acme_crm", told.append).warning == ""
    assert [record.credentials for record in told] == [ACME.credentials]
    archived = ledger.connection("acme_crm")
    assert (archived.status, archived.credentials) == ("archived", {})
    assert archive(ledger, "acme_crm", nobody).warning == ""


def test_an_app_that_cannot_be_told_keeps_no_credentials_alive(ledger: MemoryLedger) -> None:
    def unreachable(_: ConnectionRecord) -> None:
        raise AppUnavailable("crm: can't be reached")

    assert archive(ledger, "acme_crm", unreachable).warning == (
        "the app wasn't told: crm: can't be reached"
    )
    assert ledger.connection("acme_crm").credentials == {}
    with pytest.raises(NotConnected):
        archive(ledger, "globex_crm", nobody)
