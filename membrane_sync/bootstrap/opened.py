"""A connection that is held, so that no other process works for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

from membrane_sync.bootstrap.stores import Stores
from membrane_sync.clients.api import HttpApi
from membrane_sync.errors import NotReady
from membrane_sync.ports import Api, ConnectionRecord, Lease
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, Call
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.sql_destination import SqlDestination
from membrane_sync.sync.run import Parties


@dataclass
class Opened:
    """A connection that is held: its app, its lake, and the product's databases."""

    stores: Stores
    connection: ConnectionRecord
    api: HttpApi
    lake: DuckDbLake
    lease: Lease
    closing: ExitStack
    shared: bool
    destinations: dict[str, SqlDestination] = field(default_factory=dict)

    def parties(self, sync: ResolvedSync | None) -> Parties:
        """Who takes part in one of its syncs."""
        url = self.stores.database(sync)
        if url not in self.destinations:
            destination = self.stores.destination(url, self.lease, shared=self.shared)
            self.closing.callback(destination.close)
            self.destinations[url] = destination
        api = LettingGo(self.api, self.lake) if self.shared else self.api
        return Parties(self.connection, api, self.lake, self.destinations[url])


class LettingGo:
    """An app that's asked with the lake let go: nobody waits for the file while we wait for it."""

    def __init__(self, api: Api, lake: DuckDbLake) -> None:
        self._api = api
        self._lake = lake
        self._thread = get_ident()

    def send(self, call: Call) -> Answer:
        # A thread that reads ahead has no lake; the one that has it stores meanwhile.
        if get_ident() == self._thread:
            self._lake.let_go()
        return self._api.send(call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


def refuse_one_not_ready(connection: ConnectionRecord) -> None:
    """Raise NotReady, which says what to do, unless the connection's syncs may run."""
    key, status = connection.key, connection.status
    if status == "reconnect_needed":
        raise NotReady(
            f"connection {key!r} has to be connected again: {connection.reason}",
            hint=f"connect {key!r} again: membrane connect {connection.integration} "
            f"--tenant {connection.tenant} --key {key}; its syncs then go on where they stopped",
        )
    if status != "ready":
        why = f": {connection.reason}" if connection.reason else ""
        hint = f"membrane connections resume {key}"
        if status == "archived":
            hint = f"membrane connect {connection.integration} --tenant {connection.tenant}"
        raise NotReady(f"connection {key!r} is {status}{why}", hint=hint)
