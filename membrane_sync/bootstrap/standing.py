"""How each sync of each connection stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from membrane_sync.bootstrap.stores import Stores
from membrane_sync.bootstrap.syncs import Syncs
from membrane_sync.errors import MembraneError
from membrane_sync.events.polling import ways
from membrane_sync.ports import ConnectionRecord, RunRecord
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.stores.lake.columns import literal, quoted

Covered: TypeAlias = Callable[[str], Collection[str]]


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


def overview(stores: Stores, syncs_of: Syncs, covered: Covered) -> list[Standing]:
    """How each sync of each connection stands, in order of their keys."""
    last = {(run.connection, run.sync): run for run in stores.ledger.runs.newest()}
    found: list[Standing] = []
    for connection in stores.ledger.connections():
        try:
            syncs = syncs_of.of(connection)
            told = covered(connection.key)
            found += [
                replace(
                    _standing(
                        stores, connection, syncs, sync, last.get((connection.key, sync.sync.key))
                    ),
                    ways=ways(sync, told),
                )
                for sync in syncs
            ]
            if not syncs:
                found.append(_without_syncs(connection, "takes part in no sync"))
        except MembraneError as error:
            found.append(_without_syncs(connection, f"failed: {error.message}"))
    return found


def _standing(
    stores: Stores,
    connection: ConnectionRecord,
    syncs: Sequence[ResolvedSync],
    sync: ResolvedSync,
    run: RunRecord | None,
) -> Standing:
    lake = stores.lake(connection, syncs)
    try:
        stream, key = quoted(sync.stream), sync.sync.key
        return Standing(
            connection=connection.key,
            tenant=connection.tenant,
            integration=connection.integration,
            sync=key,
            records=lake.count(f"SELECT count(*) FROM records.{stream} WHERE _deleted_at IS NULL"),
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
