"""What can be done with the connections of one scope: each work begins with its ledger's record.

So whoever can't see a connection can't do anything with it either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

from membrane_sync.bootstrap import Runtime
from membrane_sync.errors import Fatal, NotConnected
from membrane_sync.ports import ConnectionRecord, TenantLedger


class Taken(Fatal):
    """There's one of this key already."""

    code = "already_exists"


@dataclass(frozen=True)
class Typed:
    """What somebody gave to connect an account: input, and credentials that take no browser."""

    input: Mapping[str, Any]
    credentials: Mapping[str, Any] = field(repr=False)
    option: str = ""
    test: bool = True
    same_account: bool = False


class Accounts:
    """The connections that `ledger` shows, and what can be done with them."""

    def __init__(self, runtime: Runtime, ledger: TenantLedger) -> None:
        self._runtime = runtime
        self._ledger = ledger

    def connect(
        self, tenant: str, integration: str, typed: Typed, *, key: str = "", name: str = ""
    ) -> ConnectionRecord:
        """A new connection; raises Taken, or what the app or the schema has against it."""
        key = key or f"{integration}_{token_hex(6)}"
        if self._has(key):
            raise Taken(
                f"there is a connection {key!r} already",
                hint=f"for new credentials: PUT /connections/{key}/credentials",
            )
        return self._connect(ConnectionRecord(key, integration, tenant, name), typed)

    def reconnect(self, key: str, typed: Typed) -> ConnectionRecord:
        """The same connection with new credentials; its records and links stay."""
        known = self._ledger.connection(key)
        return self._connect(replace(known, status="ready", reason="", connected_at=None), typed)

    def test(self, key: str) -> None:
        """Call the app with its credentials; raises NotAuthorized, or what else the app says."""
        self._runtime.prove(self._ledger.opened(key))

    def pause(self, key: str) -> None:
        """Let none of its syncs run until it's resumed."""
        self._runtime.pause(self._ledger.connection(key).key)

    def resume(self, key: str) -> None:
        """Let its syncs run again."""
        self._runtime.resume(self._ledger.connection(key).key)

    def archive(self, key: str) -> None:
        """Tell the app that it ends, and wipe its credentials."""
        self._runtime.archive(self._ledger.connection(key).key)

    def refresh(self, key: str) -> None:
        """Get new credentials by its old ones; raises NotAuthorized where the app refuses."""
        self._runtime.refresh(self._ledger.connection(key).key)

    def _connect(self, record: ConnectionRecord, typed: Typed) -> ConnectionRecord:
        record = replace(
            record, input=typed.input, credentials=typed.credentials, option=typed.option
        )
        if typed.test:
            self._runtime.prove(record)
        self._runtime.register(record, same_account=typed.same_account)
        return self._ledger.connection(record.key)

    def _has(self, key: str) -> bool:
        try:
            self._ledger.connection(key)
        except NotConnected:
            return False
        return True
