"""The one place that joins the parts: which adapter stands behind which port.

with open_runtime(root).connect("acme_kinto") as parties:
    report = run_sync(sync, parties)
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import get_ident
from typing import Any

from membrane_sync.clients.api import DEADLINE_SECONDS, HttpApi
from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.account import account_of
from membrane_sync.clients.authentication.flow import client_config
from membrane_sync.clients.authentication.way import Ask, Way
from membrane_sync.clients.fetch import fetch_json
from membrane_sync.clients.hosts import Hosts
from membrane_sync.clients.product import HttpProduct
from membrane_sync.clients.secret_store import secret_store
from membrane_sync.clients.transport import guarded_transport
from membrane_sync.connections import lifecycle
from membrane_sync.connections.lifecycle import Archived
from membrane_sync.connections.tokens import Tokens
from membrane_sync.elements.authentication import Authentication
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.data_source import DataSource
from membrane_sync.elements.internal_event import Outbox
from membrane_sync.elements.sensitive import sensitive_fields
from membrane_sync.elements.sync import Sync
from membrane_sync.errors import (
    AnotherAccount,
    Fatal,
    InvalidInput,
    LockTimeout,
    MembraneError,
    NotAuthorized,
    NotConnected,
    NotFound,
    NotReady,
    ProjectError,
)
from membrane_sync.events.checkups import Keeper, Looked
from membrane_sync.events.intake import Intake
from membrane_sync.events.internal import InternalEvents, Published
from membrane_sync.events.outbox import Outboxes, Reading
from membrane_sync.events.polling import ways
from membrane_sync.events.product import ProductSubscriber
from membrane_sync.events.recipients import Recipients
from membrane_sync.events.replay import Replay, WebhookReplay
from membrane_sync.masking import Mask, hidden, mask_logs, password_of, passwords
from membrane_sync.ports import (
    DEFAULT_INSTANCE,
    Api,
    Authenticator,
    ConnectionRecord,
    Lease,
    Override,
    Priority,
    RunRecord,
    Vault,
)
from membrane_sync.project.authentication import Access, access, accesses
from membrane_sync.project.customisation import Judged
from membrane_sync.project.inputs import checked_input
from membrane_sync.project.overrides import customised
from membrane_sync.project.project import (
    INSTANCE_MARK,
    Project,
    ResolvedSync,
    stream_name,
)
from membrane_sync.project.references import check, errors
from membrane_sync.project.settings import Settings
from membrane_sync.project.trust import address_is_typed
from membrane_sync.records import Answer, Call, Report
from membrane_sync.stores.columns import literal, quoted
from membrane_sync.stores.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake_file import Memory, new_memory
from membrane_sync.stores.retention import Retention
from membrane_sync.stores.secret_keys import SecretKeys
from membrane_sync.stores.sql_connection_requests import SqlConnectionRequests
from membrane_sync.stores.sql_destination import SqlDestination, Tables
from membrane_sync.stores.sql_ledger import SqlLedger
from membrane_sync.stores.sql_outbox import SqlOutbox
from membrane_sync.stores.sql_quotas import SqlQuotas
from membrane_sync.stores.sql_tenants import SqlTenantLedger
from membrane_sync.stores.store_vault import StoreVault
from membrane_sync.stores.stream_rules import rules_of
from membrane_sync.stores.vault import AesVault
from membrane_sync.sync.collection import render
from membrane_sync.sync.custom_fields import CUSTOM_FIELDS, as_known
from membrane_sync.sync.family import schemas_of
from membrane_sync.sync.run import Parties

log = logging.getLogger("membrane_sync.events")

__all__ = ["Memory", "Opened", "Runtime", "Standing", "find_root", "open_runtime"]


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
    ways: str = ""
    """How changes reach us, in words."""


def _refuse_one_not_ready(connection: ConnectionRecord) -> None:
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


def _result(connection: ConnectionRecord, run: RunRecord | None) -> str:
    if connection.status != "ready":
        words = connection.status.replace("_", " ")
        return f"{words}: {connection.reason}" if connection.reason else words
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


def _secret_input(project: Project, integration: str) -> tuple[str, ...]:
    if integration not in project.integrations:
        return ()
    return sensitive_fields(project.connector(integration).input_schema)


def _tenant(project: Project, connection: ConnectionRecord) -> dict[str, Any]:
    """What a function of the project's hooks is told of whom it works for; no credentials."""
    secret = _secret_input(project, connection.integration)
    return {
        "tenant": connection.tenant,
        "connection": connection.key,
        "integration": connection.integration,
        "input": {n: v for n, v in connection.plain_input.items() if n not in secret},
    }


