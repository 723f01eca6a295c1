"""What can be done with the connections of one scope: each work begins with its ledger's record.

So whoever can't see a connection can't do anything with it either.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

from membrane_sync.bootstrap import Runtime
from membrane_sync.errors import Fatal, NotConnected, Rejected, SecretError, UnexpectedAnswer
from membrane_sync.events.checkups import Told
from membrane_sync.ports import ConnectionRecord, TenantLedger
from membrane_sync.project.authentication import Access
from membrane_sync.records import RawAnswer, RawRequest

LONGEST_WAIT_SECONDS = 10.0
"""How long a request waits for the app's quota."""


class Taken(Fatal):
    """There's one of this key already."""

    code = "already_exists"


@dataclass(frozen=True)
class Typed:
    """What somebody typed in to connect an account, by the schemas of the option."""

    input: Mapping[str, Any] | None
    """None for that which is known already."""
    credentials: Mapping[str, Any] = field(repr=False)
    option: str = ""
    test: bool = True
    same_account: bool = False


class Accounts:
    """The connections that `ledger` shows, and what can be done with them."""

    def __init__(self, runtime: Runtime, ledger: TenantLedger) -> None:
        self._runtime = runtime
        self._ledger = ledger

    def accesses(self, integration: str) -> list[Access]:
        """The ways to authenticate that may be chosen from."""
        return self._runtime.apps.accesses(integration)

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
        if typed.input is None:
            with suppress(SecretError):  # What can't be read has to be typed in again.
                known = self._ledger.opened(key)
        typed = replace(typed, option=typed.option or known.option)
        return self._connect(replace(known, status="ready", reason="", connected_at=None), typed)

    def test(self, key: str) -> None:
        """Call the app with its credentials; raises NotAuthorized, or what else the app says."""
        self._runtime.apps.prove(self._ledger.opened(key), stored=True)

    def exchange(self, key: str, request: RawRequest) -> RawAnswer:
        """Send a request through it, and give the app's answer as it is; close it.

        Raises RateLimited where the app's quota makes it wait for more than a short while.
        """
        record = self._ledger.opened(key)
        if record.status == "archived":
            raise Fatal(
                f"connection {key!r} is archived, and has no credentials",
                hint=f"connect it again: PUT /connections/{key}/credentials",
            )
        api = self._runtime.apps.api(record, longest_wait=LONGEST_WAIT_SECONDS)
        try:
            answer = api.exchange(request)
        except BaseException:
            api.close()
            raise

        def close() -> None:
            answer.close()
            api.close()

        return replace(answer, close=close)

    def pause(self, key: str) -> None:
        """Let none of its syncs run until it's resumed."""
        self._runtime.pause(self._ledger.connection(key).key)

    def resume(self, key: str) -> None:
        """Let its syncs run again."""
        self._runtime.resume(self._ledger.connection(key).key)

    def archive(self, key: str) -> None:
        """Tell the app that it ends, and wipe its credentials."""
        self._runtime.archive(self._ledger.connection(key).key)

    def subscriptions(self, key: str) -> Sequence[Told]:
        """What its app was asked to tell of."""
        return self._runtime.events.subscriptions.of(self._ledger.connection(key).key)

    def refresh(self, key: str) -> None:
        """Get new credentials by its old ones; raises NotAuthorized where the app refuses."""
        self._runtime.apps.refresh(self._ledger.connection(key).key)

    def _connect(self, record: ConnectionRecord, typed: Typed) -> ConnectionRecord:
        runtime, integration = self._runtime, record.integration
        option = runtime.apps.access(integration, typed.option).option
        given = record.input if typed.input is None else typed.input
        given, secrets = runtime.apps.checked_input(integration, option, given, typed.credentials)
        authenticator = runtime.apps.authenticator(integration, option, given)
        if authenticator.needs_browser:
            raise Fatal(
                f"{integration!r} asks its users in a browser",
                hint="for a link to send them to: POST /connection-requests",
            )
        try:
            issued = authenticator.issue(secrets)
            record = replace(
                record,
                input=given,
                credentials=issued.credentials,
                option=option,
                expires_at=None if issued.expires_in is None else time.time() + issued.expires_in,
            )
            if typed.test:
                record = replace(record, account=runtime.apps.prove(record))
        except UnexpectedAnswer as error:
            # Whoever answered may not be the app at all: the address was typed in.
            raise Rejected(error.message, hint=error.hint) from None
        runtime.register(record, same_account=typed.same_account)
        return self._ledger.connection(record.key)

    def _has(self, key: str) -> bool:
        try:
            self._ledger.connection(key)
        except NotConnected:
            return False
        return True
