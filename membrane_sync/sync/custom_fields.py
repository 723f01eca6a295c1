"""The fields that an account has of its own: asked of the app, kept in the lake, made columns.

They're asked for at most once in `refresh_seconds`, and by each full sync. Where the app doesn't
answer, what it said before holds on.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from membrane_sync.calls import as_call, concluded
from membrane_sync.elements.custom_fields import CustomFields
from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.errors import MembraneError, UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.formulas.locators import steps_of
from membrane_sync.ports import Api, Lake
from membrane_sync.project.hooks import made_by
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.project.schema_check import TYPES, checked
from membrane_sync.records import Report
from membrane_sync.sync.collection import listing
from membrane_sync.sync.page import Page, read_page
from membrane_sync.sync.rendering import Functions, Scope
from membrane_sync.sync.resume import fingerprint
from membrane_sync.sync.source import Source

CUSTOM_FIELDS = "custom_fields"
"""The lake's note of an account's fields: as JSON schemas by name, and when they were learnt."""

Properties = dict[str, Any]


def learn_fields(
    sync: ResolvedSync, api: Api, lake: Lake, scope: Scope, report: Report, *, anew: bool
) -> None:
    """Give the stream's records the columns of the account's own fields, `anew` or as known.

    Raises what the app has against it if nothing is known yet; else that's a warning.
    """
    spec = sync.collection.custom_fields
    if spec is None or spec.not_supported:
        return
    kept = lake.note(sync.stream, CUSTOM_FIELDS)
    of = fingerprint(spec.model_dump(mode="json"), scope)
    if anew or not _holds(kept, of, spec):
        kept = _asked(sync, spec, api, scope, report, kept)
        if "failed" not in kept:
            kept = {"of": of, **kept}
            lake.keep_note(sync.stream, CUSTOM_FIELDS, kept)
    lake.declare(sync.stream, with_fields(sync.collection, kept["properties"]))


def as_known(collection: DataCollection, learnt: Mapping[str, Any] | None) -> DataCollection:
    """The collection with the account's own fields: what `CUSTOM_FIELDS` holds, or nothing yet."""
    if learnt is None:
        return collection
    schema = with_fields(collection, learnt["properties"])
    return collection.model_copy(update={"fields_schema": schema})


def with_fields(collection: DataCollection, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The collection's `fields_schema` with these as well; those it declares itself win."""
    spec = collection.custom_fields
    steps = steps_of(spec.inside) if spec else ()
    return _merged(collection.fields_schema, [str(step) for step in steps or ()], properties)


def _merged(schema: Mapping[str, Any], steps: list[str], added: Mapping[str, Any]) -> Properties:
    declared: Mapping[str, Any] = schema.get("properties") or {}
    if steps:
        inner = _merged(declared.get(steps[0]) or {}, steps[1:], added)
        properties = {**declared, steps[0]: inner}
    else:
        properties = {**declared, **{k: v for k, v in added.items() if k not in declared}}
    return {"type": "object", **schema, "properties": properties}


def _holds(kept: Any, of: str, spec: CustomFields) -> bool:
    if kept is None or kept["of"] != of:
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(kept["at"])
    # A time to come was noted by a clock that was wrong, and says nothing.
    return timedelta(0) <= age < timedelta(seconds=spec.refresh_seconds)


def _asked(
    sync: ResolvedSync, spec: CustomFields, api: Api, scope: Scope, report: Report, kept: Any
) -> Properties:
    """What the app says now; else what was kept, marked as such."""
    before, at = api.requests, datetime.now(UTC).isoformat()
    try:
        properties = custom_fields(sync.collection, spec, api, scope, sync.functions)
    except MembraneError as error:
        if kept is None:
            raise
        since = kept["at"][:19]
        report.warnings.append(
            f"the custom fields of {sync.collection.key} are those of {since}Z: {error.message}"
        )
        return {**kept, "failed": True}
    finally:
        report.requests += api.requests - before
    return {"at": at, "properties": properties}


def custom_fields(
    collection: DataCollection, spec: CustomFields, api: Api, scope: Scope, functions: Functions
) -> Properties:
    """The account's fields as the app defines them now, as JSON schemas by their names."""
    if spec.function is not None:
        made = _by_function(spec, api, scope, functions)
        if made is not None:
            return dict(checked(made, f"function {spec.function!r}").get("properties") or {})
    definitions = list(_definitions(collection, spec, api, scope, functions))
    found = [(evaluate(spec.name, item), item) for item in definitions]
    named = {str(n): item for n, item in found if isinstance(n, str | int) and n != ""}
    if definitions and not named:
        raise UnexpectedAnswer(
            f"collection {collection.key!r}: no definition of a custom field has a name",
            hint="compare `name` of custom_fields with what the app answers",
        )
    return {name: _schema(spec, item) for name, item in named.items()}


def _by_function(spec: CustomFields, api: Api, scope: Scope, functions: Functions) -> Any:
    """The schema that the function gives, with or without calls; None if it only makes a call."""
    function = functions.get(spec.function or "")
    made = made_by(function, scope) if function is not None else None
    if isinstance(made, Mapping):
        return made if "path" not in made else None
    if not isinstance(made, Generator):
        return None
    name = str(spec.function)
    found, _ = concluded(made, name, lambda call: api.send(as_call(call, name, spec.errors)))
    return {} if found is None else found


def _definitions(
    collection: DataCollection, spec: CustomFields, api: Api, scope: Scope, functions: Functions
) -> Iterator[Any]:
    own = set(CustomFields.model_fields) - set(ListMethod.model_fields)
    shared = {name: value for name, value in dict(spec).items() if name not in own}
    method = ListMethod.model_construct(spec.model_fields_set - own, **shared)
    asked = DataCollection.model_construct(key=collection.key, list_=method)
    source = Source(asked, functions)
    steps = listing(asked, {**scope, "cursor": None}, functions=functions)
    step = next(steps, None)
    while step is not None:
        page = read_page(source, api.send(step.call))
        yield from _whole(page)
        try:
            step = steps.send(page)
        except StopIteration:
            return


def _whole(page: Page) -> list[Any]:
    """The page's items with all of their fields; its heads may have only some."""
    return [*page.heads] if page.texts is None else [json.loads(text) for text in page.texts]


def _schema(spec: CustomFields, definition: Any) -> Properties:
    """A definition as a schema; of a type that nobody knows, any JSON."""
    said = evaluate(spec.type, definition) if spec.type is not None else MISSING
    if isinstance(said, Mapping):
        schema = checked(said, "custom_fields: type")
    elif isinstance(said, str) and said in spec.types:
        schema = dict(spec.types[said])
    else:
        schema = {"type": said} if isinstance(said, str) and said in TYPES else {}
    label = evaluate(spec.label, definition) if spec.label is not None else MISSING
    return {**schema, "title": label} if isinstance(label, str) and label else schema
