"""Our names in Dagster's words: asset keys, groups, job names, versions, columns."""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg
import yaml

from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.sync.template import lineage_rows, template_of

CONNECTION_TAG = "membrane/connection"
"""Every run we request carries it; `dagster.yaml` lets one run per value go at a time."""

SYNC_TAG = "membrane/sync"
INTEGRATION_TAG = "membrane/integration"


MOST_EDGES = 10_000
"""Beyond so many, a whole record's formula says nothing about its columns."""


def collection_key(sync: ResolvedSync) -> dg.AssetKey:
    """`kinto/contacts`: the records of a data source, as the lake holds them."""
    return dg.AssetKey([sync.integration.key, sync.source.key])


def mapped_key(sync: ResolvedSync) -> dg.AssetKey:
    """`kinto/contacts_mapped`: the same records in the product's shape."""
    return dg.AssetKey([sync.integration.key, f"{sync.declared_key}_mapped"])


def delivered_key(sync: ResolvedSync) -> dg.AssetKey:
    """`kinto/contacts_delivered`: the same records in the product's database, linked."""
    return dg.AssetKey([sync.integration.key, f"{sync.declared_key}_delivered"])


def job_name(sync: ResolvedSync) -> str:
    """`sync_kinto_contacts`; Dagster's names allow no dashes."""
    return f"sync_{_name(sync.integration.key)}_{_name(sync.declared_key)}"


def group_name(integration: str) -> str:
    """One group of assets per integration."""
    return _name(integration)


def product_schema(sync: ResolvedSync) -> dict[str, Any]:
    """The JSON schema of mapped and delivered records."""
    return sync.schema.schema_ if sync.schema else sync.mapping.app_schema


def database_kind(url: str) -> str:
    """The kind by which Dagster's UI shows the icon of an SQLAlchemy URL's database."""
    backend = url.split(":", 1)[0].split("+", 1)[0]
    return backend.replace("postgresql", "postgres") or "sql"


def formulas(sync: ResolvedSync) -> dict[str, str]:
    """The import formula of each field, as one writes it in YAML."""
    template = template_of(sync.mapping)
    if not isinstance(template, dict):
        return {}
    return {name: f"`{_formula(formula)}`" for name, formula in template.items()}


def mapped_lineage(sync: ResolvedSync) -> dg.TableColumnLineage:
    """Which columns of the collection each column of the mapped records is computed from.

    Where one formula gives the whole record, each column may come from all that it reads; if that
    is the record itself, from the column of the same name.
    """
    columns = dict.fromkeys(product_schema(sync).get("properties", {}))
    source, known = collection_key(sync), list(sync.collection.fields_schema.get("properties", {}))
    reads: dict[str, list[str]] = {}
    for row in lineage_rows(sync.mapping):
        if row.path:
            found = [name for read in row.columns for name in ([read] if read else known)]
            reads.setdefault(row.path[0], []).extend(found)
        elif len(columns) * len(row.columns) <= MOST_EDGES:
            reads = {name: [read or name for read in row.columns] for name in columns}
    return dg.TableColumnLineage({n: _deps(source, reads[n]) for n in columns if n in reads})


def delivered_lineage(sync: ResolvedSync) -> dg.TableColumnLineage:
    """Each column of the product's table comes from the mapped column of the same name."""
    source = mapped_key(sync)
    columns = product_schema(sync).get("properties", {})
    return dg.TableColumnLineage({name: _deps(source, [name]) for name in columns})


def _deps(asset: dg.AssetKey, columns: Iterable[str]) -> list[dg.TableColumnDep]:
    return [dg.TableColumnDep(asset, column) for column in dict.fromkeys(columns)]


def table_schema(
    schema: dict[str, Any], formulas: Mapping[str, str] = MappingProxyType({})
) -> dg.TableSchema:
    """A schema's properties as columns in Dagster's UI, each with where it comes from, if known."""
    required = set(schema.get("required", []))
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=name,
                type=_type(spec),
                description=" ".join(filter(None, [spec.get("description"), formulas.get(name)])),
                constraints=dg.TableColumnConstraints(nullable=name not in required),
            )
            for name, spec in schema.get("properties", {}).items()
        ]
    )


def _type(spec: dict[str, Any]) -> str:
    kind = spec.get("type", "any")
    names = " | ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{names} ({spec['format']})" if "format" in spec else names


def _formula(formula: Any) -> str:
    # Through JSON, which makes plain what the loader has marked with files and lines.
    text = json.dumps(formula, default=str)
    try:
        text = yaml.safe_dump(
            json.loads(text),
            default_flow_style=True,
            allow_unicode=True,
            sort_keys=False,
            width=10_000,
        )
    except RecursionError:  # JSON is YAML, too
        return text
    return text.removesuffix("...\n").strip()


def _name(key: str) -> str:
    return key.replace("-", "_")
