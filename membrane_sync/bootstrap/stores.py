"""Where things are kept: the ledger, the lakes, the vault, the quotas, the product's databases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from membrane_sync.clients.secret_store import secret_store
from membrane_sync.elements.data_source import DataSource
from membrane_sync.ports import ConnectionRecord, Lease, Vault
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.file import Memory, new_memory
from membrane_sync.stores.lake.retention import Retention
from membrane_sync.stores.lake.stream_rules import rules_of
from membrane_sync.stores.ledger.sql_ledger import SqlLedger
from membrane_sync.stores.secret_keys import SecretKeys
from membrane_sync.stores.sql_destination import SqlDestination, Tables
from membrane_sync.stores.sql_quotas import SqlQuotas
from membrane_sync.stores.store_vault import StoreVault
from membrane_sync.stores.vault import AesVault
from membrane_sync.sync.ancestors import collections_read
from membrane_sync.sync.custom_fields import CUSTOM_FIELDS


class Stores:
    """A project's stores; nothing is opened before it's used."""

    def __init__(self, project: Project) -> None:
        self._root = project.root
        self._settings = project.settings
        self._tables: dict[str, Tables] = {}

    def close(self) -> None:
        """Give back all database connections; they come back when they're needed."""
        self.ledger.close()
        for tables in self._tables.values():
            tables.close()
        self._tables.clear()

    @cached_property
    def ledger(self) -> SqlLedger:
        """Connections, credentials and runs."""
        return SqlLedger(
            self._settings.ledger_url, self.vault, lease_seconds=self._settings.lease_seconds
        )

    @cached_property
    def secret_keys(self) -> SecretKeys:
        """The keys that secrets are sealed with; read, or made, by the first one who seals."""
        settings = self._settings
        path = settings.data_dir / "secret.key"
        return SecretKeys(path, settings.secret_key, settings.secret_keys_old)

    @cached_property
    def vault(self) -> Vault:
        """Where secrets are kept: sealed in the ledger, or in the store that the settings name."""
        here = AesVault(self.secret_keys)
        settings = self._settings
        if not settings.vault:
            return here
        store = secret_store(settings.vault, settings.vault_token, self._root)
        return StoreVault(store, here)

    @cached_property
    def quotas(self) -> SqlQuotas:
        """The rate limits of all connections; opened by the first one that declares some."""
        return SqlQuotas(self._settings.ledger_url)

    def new_memory(self, threads: int) -> Memory:
        """A DuckDB that one thread may use for one lake after another."""
        return new_memory(self._settings.data_dir / "lake" / "spill", threads)

    def lake_path(self, connection: str) -> Path:
        """The connection's lake file, which may not exist yet."""
        return self._settings.data_dir / "lake" / f"{connection}.duckdb"

    def lake(
        self,
        connection: ConnectionRecord,
        syncs: Sequence[ResolvedSync],
        *,
        epoch: int | None = None,
        memory: Memory | None = None,
    ) -> DuckDbLake:
        """The connection's lake, for these syncs of it; close it after use."""
        sources: dict[str, list[DataSource]] = defaultdict(list)
        for sync in syncs:
            sources[sync.stream].append(sync.source)
        read = collections_read(syncs, connection)
        return DuckDbLake(
            self.lake_path(connection.key),
            schemas={stream: collection.fields_schema for stream, collection in read.items()},
            rules={stream: rules_of(read[stream], sources[stream]) for stream in read},
            retention=Retention(self._settings.keep_changes_days, self._settings.keep_history_days),
            consumers={f"map:{sync.sync.key}": sync.stream for sync in syncs},
            wait_seconds=self._settings.lock_wait_seconds,
            epoch=epoch,
            memory=memory,
        )

    def learnt_fields(self, connection: str, stream: str) -> dict[str, Any] | None:
        """What is known of the account's own fields: `properties`, and `at` for since when."""
        lake = DuckDbLake(self.lake_path(connection), wait_seconds=self._settings.lock_wait_seconds)
        try:
            found: dict[str, Any] | None = lake.note(stream, CUSTOM_FIELDS)
            return found
        finally:
            lake.close()

    def destination(self, url: str, lease: Lease, *, shared: bool = False) -> SqlDestination:
        """A database of the product, which is only written while the lease is held."""
        # SQLite lets one write at a time: the lease can't be renewed in a file that we're writing.
        inside = url != self._settings.ledger_url or not url.startswith("sqlite")
        tables = self._tables.setdefault(url, Tables(url)) if shared else None
        return SqlDestination(url, lease.check, inside=inside, tables=tables)

    def database(self, sync: ResolvedSync | None) -> str:
        """URL of the product's database that a sync delivers to."""
        table = sync.schema.table if sync and sync.schema else None
        return self._settings.databases[table.database if table else "app"]
