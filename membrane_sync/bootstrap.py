"""The one place that joins the parts: which adapter stands behind which port.

with open_runtime(root).connect("acme_kinto") as parties:
    report = run_sync(sync, parties)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.data_source import DataSource
from membrane_sync.errors import Fatal, LockTimeout, MembraneError, NotFound, ProjectError
from membrane_sync.ports import DEFAULT_INSTANCE, ConnectionRecord, RunRecord
from membrane_sync.project.customisation import Judged
from membrane_sync.project.overrides import customised
from membrane_sync.project.project import Project, ResolvedSync
from membrane_sync.project.references import check, errors
from membrane_sync.records import Report
from membrane_sync.stores.columns import literal, quoted
from membrane_sync.stores.duckdb_lake import DuckDbLake
from membrane_sync.stores.file_lock import held
from membrane_sync.stores.retention import Retention
from membrane_sync.stores.sql_destination import SqlDestination
from membrane_sync.stores.sql_ledger import SqlLedger
from membrane_sync.stores.stream_rules import rules_of
from membrane_sync.stores.vault import AesVault, vault_key
from membrane_sync.sync.collection import render
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


@dataclass(frozen=True)
class Standing:
    """How one sync of one connection stands; `result` says in words how its last run went."""

    connection: str
    tenant: str
    integration: str
    sync: str
    records: int
    links: int
    dead_letters: int
    last_sync: datetime | None
    result: str


def _result(run: RunRecord | None) -> str:
    if run is None:
        return ""
    if run.finished_at is None:
        return "running, or ended without a word"
    if run.error or run.report is None:
        return f"failed: {run.error.splitlines()[0]}"
    report = run.report
    numbers = {"created": report.created, "updated": report.updated, "deleted": report.deleted}
    numbers |= {"mapped": report.mapped, "delivered": report.delivered, "failed": report.failed}
    return ", ".join(f"{n:,} {what}" for what, n in numbers.items() if n) or "nothing changed"


def _without_syncs(connection: ConnectionRecord, why: str) -> Standing:
    names = (connection.key, connection.tenant, connection.integration)
    return Standing(*names, sync="", records=0, links=0, dead_letters=0, last_sync=None, result=why)


_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def _check_key(connection: ConnectionRecord) -> None:
    """A key names a file, a partition and a folder, so it's of letters, digits, - and _."""
    if not _KEY.fullmatch(connection.key):
        raise Fatal(
            f"{connection.key!r} can't be the key of a connection",
            hint="use 1 to 100 letters, digits, - and _; give it as --key",
        )
    if not connection.tenant.strip() or not connection.tenant.isprintable():
        raise Fatal(
            f"{connection.tenant!r} can't be the key of a tenant", hint="give it as --tenant"
        )


def _refuse_another_account(
    stored: ConnectionRecord, given: ConnectionRecord, same_account: bool
) -> None:
    if stored.key != given.key:
        raise Fatal(
            f"connection {given.key!r} differs from {stored.key!r} only in case",
            hint="some disks take the two for one file; give another --key",
        )
    if (stored.tenant, stored.integration) != (given.tenant, given.integration):
        raise Fatal(
            f"connection {given.key!r} is tenant {stored.tenant!r}'s in {stored.integration!r}",
            hint="give the new connection another --key",
        )
    if dict(stored.input) != dict(given.input) and not same_account:
        changed = sorted(
            name
            for name in {*stored.input, *given.input}
            if stored.input.get(name) != given.input.get(name)
        )
        raise Fatal(
            f"connection {given.key!r} would get another {', '.join(changed)}; its lake holds the "
            "records of the account it has now",
            hint="for another account give another --key; for the same one at a new address, "
            "--same-account",
        )