def _for_tenant(project: Project, sync: ResolvedSync, connection: ConnectionRecord) -> ResolvedSync:
    if sync.schema is None or sync.schema.function is None:
        return sync
    names = (connection.integration, connection.key)
    return replace(
        sync, schema=project.schema_of(sync.schema, *names, _tenant(project, connection))
    )


def _secrets_of(settings: Settings) -> list[Any]:
    """What no output of this process may show, whatever it's about."""
    server = settings.server
    urls = (settings.ledger_url, *settings.databases.values())
    passwords = [password_of(url) for url in urls]
    keys = [settings.secret_key, *settings.secret_keys_old, settings.vault_token]
    return [*keys, *server.api_keys, *server.workspace_secrets, *passwords]


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


def _refuse_password_in_address(connection: ConnectionRecord) -> None:
    """What isn't a secret field is stored and shown as it is."""
    for name, value in connection.plain_input.items():
        if passwords(value):
            raise InvalidInput(
                {name: "has a password in its address"},
                hint="leave it out there, and give it as a credential",
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
    if stored.account and given.account not in ("", stored.account) and not same_account:
        raise AnotherAccount(
            f"connection {given.key!r} is with the app's account {stored.account!r}, and these "
            f"credentials are for {given.account!r}; its lake holds the records of the first",
            hint="sign in with that one, or connect the other one under another --key; if the app "
            "only calls it by another name now, --same-account",
        )
    changed = sorted(
        name
        for name in {*stored.input, *given.input} - {*given.secret_fields}
        if stored.input.get(name) != given.input.get(name)
    )
    if changed and not same_account:
        raise Fatal(
            f"connection {given.key!r} would get another {', '.join(changed)}; its lake holds the "
            "records of the account it has now",
            hint="for another account give another --key; for the same one at a new address, "
            "--same-account",
        )


CONNECTIONS_A_QUERY = 500

ROWS_A_READING = 1_000
"""Rows of one outbox that are put into the inbox in one transaction."""

INTERACTIVE_SECONDS = 30.0
"""How long a person who connects is made to wait for an app that's busy."""


def _reached(way: Access, connection: ConnectionRecord) -> Connector:
    """The connector as its `client` makes it for these credentials: the address, error rules."""
    scope = {
        "input": dict(connection.input),
        "parameters": dict(way.parameters),
        "credentials": dict(connection.credentials),
    }
    config = client_config(way.authentication, scope, way.functions)
    changed = {"errors": [*config["errors"], *way.connector.errors]} if config["errors"] else {}
    changed |= {"base_url": config["base_url"]} if config["base_url"] else {}
    return way.connector.model_copy(update=changed) if changed else way.connector


def _way(access: Access, input: Mapping[str, Any], ask: Ask, hosts: Hosts | None = None) -> Way:
    return Way(
        connector=access.connector,
        ask=ask,
        render=render,
        input=input,
        parameters=access.parameters,
        functions=access.functions,
        transport=guarded_transport(hosts) if hosts is not None else None,
    )


def _open(way: Access) -> Connector:
    """The connector for calls that go without credentials, as a login does."""
    certificate = way.authentication.certificate
    return way.connector.model_copy(
        update={"authentication": Authentication(certificate=certificate)}
    )


@dataclass
class Opened:
    """A connection that is held: its app, its lake, and the product's databases."""

    runtime: Runtime
    connection: ConnectionRecord
    api: HttpApi
    lake: DuckDbLake
    lease: Lease
    closing: ExitStack
    shared: bool
    destinations: dict[str, SqlDestination] = field(default_factory=dict)

    def parties(self, sync: ResolvedSync | None) -> Parties:
        """Who takes part in one of its syncs."""
        url = self.runtime.database(sync)
        if url not in self.destinations:
            destination = self.runtime.destination(url, self.lease, shared=self.shared)
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


class Runtime:
    """A checked project with its stores."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.settings = project.settings
        self._mask = Mask(_secrets_of(project.settings))
        mask_logs()
        self._syncs: dict[str, list[ResolvedSync]] = {}
        self._tables: dict[str, Tables] = {}

    fetch_json = staticmethod(fetch_json)
    """Fetches a public JSON document, such as the keys that tokens are signed with."""

    def close(self) -> None:
        """Give back all database connections; they come back when they're needed."""
        self.ledger.close()
        if "outboxes" in self.__dict__:
            self.outboxes.close()
        for tables in self._tables.values():
            tables.close()
        self._tables.clear()

    @cached_property
    def ledger(self) -> SqlLedger:
        """Connections, credentials and runs."""
        return SqlLedger(
            self.settings.ledger_url, self.vault, lease_seconds=self.settings.lease_seconds
        )

    @cached_property
    def secret_keys(self) -> SecretKeys:
        """The keys that secrets are sealed with; read, or made, by the first one who seals."""
        settings = self.settings
        path = settings.data_dir / "secret.key"
        return SecretKeys(path, settings.secret_key, settings.secret_keys_old)

    @cached_property
    def vault(self) -> Vault:
        """Where secrets are kept: sealed in the ledger, or in the store that the settings name."""
        here = AesVault(self.secret_keys)
        settings = self.settings
        if not settings.vault:
            return here
        store = secret_store(settings.vault, settings.vault_token, self.project.root)
        return StoreVault(store, here)

    @cached_property
    def quotas(self) -> SqlQuotas:
        """The rate limits of all connections; opened by the first one that declares some."""
        return SqlQuotas(self.settings.ledger_url)

    @cached_property
    def intake(self) -> Intake:
        """Takes in webhooks, into the ledger's inbox."""
        ledger = self.ledger
        recipients = Recipients(self.project, ledger.subscriptions, ledger.connection)
        return Intake(recipients, ledger.inbox)

    @property
    def requests(self) -> SqlConnectionRequests:
        """What products asked users to connect, by links."""
        return self.ledger.requests

    def tenant_ledger(self, tenant: str | None) -> SqlTenantLedger:
        """The connections that a tenant may see; None for all."""
        return self.ledger.for_tenant(tenant)

    @cached_property
    def internal_events(self) -> InternalEvents:
        """What the product tells of."""
        return InternalEvents(self.project, self.ledger.inbox, self.listeners)

    @cached_property
    def outboxes(self) -> Outboxes:
        """The tables that the product writes its events to."""

        def opened(outbox: Outbox, event: str) -> SqlOutbox:
            return SqlOutbox(self.settings.databases[outbox.database], outbox, event)

        return Outboxes(self.project, self.ledger.inbox, self.internal_events, opened)

    def read_outboxes(self, limit: int = ROWS_A_READING) -> Sequence[Reading]:
        """Put the next rows of each outbox into the inbox; again at once where there are `more`."""
        return self.outboxes.read(limit)

    def publish(
        self, type: str, payload: Mapping[str, Any], *, tenant: str = "", key: str = ""
    ) -> Published:
        """Tell of an internal event of a tenant's; once it returns, the event is not lost.

        Without a `tenant`, the type's formula names it; told again with the same `key`, it's the
        same event. Raises NotFound, or InvalidInput where the payload doesn't fit.
        """
        return self.internal_events.publish(type, [payload], tenant=tenant, key=key)

    def replay(self, tenant: str | None = None) -> Replay:
        """Lets events of a tenant's, or with None of anybody's, take effect once more."""
        return Replay(self.ledger.event_log(tenant), self.internal_events)

    @property
    def webhook_replay(self) -> WebhookReplay:
        """Takes in webhooks that were kept once more."""
        return WebhookReplay(self.ledger.webhooks, self.intake, self.ledger.inbox)

    def forget_events(self) -> Mapping[str, int]:
        """Delete webhooks and events as old as the settings say; gives how many of each."""
        days = timedelta(days=self.settings.keep_events_days)
        return self.ledger.forget_events(datetime.now(UTC) - days)

    def listeners(self, tenant: str, event: str) -> list[str]:
        """The tenant's connections with a sync that an internal event makes run.

        One that rests is among them: its events wait.
        """
        found, after = [], ""
        ledger = self.tenant_ledger(tenant)
        while page := ledger.connections(after, CONNECTIONS_A_QUERY):
            found += [c.key for c in page if c.status != "archived" and self._asks(c, event)]
            after = page[-1].key
        return found

    def _asks(self, connection: ConnectionRecord, event: str) -> bool:
        try:
            syncs = self.syncs(connection)
        except NotFound:
            return False
        except MembraneError:
            return True  # It can't be said now, and to ask later is better than to lose it.
        triggers = (trigger for sync in syncs for trigger in sync.sync.triggers)
        return any(trigger.internal_event == event for trigger in triggers)

    def new_memory(self, threads: int) -> Memory:
        """A DuckDB that one thread may use for one lake after another."""
        return new_memory(self.settings.data_dir / "lake" / "spill", threads)

    def lake_path(self, connection: str) -> Path:
        """The connection's lake file, which may not exist yet."""
        return self.settings.data_dir / "lake" / f"{connection}.duckdb"

    def lake(self, connection: ConnectionRecord) -> DuckDbLake:
        """The connection's lake, to read it; close it after use."""
        return self._lake(connection, self.syncs(connection))

    def _lake(
        self,
        connection: ConnectionRecord,
        syncs: Sequence[ResolvedSync],
        *,
        epoch: int | None = None,
        memory: Memory | None = None,
    ) -> DuckDbLake:
        sources: dict[str, list[DataSource]] = defaultdict(list)
        for sync in syncs:
            sources[sync.stream].append(sync.source)
        return DuckDbLake(
            self.lake_path(connection.key),
            schemas=schemas_of(syncs, connection),
            rules={s.stream: rules_of(s.collection, sources[s.stream]) for s in syncs},
            retention=Retention(self.settings.keep_changes_days, self.settings.keep_history_days),
            wait_seconds=self.settings.lock_wait_seconds,
            epoch=epoch,
            memory=memory,
        )

    def learnt_fields(self, connection: str, stream: str) -> dict[str, Any] | None:
        """What is known of the account's own fields: `properties`, and `at` for since when."""
        lake = DuckDbLake(self.lake_path(connection), wait_seconds=self.settings.lock_wait_seconds)
        try:
            found: dict[str, Any] | None = lake.note(stream, CUSTOM_FIELDS)
            return found
        finally:
            lake.close()

    def as_known(
        self, connection: str, collection: DataCollection, source: DataSource
    ) -> DataCollection:
        """The collection with the fields that the connection's account has of its own."""
        if collection.custom_fields is None or not self.lake_path(connection).exists():
            return collection
        stream = stream_name(collection.key, source.collection_parameters)
        return as_known(collection, self.learnt_fields(connection, stream))

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
        self, connection: ConnectionRecord, instance_key: str | None = None
    ) -> list[ResolvedSync]:
        """Every sync that this connection takes part in, as it sees them, or of one instance.

        Another instance than the default one has those syncs of which it overrides an element.
        Raises NotFound if the project has the connection's integration no more.
        """
        if connection.integration not in self.project.integrations:
            raise NotFound(
                f"connection {connection.key!r} is of integration {connection.integration!r}, "
                "which the project doesn't have",
                hint=f"bring the integration back, or: membrane disconnect {connection.key}",
            )
        overrides = self.ledger.overrides(connection.key)
        others = sorted({o.instance_key for o in overrides} - {DEFAULT_INSTANCE})
        wanted = [DEFAULT_INSTANCE, *others] if instance_key is None else [instance_key]
        if connection.key not in self.project.connections and not overrides:
            return self._usual(connection, wanted)
        return [sync for name in wanted for sync in self._instance(connection, overrides, name)]

    def _usual(self, connection: ConnectionRecord, wanted: Sequence[str]) -> list[ResolvedSync]:
        """The syncs of a connection of which nobody says anything: as its integration has them."""
        if DEFAULT_INSTANCE not in wanted:
            return []
        if connection.integration not in self._syncs:
            self._syncs[connection.integration] = self.project.syncs(connection.integration)
        found = self._syncs[connection.integration]
        return [_for_tenant(self.project, sync, connection) for sync in found]

    def _instance(
        self, connection: ConnectionRecord, overrides: Sequence[Override], instance_key: str
    ) -> Iterator[ResolvedSync]:
        names = (connection.key, connection.integration)
        project = customised(self.project, *names, overrides, instance_key)
        judged = project.customisation.judged if project.customisation else ()
        changed = [(j.override.kind, j.override.key) for j in judged]
        for sync in project.syncs(connection.integration, connection.key):
            if instance_key == DEFAULT_INSTANCE or any(sync.is_made_of(*part) for part in changed):
                yield _for_tenant(project, sync, connection).instance(instance_key)

    def sync(
        self, key: str, connection: ConnectionRecord, instance_key: str = DEFAULT_INSTANCE
    ) -> ResolvedSync:
        """One sync as the connection sees it, as `contacts` or `contacts@emea`.

        Raises NotFound where the connection takes no part in it.
        """
        key, mark, named = key.partition(INSTANCE_MARK)
        instance_key = named if mark else instance_key
        self.project.get(Sync, key, integration=connection.integration, connection=connection.key)
        wanted = key if instance_key == DEFAULT_INSTANCE else f"{key}{INSTANCE_MARK}{instance_key}"
        for sync in self.syncs(connection, instance_key):
            if sync.sync.key == wanted:
                return sync
        known = ", ".join(sync.sync.key for sync in self.syncs(connection)) or "none"
        hint = f"connection {connection.key!r} takes part in: {known}"
        if instance_key != DEFAULT_INSTANCE:
            message = f"sync {key!r} has no instance {instance_key!r} for {connection.key!r}"
            hint += f"; make one: membrane override set sync {key} ... --instance {instance_key}"
            raise NotFound(message, hint=hint)
        raise NotFound(
            f"sync {key!r} is not for integration {connection.integration!r}, or is disabled",
            hint=hint,
        )

    def schema_of(self, project: Project, schema: DataSchema, connection: str) -> DataSchema:
        """The schema as its function, if it has one, gives it for a connection's tenant."""
        record = self.ledger.connection(connection)
        return project.schema_of(schema, record.integration, connection, _tenant(project, record))

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
        _refuse_one_not_ready(connection)
        wait = self.settings.lock_wait_seconds if wait_seconds is None else wait_seconds
        with self.ledger.leases.hold(connection.key, what, wait) as lease, ExitStack() as closing:
            api = self.api(connection, priority, longest_wait=self.settings.quota_wait_seconds)
            closing.callback(api.close)
            lake = self._lake(connection, syncs, epoch=lease.epoch, memory=memory)
            closing.callback(lake.close)
            if lease.taken_over:
                lake.fence_off()
            yield Opened(self, connection, api, lake, lease, closing, shared=memory is not None)
            with suppress(LockTimeout):  # Someone looks into it: there's a next time.
                lake.tidy()

    def api(
        self,
        connection: ConnectionRecord,
        priority: Priority = "interactive",
        *,
        longest_wait: float = DEADLINE_SECONDS,
    ) -> HttpApi:
        """The external app as the connection reaches it; close it after use.

        The connection is one of the ledger's: its credentials are refreshed there.
        """
        live = self._tokens(connection)
        return self._api(connection, live=live, priority=priority, longest_wait=longest_wait)

    def _api(self, connection: ConnectionRecord, **options: Any) -> HttpApi:
        way = self.access(connection.integration, self.option(connection))
        return HttpApi(
            _reached(way, connection),
            connection,
            way.parameters,
            functions=way.functions,
            quotas=self.quotas,
            hosts=self._hosts(way),
            **options,
        )

    def _hosts(self, way: Access) -> Hosts | None:
        """The hosts that may be called, where whoever asks the API may type in the address."""
        server = self.settings.server
        is_typed = server.is_open and address_is_typed(way.connector)
        return Hosts(server.private_hosts) if is_typed else None

    def refresh(self, connection_key: str) -> ConnectionRecord:
        """Refresh the connection's credentials now, though they may still work.

        One that had to be connected anew is ready again if the app goes along. Raises Fatal where
        there's nothing to refresh with, and what the app has against it.
        """
        self._tokens(self.ledger.connection(connection_key)).renew()
        return self.ledger.connection(connection_key)

    def _tokens(self, connection: ConnectionRecord) -> Tokens:
        def authenticator() -> Authenticator:
            option = self.option(connection)
            return self.authenticator(connection.integration, option, connection.input)

        return Tokens(connection, self.ledger.credentials, authenticator)

    def accesses(self, integration: str) -> list[Access]:
        """The ways to authenticate that users of the integration may choose from."""
        return accesses(self.project, integration)

    def access(self, integration: str, option: str = "") -> Access:
        """One way to authenticate; raises NotFound, or Fatal where one has to be chosen."""
        return access(self.project, integration, option)

    def option(self, connection: ConnectionRecord) -> str:
        """The option that the connection authenticates by, as the ledger or its file says."""
        declared = self.project.connection(connection.key)
        return connection.option or (declared.authentication_option or "" if declared else "")

    def authenticator(
        self, integration: str, option: str = "", input: Mapping[str, Any] | None = None
    ) -> Authenticator:
        """Gets and renews credentials for a connection with this input; it's not stored yet."""
        way = self.access(integration, option)
        given = dict(input or {})
        hosts = self._hosts(way)

        def ask(call: Call, credentials: Mapping[str, Any], signed: bool) -> Answer:
            record = ConnectionRecord(
                f"new {integration}", integration, "", input=given, credentials=credentials
            )
            api = HttpApi(
                _reached(way, record) if signed else _open(way),
                record,
                way.parameters,
                functions=way.functions,
                longest_wait=INTERACTIVE_SECONDS,
                hosts=hosts,
            )
            try:
                return api.send(call)
            finally:
                api.close()

        return authenticator(_way(way, given, ask, hosts))

    def secret_input(self, integration: str) -> tuple[str, ...]:
        """Fields of a connection's input that are secrets; none of an integration that's gone."""
        return _secret_input(self.project, integration)

    def checked_input(
        self, integration: str, option: str, input: Mapping[str, Any], typed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The connection's input, and what was typed for the option, in their schemas' types.

        Raises InvalidInput, which says of every field what's wrong with it.
        """
        connector = self.access(integration, option).connector
        return (
            checked_input(connector.input_schema, input),
            checked_input(connector.authentication.input_schema, typed),
        )

    def register(self, connection: ConnectionRecord, *, same_account: bool = False) -> None:
        """Store a connection; of one that's there already, new credentials for the same account.

        Its lake holds the records of that account. So a key that's another tenant's or another
        app's is refused, and so is other input, or another `account`, unless it's said to be the
        `same_account`. Raises Fatal, and for a key that can't be a file's name too.
        """
        _check_key(connection)
        self.project.connector(connection.integration)  # There must be one.
        connection = replace(connection, secret_fields=self.secret_input(connection.integration))
        _refuse_password_in_address(connection)
        others = [
            other
            for other in self.ledger.connections()
            if other.key.casefold() == connection.key.casefold()
        ]
        for other in others:
            _refuse_another_account(other, connection, same_account)
            # One that nobody looked at is the one it was.
            connection = replace(connection, account=connection.account or other.account)
        lake = self.lake_path(connection.key)
        if not others and not same_account and lake.exists():
            raise Fatal(
                f"{lake.name} holds the records of an earlier connection {connection.key!r}",
                hint="for the same account again, --same-account; for another one, another --key, "
                "or move the file away",
            )
        self.ledger.connect(connection)

    def prove(self, connection: ConnectionRecord, *, stored: bool = False) -> str:
        """Call the app's `test`, a request or a function, with the credentials, if it declares one.

        Gives which account they are for, by the connector's `account_id`. Those of a `stored`
        connection are refreshed where that's needed. Raises NotAuthorized, or whatever else the app
        has against it.
        """
        way = self.access(connection.integration, self.option(connection))
        function = way.authentication.functions.test if way.authentication.functions else None
        scope = {"input": dict(connection.input), "parameters": dict(way.parameters)}
        live = self._tokens(connection) if stored else None
        wait, answer = INTERACTIVE_SECONDS, {}
        api = self._api(connection, live=live, priority="interactive", longest_wait=wait)
        try:
            if function:
                asked = _way(way, connection.input, lambda call, *_: api.send(call))
                seen = {**scope, "credentials": dict(connection.credentials)}
                answer = {"body": asked.run(function, seen, connection.credentials)}
                if not answer["body"]:
                    raise NotAuthorized(
                        f"{way.connector.key}: function {function!r} finds the credentials wrong",
                        hint="connect again: membrane connect",
                    )
            elif way.connector.test is not None:
                found = api.send(render(way.connector.test, scope))
                answer = {"body": found.body, "headers": found.headers, "status": found.status}
        finally:
            api.close()
        credentials = dict(connection.credentials)
        return account_of(way.connector, {**scope, "credentials": credentials, **answer})

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
        against = self.subscriptions.end(connection)
        option = self.option(connection)
        way = self.authenticator(connection.integration, option, connection.input)
        way.disconnect(connection.credentials)
        if against:
            raise Fatal(f"it may go on sending webhooks: {against}")

    @cached_property
    def subscriptions(self) -> Keeper:
        """Looks after what apps are to tell of events."""

        def open_api(connection: ConnectionRecord) -> HttpApi:
            return self.api(connection, longest_wait=INTERACTIVE_SECONDS)

        url = self.settings.connect.public_url
        return Keeper(self.ledger, self.project, url, self.syncs, open_api)

    def reconcile_subscriptions(self, most: int = 200) -> Sequence[Looked]:
        """Make, renew and remove subscriptions of up to so many connections that may need it.

        The product is asked to tell of its events for their tenants, too.
        """
        looked = self.subscriptions.due(most)
        tenants = []
        for one in looked:
            with suppress(NotConnected):
                tenants.append(self.ledger.known(one.connection).tenant)
        for (tenant, event), error in self.product_subscriber.reconcile(tenants).items():
            log.warning("internal event %s of tenant %s: %s", event, tenant, error)
        return looked

    @cached_property
    def product_subscriber(self) -> ProductSubscriber:
        """Asks the product to tell of internal events."""
        server = self.settings.server
        return ProductSubscriber(
            self.project,
            self.ledger.product_subscriptions,
            HttpProduct(server.workspace_key, next(iter(server.workspace_secrets), "")),
            self.listeners,
            self.ledger.tenants,
            self.settings.connect.public_url,
        )

    def overview(self) -> list[Standing]:
        """How each sync of each connection stands, in order of their keys."""
        last = {(run.connection, run.sync): run for run in self.ledger.last_runs()}
        found: list[Standing] = []
        for connection in self.ledger.connections():
            try:
                syncs = self.syncs(connection)
                covered = self.subscriptions.covered(connection.key)
                found += [
                    replace(
                        self._standing(connection, sync, last.get((connection.key, sync.sync.key))),
                        ways=ways(sync, covered),
                    )
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
                    f"SELECT count(*) FROM links WHERE link_table = {literal(sync.links.key)} "
                    f"AND instance_key = {literal(sync.instance_key)}"
                ),
                dead_letters=lake.count(
                    f"SELECT count(*) FROM dead_letters WHERE element IN "
                    f"({literal(key)}, {literal(sync.stream)})"
                ),
                last_sync=run.finished_at or run.started_at if run else None,
                result=_result(connection, run),
            )
        finally:
            lake.close()

    def database(self, sync: ResolvedSync | None) -> str:
        """URL of the product's database that a sync delivers to."""
        table = sync.schema.table if sync and sync.schema else None
        return self.settings.databases[table.database if table else "app"]

    def destination(self, url: str, lease: Lease, *, shared: bool = False) -> SqlDestination:
        """A database of the product, which is only written while the lease is held."""
        # SQLite lets one write at a time: the lease can't be renewed in a file that we're writing.
        inside = url != self.settings.ledger_url or not url.startswith("sqlite")
        tables = self._tables.setdefault(url, Tables(url)) if shared else None
        return SqlDestination(url, lease.check, inside=inside, tables=tables)

    @contextmanager
    def recorded(
        self, run_id: str, sync: str, connection: str, report: Report | None = None
    ) -> Iterator[Report]:
        """Write to the ledger that a run began, and how it ended; gives the report to fill.

        The stages of one run, in processes of their own, add to the same report, unless one is
        given.
        """
        run = self.ledger.run(run_id, sync, connection) or RunRecord(
            run_id, connection, sync, datetime.now(UTC)
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
            error = hidden(f"{type(failure).__name__}: {failure}")
            raise
        finally:
            finished = RunRecord(
                run_id, connection, sync, run.started_at, datetime.now(UTC), report, error
            )
            self.ledger.record_run(finished)
