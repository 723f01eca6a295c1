"""A checked project with its stores, and the runs of its syncs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from membrane_sync.bootstrap.apps import Apps
from membrane_sync.bootstrap.events import Events
from membrane_sync.bootstrap.opened import Opened, refuse_one_not_ready
from membrane_sync.bootstrap.registration import register
from membrane_sync.bootstrap.standing import Standing, overview
from membrane_sync.bootstrap.stores import Stores
from membrane_sync.bootstrap.syncs import Syncs
from membrane_sync.clients.fetch import fetch_json
from membrane_sync.connections import lifecycle
from membrane_sync.connections.lifecycle import Archived
from membrane_sync.errors import Fatal, LockTimeout, MembraneError, NotFound, ProjectError
from membrane_sync.events.internal import Published
from membrane_sync.masking import Mask, hidden, mask_logs, password_of
from membrane_sync.ports import DEFAULT_INSTANCE, ConnectionRecord, Priority, RunRecord
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.project.settings import Settings
from membrane_sync.records import Report
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.file import Memory
from membrane_sync.stores.ledger.connection_requests import SqlConnectionRequests
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.ledger.tenants import SqlTenantLedger
from membrane_sync.sync.run import Parties


def find_root(start: Path) -> Path:
    """The project that `start` is in: the nearest folder upwards with connectors/ and mappings/."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "connectors").is_dir() and (folder / "mappings").is_dir():
            return folder
    raise NotFound(
        f"{start} is in no project: no folder upwards has connectors/ and mappings/",
        hint="make one with: membrane init DIRECTORY",
    )


def open_runtime(root: Path) -> Runtime:
    """The project at `root` with its stores; nothing is opened before it's used.

    Raises ProjectError, with all problems, if the declarations can't run.
    """
    project = Project.load(root)
    problems = errors(check(project))
    if problems:
        raise ProjectError(problems)
    return Runtime(project)


