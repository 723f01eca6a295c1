"""How a connection stands: paused and resumed by a person, archived when it's no longer wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from membrane_sync.errors import Fatal, LockTimeout, MembraneError
from membrane_sync.ports import ConnectionRecord, ConnectionStatus, Ledger

PAUSED = "paused by a person"
_ALIVE: Sequence[ConnectionStatus] = ("ready", "paused")
_TRIES = 5


@dataclass(frozen=True)
class Archived:
    """What became of an archived connection; `warning` says why the app could not be told."""

    key: str
    warning: str = ""


def pause(ledger: Ledger, key: str, reason: str = "") -> None:
    """Let none of its syncs run until it's resumed; what runs now ends by itself.

    Raises NotConnected, and Fatal for one that isn't connected any more.
    """
    if not ledger.set_status(key, "paused", reason or PAUSED, among=_ALIVE):
        connection = _resting(ledger, key)
        raise Fatal(
            f"connection {key!r} doesn't sync already: {connection.reason}",
            hint=f"connect it again, or: membrane connections archive {key}",
        )


def resume(ledger: Ledger, key: str) -> None:
    """Let its syncs run again, from where they stood.

    Raises NotConnected, and Fatal for one that has to be connected again.
    """
    if not ledger.set_status(key, "ready", among=_ALIVE):
        connection = _resting(ledger, key)
        raise Fatal(
            f"connection {key!r} has to be connected again: {connection.reason}",
            hint=f"membrane connect {connection.integration} --tenant {connection.tenant} "
            f"--key {key}",
        )


def archive(ledger: Ledger, key: str, tell: Callable[[ConnectionRecord], None]) -> Archived:
    """Wipe its credentials, and let `tell` say so to the app before.

    An app that can't be told keeps nothing alive here. Of the connection, its key, its overrides
    and its lake stay; connecting it again goes on with them. Credentials that it gets meanwhile are
    ended, too. Raises NotConnected.
    """
    for _ in range(_TRIES):
        connection, warning = ledger.known(key), ""
        try:
            connection = ledger.connection(key)
            if connection.status != "archived":
                tell(connection)
        except MembraneError as error:
            if connection.status != "archived":
                warning = f"the app wasn't told: {error.message}"
        if ledger.archive(key, version=connection.version):
            return Archived(key, warning)
    raise LockTimeout(f"the credentials of {key!r} keep changing", hint="try again")


def _resting(ledger: Ledger, key: str) -> ConnectionRecord:
    """One that could be neither paused nor resumed; raises Fatal if it's archived."""
    connection = ledger.known(key)
    if connection.status == "archived":
        raise Fatal(
            f"connection {key!r} is archived, and has no credentials",
            hint=f"membrane connect {connection.integration} --tenant {connection.tenant} "
            f"--key {key}",
        )
    if connection.status in _ALIVE:
        raise LockTimeout(f"connection {key!r} was changed just now", hint="try again")
    return connection
