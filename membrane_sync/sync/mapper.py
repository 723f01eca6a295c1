"""A field mapping ready to run: records through its formulas into the schema's shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.field_mapping import FieldMapping
from membrane_sync.formulas import MISSING, FieldError, evaluate_fields
from membrane_sync.formulas.evaluator import operator_of
from membrane_sync.formulas.frames import Texts, text_column
from membrane_sync.formulas.lookups import Find, Lookups, held, is_asking, prepare
from membrane_sync.formulas.plan import FEW, Plan
from membrane_sync.formulas.plan import compile as compile_template
from membrane_sync.formulas.python import Functions, calling
from membrane_sync.formulas.targets import with_collections
from membrane_sync.formulas.values import Missing
from membrane_sync.project.schemas import fields, is_sensitive, writable
from membrane_sync.project.shape import ShapeError, shaped
from membrane_sync.sync.fit import Fit, compile_fit
from membrane_sync.sync.straight import Straight, compile_straight
from membrane_sync.sync.template import sorted_template, template_of


@dataclass(frozen=True)
class Mapper:
    """One direction of a field mapping, ready to run.

    Without `objects`, a value that is no object, or undefined, is a result like any other, unless
    the schema has something to say about it.
    """

    template: Any
    schema: Mapping[str, Any] = field(default_factory=dict)
    raw_fields: bool = False
    objects: bool = True
    find: Find | None = None
    """Answers what the formulas ask of links and other records; without it, asking fails."""
    functions: Functions | None = None
    """The functions that `$python` may call."""

    @cached_property
    def plan(self) -> Plan:
        """The formulas compiled, once for all records; fields come out in order of their names."""
        return compile_template(sorted_template(self.template))

    @cached_property
    def fit(self) -> Fit:
        """The schema compiled, once for all records."""
        return compile_fit(self.schema)

    @cached_property
    def straight(self) -> Straight:
        """Both compiled to one query, for the records that plainly are mapped and fit."""
        if self.raw_fields:
            return Straight("")
        return compile_straight(sorted_template(self.template), self.schema)


@dataclass(frozen=True)
class Mapped:
    """What a mapper gives for one record: a value and its JSON text.

    They are MISSING and None if it's undefined or a field failed. The value is MISSING, too, where
    a query gave the text.
    """

    value: Any = MISSING
    text: str | None = None
    errors: Sequence[FieldError] = ()
    dropped: frozenset[str] = frozenset()
    """Paths of fields that were left out, since the schema doesn't know them or lets them be."""
    waits: bool = False
    """Whether a formula asked what may have an answer later, as a link that isn't there yet."""


def importer(mapping: FieldMapping, schema: DataSchema | None, *, objects: bool = True) -> Mapper:
    """The mapping from the app to the product, as a sync runs it."""
    shape = schema.schema_ if schema else mapping.app_schema
    template = with_collections(template_of(mapping), shape)
    return Mapper(template, shape, mapping.include_raw_fields, objects)


def exporter(
    mapping: FieldMapping, collection: DataCollection | None, *, objects: bool = True
) -> Mapper:
    """The mapping from the product to the app, with those fields that its collection takes."""
    if collection is None:
        return Mapper(template_of(mapping, "export"), objects=objects)
    methods = [m for m in (collection.create, collection.update) if m and not m.not_supported]
    shape = writable(collection.fields_schema, methods)
    template = with_collections(template_of(mapping, "export"), collection.fields_schema)
    return Mapper(template, shape, objects=objects)


def map_values(mapper: Mapper, records: Sequence[Any]) -> Iterator[Mapped]:
    """Each record through the formulas into the schema's types, in their order."""
    lookups, waiting = _prepared(mapper, [partial(_itself, record) for record in records])
    for number, record in enumerate(records):
        mapped = _by_itself(mapper, record, lookups)
        yield replace(mapped, waits=True) if number in waiting else mapped


def map_texts(mapper: Mapper, texts: Sequence[str], few: int = FEW) -> Iterator[Mapped]:
    """The same for many records as JSON texts; the results' texts have their names in order.

    The formulas are computed by the column, from `few` texts on, and what plainly fits the
    schema is shaped by the column, too.
    """
    column = text_column(texts)
    straight = mapper.straight.run(column, few).to_pylist()
    left = [number for number, text in enumerate(straight) if text is None]
    if len(left) == len(texts):
        # A text with half of a character is in no column.
        return _map_others(mapper, texts, texts if column.null_count else column, few)
    rest = [texts[number] for number in left]
    others = _map_others(mapper, rest, rest, few)
    return (next(others) if text is None else Mapped(text=text) for text in straight)


def _map_others(
    mapper: Mapper, texts: Sequence[str], given: Sequence[str] | Texts, few: int
) -> Iterator[Mapped]:
    """Those that aren't mapped yet: the formulas first, then the schema."""
    lookups, waiting = _prepared(mapper, [partial(json.loads, text) for text in texts])
    with held(lookups), calling(mapper.functions):
        found = mapper.plan.run(given, few)
    fitting: list[str | None] = [None] * len(texts)
    if not mapper.raw_fields:
        fitting = mapper.fit.run(found.column, few).to_pylist()
    for number, fits in enumerate(fitting):
        if fits is not None and number not in found.errors:
            mapped = Mapped(text=fits)
        else:
            failed = number in found.errors
            mapped = _one(mapper, texts[number], found.text(number), failed, lookups)
        yield replace(mapped, waits=True) if number in waiting else mapped


