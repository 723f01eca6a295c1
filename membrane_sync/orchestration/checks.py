"""Checks of a connection's records, mapped records and links, each one query that counts faults.

A run of one connection makes them after its stage; a batch doesn't, since they read whole tables.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg

from membrane_sync.project.resolved_sync import ResolvedSync

if TYPE_CHECKING:
    Checked: TypeAlias = dg.MaterializeResult[None]
else:
    Checked = dg.MaterializeResult
"""What an asset with checks gives; of one that says its type, Dagster would expect a tuple."""


@dataclass(frozen=True)
class Check:
    """What must hold; `faults` is the query that counts where it doesn't."""

    name: str
    description: str
    faults: Callable[[ResolvedSync], str]


def check_specs(
    checks: Iterable[Check], asset: dg.AssetKey, connections: dg.PartitionsDefinition[str]
) -> list[dg.AssetCheckSpec]:
    """The checks as Dagster lists them with their asset, each with a result per connection.

    Without partitions of its own, a check would tell of the connection that was synced last alone.
    Dagster calls them a preview; the range of its versions in pyproject.toml keeps to what we saw.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                c.name, asset=asset, description=c.description, partitions_def=connections
            )
            for c in checks
        ]


def check_results(
    checks: Sequence[Check],
    asset: dg.AssetKey,
    sync: ResolvedSync,
    connection: str,
    count: Callable[[str], int],
) -> list[dg.AssetCheckResult]:
    """What each check says of one connection, whose lake answers `count`.

    A fault is a warning, and fails no run.
    """
    results = []
    for check in checks:
        faults = count(check.faults(sync))
        results.append(
            dg.AssetCheckResult(
                passed=not faults,
                asset_key=asset,
                check_name=check.name,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"connection": connection, "faults": faults},
            )
        )
    return results


def _misfits(sync: ResolvedSync) -> str:
    return (
        "SELECT count(DISTINCT external_id) FROM dead_letters "
        f"WHERE verb = 'pull' AND element = '{sync.stream}'"
    )


def _twice(sync: ResolvedSync) -> str:
    return f'SELECT count(*) - count(DISTINCT _external_id) FROM records."{sync.stream}"'


def _unmapped(sync: ResolvedSync) -> str:
    return (
        f'SELECT count(*) FROM records."{sync.stream}" r WHERE r._deleted_at IS NULL '
        f'AND r._external_id NOT IN (SELECT _external_id FROM mapped."{sync.sync.key}" '
        "WHERE _deleted_at IS NULL UNION ALL SELECT external_id FROM dead_letters "
        f"WHERE verb = 'map' AND element = '{sync.sync.key}')"
    )


def _unlinked(sync: ResolvedSync) -> str:
    return (
        f'SELECT count(*) FROM mapped."{sync.sync.key}" m WHERE m._deleted_at IS NULL '
        "AND m._external_id NOT IN (SELECT external_id FROM links "
        f"WHERE link_table = '{sync.links.key}' AND instance_key = '{sync.instance_key}' "
        "UNION ALL SELECT external_id FROM dead_letters "
        f"WHERE verb IN ('link', 'push') AND element = '{sync.sync.key}')"
    )


PULL_CHECKS = (
    Check(
        "schema_contract",
        "Every record fits the collection's `fields_schema`; those that don't are dead letters.",
        _misfits,
    ),
    Check("no_duplicates", "No record is in the lake twice.", _twice),
)
MAP_CHECKS = (
    Check(
        "complete",
        "Every record of the collection is mapped, or a dead letter says why not.",
        _unmapped,
    ),
)
DELIVER_CHECKS = (
    Check(
        "linked",
        "Every mapped record is linked to a row of the product's table, or a dead letter says "
        "why not.",
        _unlinked,
    ),
)
