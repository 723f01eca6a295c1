"""The promises about an account's own fields: their definitions, and where records have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from membrane_sync.elements.custom_fields import CustomFields
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import MembraneError
from membrane_sync.kit.findings import Findings
from membrane_sync.kit.lists import fits
from membrane_sync.kit.reading import Probe, value_at
from membrane_sync.sync.custom_fields import custom_fields

PROMISE = "custom fields"

Record = Mapping[str, Any]


def check_custom_fields(
    collection: DataCollection,
    api: Probe,
    scope: Mapping[str, Any],
    records: Sequence[Record],
    findings: Findings,
) -> None:
    """Ask for the definitions, and look for the fields in the records that came."""
    spec = collection.custom_fields
    if spec is None or spec.not_supported:
        return
    try:
        found = custom_fields(collection, spec, api.app, scope, api.functions)
    except MembraneError as error:
        findings.failed(PROMISE, error.message, error.hint)
        return
    if not found:
        findings.unproven(PROMISE, "the account has none", "add one over there")
        return
    _types(spec, found, findings)
    inside = [part for record in records if isinstance(part := _inside(spec, record), Mapping)]
    if not records:
        findings.unproven(PROMISE, f"{len(found)} are defined, and there is no record")
    elif not inside:
        findings.failed(PROMISE, f"no record has an object at {spec.inside}", "mend `inside`")
    else:
        _values(collection, spec, found, inside, findings)


def _inside(spec: CustomFields, record: Record) -> Any:
    return value_at({"$var": spec.inside}, record)


def _types(spec: CustomFields, found: Mapping[str, Any], findings: Findings) -> None:
    if spec.function is not None or spec.type is None:
        return
    typed = [name for name, schema in found.items() if schema.keys() - {"title"}]
    if typed:
        findings.ok("custom field types", f"{len(typed)} of {len(found)} are known")
    else:
        seen = f"of {len(found)} definitions none has a type that's known"
        advice = "say in `type` where the app's word is, and in `types` what it means"
        findings.failed("custom field types", seen, advice)


def _values(
    collection: DataCollection,
    spec: CustomFields,
    found: Mapping[str, Any],
    inside: list[Record],
    findings: Findings,
) -> None:
    present = [name for name in found if any(name in part for part in inside)]
    wrong = [n for n in present if any(not fits(found[n], part.get(n)) for part in inside)]
    others = {name for part in inside for name in part} - _declared(collection, spec) - set(found)
    if wrong:
        seen = f"of another type: {', '.join(wrong)}"
        findings.failed(PROMISE, seen, "compare `type` and `types` with what records have")
    elif present:
        findings.ok(PROMISE, f"records have {len(present)} of the {len(found)} that are defined")
    elif others:
        seen = f"no record has {_some(found)}, but {_some(others)}"
        findings.failed(PROMISE, seen, "compare `name` and `inside` with what records have")
    else:
        findings.unproven(PROMISE, f"no record has {_some(found)}", "fill them over there")


def _declared(collection: DataCollection, spec: CustomFields) -> set[str]:
    """The names that `fields_schema` has in the same object."""
    schema: Any = collection.fields_schema
    for step in spec.inside.split(".")[1:]:
        schema = (schema.get("properties") or {}).get(step) or {}
    return set(schema.get("properties") or {})


def _some(names: Any) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (", …" if len(names) > len(first) else "")