def _one(
    mapper: Mapper, record: str, text: str | Missing, failed: bool, lookups: Lookups | None
) -> Mapped:
    """One of many that has to be shaped; or, if it fails, mapped anew in the mapping's order."""
    found = None
    if not failed:
        raw = json.loads(record) if mapper.raw_fields else None
        found = _tried(mapper, raw, text if text is MISSING else json.loads(text), ())
    if found is None or found.errors:
        found = _by_itself(mapper, json.loads(record), lookups)
    return found if found.text is None else replace(found, text=_canonical(found.value))


def _by_itself(mapper: Mapper, record: Any, lookups: Lookups | None) -> Mapped:
    """One record, of which all that it asks is known to the lookups already."""
    with held(lookups), calling(mapper.functions):
        value, errors = evaluate_fields(mapper.template, record)
    return _tried(mapper, record, value, errors)


def _prepared(
    mapper: Mapper, records: Sequence[Callable[[], Any]]
) -> tuple[Lookups | None, frozenset[int]]:
    """All that the formulas will ask, found out at once, and which records ask in vain."""
    if mapper.find is None or not is_asking(mapper.template):
        return None, frozenset()
    lookups = Lookups(mapper.find)
    with calling(mapper.functions):
        return lookups, prepare(mapper.template, records, lookups)


def _itself(record: Any) -> Any:
    return record


def _tried(mapper: Mapper, record: Any, value: Any, errors: Sequence[FieldError]) -> Mapped:
    try:
        return _finished(mapper, record, value, errors)
    except RecursionError:
        reason = "its value is nested deeper than Python can follow"
        return Mapped(MISSING, None, [FieldError("", mapper.template, MISSING, reason)])


def _finished(mapper: Mapper, record: Any, value: Any, errors: Sequence[FieldError]) -> Mapped:
    """The value in its shape and as JSON text; with the fields that fail, whichever way."""
    found = [_without_secrets(mapper.schema, error) for error in errors]
    dropped: frozenset[str] = frozenset()
    if value is MISSING and (found or not mapper.objects):
        return Mapped(MISSING, None, found)
    if not isinstance(value, dict):
        if mapper.objects or mapper.schema:
            reason = "the mapping gives no object"
            return Mapped(MISSING, None, [*found, FieldError("", mapper.template, value, reason)])
    else:
        if mapper.raw_fields:
            value = {**value, "raw_fields": record}
        shape = shaped(value, mapper.schema)
        failed = {error.field for error in found}
        misfits = [misfit for misfit in shape.misfits if misfit.field not in failed]
        found += [_field_error(mapper, misfit) for misfit in misfits]
        value, dropped = shape.value, shape.dropped
    if found:
        return Mapped(MISSING, None, found, dropped)
    text, reason = _kept(value)
    if reason:
        return Mapped(MISSING, None, [*_not_kept(mapper, value, reason)], dropped)
    return Mapped(value, text, (), dropped)


def _kept(value: Any) -> tuple[str | None, str]:
    """The value as JSON text; or None, and why there's none."""
    try:
        text = _json(value)
        text.encode()
    except ValueError as error:
        broken = isinstance(error, UnicodeEncodeError)
        why = "it holds half a surrogate pair" if broken else str(error)
        return None, f"its value can't be kept as JSON: {why}"
    return text, ""


def _not_kept(mapper: Mapper, value: Any, reason: str) -> Iterator[FieldError]:
    """The fields that can't be kept; the whole where that's no field's value, as a name's text."""
    fields_of = value.items() if isinstance(value, dict) else ()
    named = [(name, inner) for name, inner in fields_of if not _kept(name)[1]]
    found = [(name, why) for name, inner in named if (why := _kept(inner)[1])]
    for name, why in found or [("", reason)]:
        yield FieldError(name, _formula_of(mapper, name), MISSING, why)


def _formula_of(mapper: Mapper, name: str) -> Any:
    template = mapper.template
    whole = not name or not isinstance(template, dict) or operator_of(template) is not None
    return template if whole else template.get(name)


def _field_error(mapper: Mapper, misfit: ShapeError) -> FieldError:
    formula = _formula_of(mapper, misfit.field)
    return FieldError(misfit.field, formula, misfit.value, misfit.reason)


def _without_secrets(schema: Mapping[str, Any], error: FieldError) -> FieldError:
    """The error without its value, if its field is sensitive; a whole template has all fields."""
    part = fields(schema).get(error.field, schema if error.field == "$" else {})
    return replace(error, value=MISSING) if is_sensitive(part) else error


def _json(value: Any, *, sort_keys: bool = False) -> str:
    return json.dumps(
        value, sort_keys=sort_keys, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def _canonical(value: Any) -> str:
    return _json(value, sort_keys=True)