class Runtime:
    """A checked project with its stores."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.settings = project.settings
        self.stores = Stores(project)
        self.resolved = Syncs(project, self.stores)
        self.apps = Apps(project, self.stores)
        self._mask = Mask(_secrets_of(project.settings))
        mask_logs()

    fetch_json = staticmethod(fetch_json)
    """Fetches a public JSON document, such as the keys that tokens are signed with."""

    def close(self) -> None:
        """Give back all database connections; they come back when they're needed."""
        if "events" in self.__dict__:
            self.events.close()
        self.stores.close()

    @property
    def ledger(self) -> SqlLedger:
        """Connections, credentials and runs."""
        return self.stores.ledger

    @property
    def requests(self) -> SqlConnectionRequests:
        """What products asked users to connect, by links."""
        return self.ledger.requests

    def tenant_ledger(self, tenant: str | None) -> SqlTenantLedger:
        """The connections that a tenant may see; None for all."""
        return self.ledger.for_tenant(tenant)

    @cached_property
    def events(self) -> Events:
        """Events of apps and of the product, and subscriptions to them."""
        return Events(self.project, self.stores, self.resolved, self.apps)

    def syncs(
        self, connection: ConnectionRecord, instance_key: str | None = None
    ) -> list[ResolvedSync]:
        """Every sync that this connection takes part in (`Syncs.of`)."""
        return self.resolved.of(connection, instance_key)

    def sync(
        self, key: str, connection: ConnectionRecord, instance_key: str = DEFAULT_INSTANCE
    ) -> ResolvedSync:
        """One sync as the connection sees it (`Syncs.one`)."""
        return self.resolved.one(key, connection, instance_key)

    def publish(
        self, type: str, payload: Mapping[str, Any], *, tenant: str = "", key: str = ""
    ) -> Published:
        """Tell of an internal event of a tenant's; once it returns, the event is not lost.

        Without a `tenant`, the type's formula names it; told again with the same `key`, it's the
        same event. Raises NotFound, or InvalidInput where the payload doesn't fit.
        """
        return self.events.internal.publish(type, [payload], tenant=tenant, key=key)

    def overview(self) -> list[Standing]:
        """How each sync of each connection stands, in order of their keys."""
        return overview(self.stores, self.resolved, self.events.subscriptions.covered)

    def lake(self, connection: ConnectionRecord) -> DuckDbLake:
        """The connection's lake, to read it; close it after use."""
        return self.stores.lake(connection, self.syncs(connection))

    @contextmanager
    def connect(
        self, key: str, sync: ResolvedSync | None = None, *, what: str = "sync"
    ) -> Iterator[Parties]:
        """Everything one run of a connection needs, held so that no other run overlaps.

        Raises NotConnected, NotReady, SecretError, or LockTimeout, which names who holds it. What
        is written later raises Fenced if this process was taken for dead meanwhile.
        """
        connection = self.ledger.connection(key)
        with self.opened(connection, self.syncs(connection), what=what) as opened:
            yield opened.parties(sync)

    @contextmanager
    def opened(
        self,
        connection: ConnectionRecord,
        syncs: Sequence[ResolvedSync],
        *,
        what: str,
        wait_seconds: float | None = None,
        memory: Memory | None = None,
        priority: Priority = "bulk",
    ) -> Iterator[Opened]:
        """As `connect`, for several syncs one after another.

        With a `memory` to work in, the connections and the tables of the product's database are
        shared with all others that this process opens so.
        """
        refuse_one_not_ready(connection)
        wait = self.settings.lock_wait_seconds if wait_seconds is None else wait_seconds
        with self.ledger.leases.hold(connection.key, what, wait) as lease, ExitStack() as closing:
            api = self.apps.api(connection, priority, longest_wait=self.settings.quota_wait_seconds)
            closing.callback(api.close)
            lake = self.stores.lake(connection, syncs, epoch=lease.epoch, memory=memory)
            closing.callback(lake.close)
            if lease.taken_over:
                lake.fence_off()
            shared = memory is not None
            yield Opened(self.stores, connection, api, lake, lease, closing, shared)
            with suppress(LockTimeout):  # Someone looks into it: there's a next time.
                lake.tidy()

    def register(self, connection: ConnectionRecord, *, same_account: bool = False) -> None:
        """Store a connection; of one that's there already, new credentials for the same account.

        Its lake holds the records of that account. So a key that's another tenant's or another
        app's is refused, and so is other input, or another `account`, unless it's said to be the
        `same_account`. Raises Fatal, and for a key that can't be a file's name too.
        """
        register(self.stores, self.project, connection, same_account=same_account)

    def pause(self, key: str, reason: str = "") -> None:
        """Let none of a connection's syncs run until it's resumed (`lifecycle.pause`)."""
        lifecycle.pause(self.ledger, key, reason)

    def resume(self, key: str) -> None:
        """Let a paused connection's syncs run again (`lifecycle.resume`)."""
        lifecycle.resume(self.ledger, key)

    def archive(self, key: str) -> Archived:
        """Tell the app that a connection ends, and wipe its credentials (`lifecycle.archive`)."""
        archived = lifecycle.archive(self.ledger, key, self._tell_of_end)
        self.ledger.product_subscriptions.touch(self.ledger.known(key).tenant)
        return archived

    def _tell_of_end(self, connection: ConnectionRecord) -> None:
        """Unsubscribe, then let the app revoke the credentials, where its connector says how."""
        if not connection.credentials:
            return
        against = self.events.subscriptions.end(connection)
        option = self.apps.option(connection)
        way = self.apps.authenticator(connection.integration, option, connection.input)
        way.disconnect(connection.credentials)
        if against:
            raise Fatal(f"it may go on sending webhooks: {against}")

    @contextmanager
    def recorded(
        self, run_id: str, sync: str, connection: str, report: Report | None = None
    ) -> Iterator[Report]:
        """Write to the ledger that a run began, and how it ended; gives the report to fill.

        The stages of one run, in processes of their own, add to the same report, unless one is
        given.
        """
        run = self.ledger.runs.find(run_id, sync, connection) or RunRecord(
            run_id, connection, sync, datetime.now(UTC)
        )
        report = report or run.report or Report(sync=sync, connection=connection)
        self.ledger.runs.record([replace(run, finished_at=None, error="")])
        error = "it was interrupted"
        try:
            yield report
            error = ""
        except MembraneError as failure:
            error = failure.message
            raise
        except Exception as failure:
            error = hidden(f"{type(failure).__name__}: {failure}")
            raise
        finally:
            finished = RunRecord(
                run_id, connection, sync, run.started_at, datetime.now(UTC), report, error
            )
            self.ledger.runs.record([finished])


def _secrets_of(settings: Settings) -> list[Any]:
    """What no output of this process may show, whatever it's about."""
    server = settings.server
    urls = (settings.ledger_url, *settings.databases.values())
    passwords = [password_of(url) for url in urls]
    keys = [settings.secret_key, *settings.secret_keys_old, settings.vault_token]
    return [*keys, *server.api_keys, *server.workspace_secrets, *passwords]