class Runtime:
    """A checked project with its stores."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.settings = project.settings

    @cached_property
    def ledger(self) -> SqlLedger:
        """Connections, credentials and runs."""
        key = vault_key(self.settings.secret_key, self.settings.data_dir / "secret.key")
        return SqlLedger(self.settings.ledger_url, AesVault(key))

    def lake_path(self, connection: str) -> Path:
        """The connection's lake file, which may not exist yet."""
        return self.settings.data_dir / "lake" / f"{connection}.duckdb"

    def lake(self, connection: ConnectionRecord) -> DuckDbLake:
        """The connection's lake; close it after use."""
        syncs = self.syncs(connection)
        sources: dict[str, list[DataSource]] = defaultdict(list)
        for sync in syncs:
            sources[sync.stream].append(sync.source)
        return DuckDbLake(
            self.lake_path(connection.key),
            schemas={sync.stream: sync.collection.fields_schema for sync in syncs},
            rules={s.stream: rules_of(s.collection, sources[s.stream]) for s in syncs},
            retention=Retention(self.settings.keep_changes_days, self.settings.keep_history_days),
            wait_seconds=self.settings.lock_wait_seconds,
        )

    def seen_by(
        self, connection: str, integration: str, instance_key: str = DEFAULT_INSTANCE
    ) -> Project:
        """The project with the connection's overrides, as the ledger has them now."""
        overrides = self.ledger.overrides(connection)
        return customised(self.project, connection, integration, overrides, instance_key)

    def judged(self, connection: ConnectionRecord) -> list[Judged]:
        """All the connection's overrides in the ledger's order, and how they stand."""
        overrides = self.ledger.overrides(connection.key)
        found: list[Judged] = []
        for instance in {override.instance_key for override in overrides}:
            project = customised(
                self.project, connection.key, connection.integration, overrides, instance
            )
            custom = project.customisation
            found += custom.judged if custom else ()
        return sorted(found, key=lambda judged: judged.mark.line)

    def syncs(
        self, connection: ConnectionRecord, instance_key: str = DEFAULT_INSTANCE
    ) -> list[ResolvedSync]:
        """Every sync that this connection takes part in, as it sees them.

        Raises NotFound if the project has the connection's integration no more.
        """
        if connection.integration not in self.project.integrations:
            raise NotFound(
                f"connection {connection.key!r} is of integration {connection.integration!r}, "
                "which the project doesn't have",
                hint=f"bring the integration back, or: membrane disconnect {connection.key}",
            )
        project = self.seen_by(connection.key, connection.integration, instance_key)
        return project.syncs(connection.integration, connection.key)

    def sync(
        self, key: str, connection: ConnectionRecord, instance_key: str = DEFAULT_INSTANCE
    ) -> ResolvedSync:
        """One sync as the connection sees it; raises NotFound where it takes no part."""
        project = self.seen_by(connection.key, connection.integration, instance_key)
        sync = project.sync(key, connection.integration, connection.key)
        if sync is None:
            syncs = project.syncs(connection.integration, connection.key)
            known = ", ".join(s.sync.key for s in syncs) or "none"
            raise NotFound(
                f"sync {key!r} is not for integration {connection.integration!r}, or is disabled",
                hint=f"connection {connection.key!r} takes part in: {known}",
            )
        return sync

    @contextmanager
    def connect(
        self, key: str, sync: ResolvedSync | None = None, *, what: str = "sync"
    ) -> Iterator[Parties]:
        """Everything one run of a connection needs, held so that no other run overlaps.

        Raises NotConnected, SecretError, or LockTimeout, which names who holds the connection.
        """
        connection = self.ledger.connection(key)
        lock = self.settings.data_dir / "locks" / f"{key}.lock"
        with held(lock, what, self.settings.lock_wait_seconds):
            integration = self.project.integration(connection.integration)
            connector = self.project.connector(connection.integration)
            api = HttpApi(connector, connection, integration.parameters)
            lake = self.lake(connection)
            destination = SqlDestination(self.database(sync))
            try:
                yield Parties(connection, api, lake, destination)
                with suppress(LockTimeout):  # Someone looks into it: there's a next time.
                    lake.tidy()
            finally:
                destination.close()
                lake.close()
                api.close()

    def register(self, connection: ConnectionRecord, *, same_account: bool = False) -> None:
        """Store a connection; of one that's there already, new credentials for the same account.

        Its lake holds the records of that account. So a key that's another tenant's or another
        app's is refused, and so is other input, unless it's said to be the `same_account` at a new
        address. Raises Fatal, and for a key that can't be a file's name too.
        """
        _check_key(connection)
        others = [
            other
            for other in self.ledger.connections()
            if other.key.casefold() == connection.key.casefold()
        ]
        for other in others:
            _refuse_another_account(other, connection, same_account)
        lake = self.lake_path(connection.key)
        if not others and not same_account and lake.exists():
            raise Fatal(
                f"{lake.name} holds the records of an earlier connection {connection.key!r}",
                hint="for the same account again, --same-account; for another one, another --key, "
                "or move the file away",
            )
        self.ledger.connect(connection)

    def prove(self, connection: ConnectionRecord) -> None:
        """Call the app's `test` request with the connection's credentials, if it declares one.

        Raises NotAuthorized, or whatever else the app has against it.
        """
        connector = self.project.connector(connection.integration)
        parameters = self.project.integration(connection.integration).parameters
        api = HttpApi(connector, connection, parameters)
        try:
            if connector.test is not None:
                scope = {"input": dict(connection.input), "parameters": parameters}
                api.send(render(connector.test, scope))
        finally:
            api.close()

    def overview(self) -> list[Standing]:
        """How each sync of each connection stands, in order of their keys."""
        last = {(run.connection, run.sync): run for run in self.ledger.last_runs()}
        found: list[Standing] = []
        for connection in self.ledger.connections():
            try:
                syncs = self.syncs(connection)
                found += [
                    self._standing(connection, sync, last.get((connection.key, sync.sync.key)))
                    for sync in syncs
                ]
                if not syncs:
                    found.append(_without_syncs(connection, "takes part in no sync"))
            except MembraneError as error:
                found.append(_without_syncs(connection, f"failed: {error.message}"))
        return found

    def _standing(
        self, connection: ConnectionRecord, sync: ResolvedSync, run: RunRecord | None
    ) -> Standing:
        lake = self.lake(connection)
        try:
            stream, key = quoted(sync.stream), sync.sync.key
            return Standing(
                connection=connection.key,
                tenant=connection.tenant,
                integration=connection.integration,
                sync=key,
                records=lake.count(
                    f"SELECT count(*) FROM records.{stream} WHERE _deleted_at IS NULL"
                ),
                links=lake.count(
                    f"SELECT count(*) FROM links WHERE link_table = {literal(sync.links.key)}"
                ),
                dead_letters=lake.count(
                    f"SELECT count(*) FROM dead_letters WHERE element IN "
                    f"({literal(key)}, {literal(sync.stream)})"
                ),
                last_sync=run.finished_at or run.started_at if run else None,
                result=_result(run),
            )
        finally:
            lake.close()

    def database(self, sync: ResolvedSync | None) -> str:
        """URL of the product's database that a sync delivers to."""
        table = sync.schema.table if sync and sync.schema else None
        return self.settings.databases[table.database if table else "app"]

    @contextmanager
    def recorded(
        self, run_id: str, sync: str, connection: str, report: Report | None = None
    ) -> Iterator[Report]:
        """Write to the ledger that a run began, and how it ended; gives the report to fill.

        The stages of one run, in processes of their own, add to the same report, unless one is
        given.
        """
        run = next(
            (
                run
                for run in self.ledger.last_runs()
                if (run.id, run.sync, run.connection) == (run_id, sync, connection)
            ),
            RunRecord(run_id, connection, sync, datetime.now(UTC)),
        )
        report = report or run.report or Report(sync=sync, connection=connection)
        self.ledger.record_run(replace(run, finished_at=None, error=""))
        error = "it was interrupted"
        try:
            yield report
            error = ""
        except MembraneError as failure:
            error = failure.message
            raise
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            finished = RunRecord(
                run_id, connection, sync, run.started_at, datetime.now(UTC), report, error
            )
            self.ledger.record_run(finished)
