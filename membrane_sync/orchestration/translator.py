"""Our names in Dagster's words: asset keys, groups, job names, versions, columns."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg
import yaml

from membrane_sync.project.project import ResolvedSync

CONNECTION_TAG = "membrane/connection"
"""Every run we request carries it; `dagster.yaml` lets one run per value go at a time."""

SYNC_TAG = "membrane/sync"
INTEGRATION_TAG = "membrane/integration"


def collection_key(sync: ResolvedSync) -> dg.AssetKey:
    """`kinto/contacts`: the records of a data source, as the lake holds them."""
    return dg.AssetKey([sync.integration.key, sync.source.key])


def mapped_key(sync: ResolvedSync) -> dg.AssetKey:
    """`kinto/contacts_mapped`: the same records in the product's shape."""
    return dg.AssetKey([sync.integration.key, f"{sync.sync.key}_mapped"])


def delivered_key(sync: ResolvedSync) -> dg.AssetKey:
    """`kinto/contacts_delivered`: the same records in the product's database, linked."""
    return dg.AssetKey([sync.integration.key, f"{sync.sync.key}_delivered"])


def job_name(sync: ResolvedSync) -> str:
    """`sync_kinto_contacts`; Dagster's names allow no dashes."""
    return f"sync_{_name(sync.integration.key)}_{_name(sync.sync.key)}"


def group_name(integration: str) -> str:
    """One group of assets per integration."""
    return _name(integration)


def collection_version(sync: ResolvedSync) -> str:
    """Hash of what shapes the records in the lake."""
    shape = sync.collection.model_dump(mode="json", exclude={"name", "description", "meta"})
    text = json.dumps([shape, sync.source.collection_parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def product_schema(sync: ResolvedSync) -> dict[str, Any]:
    """The JSON schema of mapped and delivered records."""
    return sync.schema.schema_ if sync.schema else sync.mapping.app_schema


def database_kind(url: str) -> str:
    """The kind by which Dagster's UI shows the icon of an SQLAlchemy URL's database."""
    backend = url.split(":", 1)[0].split("+", 1)[0]
    return backend.replace("postgresql", "postgres") or "sql"


def formulas(sync: ResolvedSync) -> dict[str, str]:
    """The import formula of each field, as one writes it in YAML."""
    template = sync.mapping.import_value
    if template is None:
        template = sync.mapping.default_import_value
    if not isinstance(template, dict):
        return {}
    return {name: f"`{_formula(formula)}`" for name, formula in template.items()}


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
    plain = json.loads(json.dumps(formula, default=str))
    text = yaml.safe_dump(
        plain, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000
    )
    return text.removesuffix("...\n").strip()


def _name(key: str) -> str:
    return key.replace("-", "_")
