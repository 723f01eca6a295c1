"""How a connection stands: paused and resumed by a person, archived when it's no longer wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from membrane_sync.errors import Fatal, MembraneError
from membrane_sync.ports import ConnectionRecord, Ledger

PAUSED = "paused by a person"


@dataclass(frozen=True)
class Archived:
    """What became of an archived connection; `warning` says why the app could not be told."""

    key: str
    warning: str = ""


def pause(ledger: Ledger, key: str, reason: str = "") -> None:
    """Let none of its syncs run until it's resumed; what runs now ends by itself.

    Raises NotConnected, and Fatal for one that isn't connected any more.
    """
    connection = _living(ledger, key)
    if connection.status == "reconnect_needed":
        raise Fatal(
            f"connection {key!r} doesn't sync already: {connection.reason}",
            hint=f"connect it again, or: membrane connections archive {key}",
        )
    ledger.set_status(key, "paused", reason or PAUSED)


def resume(ledger: Ledger, key: str) -> None:
    """Let its syncs run again, from where they stood.

    Raises NotConnected, and Fatal for one that has to be connected again.
    """
    connection = _living(ledger, key)
    if connection.status == "reconnect_needed":
        raise Fatal(
            f"connection {key!r} has to be connected again: {connection.reason}",
            hint=f"membrane connect {connection.integration} --tenant {connection.tenant} "
            f"--key {key}",
        )
    ledger.set_status(key, "ready")


def archive(ledger: Ledger, key: str, tell: Callable[[ConnectionRecord], None]) -> Archived:
    """Wipe its credentials, and let `tell` say so to the app before.

    An app that can't be told keeps nothing alive here. Of the connection, its key, its overrides
    and its lake stay; connecting it again goes on with them. Raises NotConnected.
    """
    warning = ""
    try:
        connection = ledger.connection(key)
        if connection.status != "archived":
            tell(connection)
    except MembraneError as error:
        # Where there's none of this key, this says so.
        if ledger.known(key).status != "archived":
            warning = f"the app wasn't told: {error.message}"
    ledger.archive(key)
    return Archived(key, warning)


def _living(ledger: Ledger, key: str) -> ConnectionRecord:
    connection = ledger.known(key)
    if connection.status == "archived":
        raise Fatal(
            f"connection {key!r} is archived, and has no credentials",
            hint=f"membrane connect {connection.integration} --tenant {connection.tenant} "
            f"--key {key}",
        )
    return connection
