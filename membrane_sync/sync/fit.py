"""Mapped values in the shape of their schema, by one query over their JSON texts.

Most fit as they are, or but for a number where a text is wanted, and the like. No Python object is
made of these. `project/shape.py` stays the reference, and takes all others: the query may leave it
any value, but never gives another text than it would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import pyarrow as pa

from membrane_sync.formulas.columns import (
    Unplannable,
    exact,
    joined,
    json_text,
    literal,
    within,
)
from membrane_sync.formulas.frames import Texts, columns, text_column
from membrane_sync.formulas.plan import FEW
from membrane_sync.formulas.sheet import pointer
from membrane_sync.project.schemas import fields
from membrane_sync.project.shape import Schema, objections, options

MOST: Final = 1_000
"""Conditions; beyond, setting up the query takes too long."""

_KINDS: Final = {
    "string": "ord({0}) = 34",
    "boolean": "{0} IN ('true', 'false')",
    "integer": "is_whole({0})",
    "number": "is_finite({0})",
    "object": "ord({0}) = 123",
    "array": "ord({0}) = 91",
}
CASTS: Final = {
    "string": "as_text({})",
    "integer": "as_whole({})",
    "number": "as_number({})",
    "boolean": "as_boolean({})",
}
_PATTERNS: Final = {
    "string": r'"([^"\\]|\\.)*"',
    "boolean": "true|false",
    "integer": "-?[0-9]+",
    "number": "-?[0-9][-+.e0-9]*",
}
SIMPLE: Final = {
    *("type", "properties", "required", "additionalProperties", "title", "description", "examples"),
    *("writeOnly", "isSensitive", "isRichText", "isImplied"),
}
"""Words of a schema that say no more than which names and kinds of values there are."""

_ASCII: Final = r"[!#-?A-\[\]-~]"
"""A visible character but for quotes, backslash and @."""

_TIME: Final = r"T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?"
_FORMATS: Final = {
    "date": r"[12]\d{3}-\d\d-\d\d",
    "date-time": rf"[12]\d{{3}}-\d\d-\d\d({_TIME})?",
    "email": f"{_ASCII}+@{_ASCII}+",
    "uri": rf"[A-Za-z][A-Za-z0-9+.-]*:({_ASCII}|@)+",
    "uuid": "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
"""What surely is of a format; what else may be, is left to Python."""

_ASKED: Final = frozenset({"time", "ipv4", "ipv6"})


@dataclass(frozen=True, slots=True)
class Fit:
    """A schema, ready for many values; make one with `compile_fit` and keep it."""

    sql: str
    asked: tuple[Schema, ...]
    """What Python has to look at, in each value that fits otherwise: patterns, rarer formats."""

    def run(self, texts: Texts, few: int = FEW) -> Texts:
        """The canonical text of what `shaped` gives for each; null for what is left to it.

        The texts are compact JSON, as `Plan.run` writes it; null stays null, and so do all where
        they are fewer than `few`.
        """
        if not self.sql or len(texts) < few:
            return pa.chunked_array([pa.nulls(len(texts), pa.string())])
        try:
            fitting, *leaves = columns(self.sql, texts)
        except duckdb.Error:  # such as out of memory; they are shaped one by one
            return pa.chunked_array([pa.nulls(len(texts), pa.string())])
        if not self.asked:
            return fitting
        rows = zip(*(column.to_pylist() for column in (fitting, *leaves)), strict=True)
        return text_column([text if self._answered(leaves) else None for text, *leaves in rows])

    def _answered(self, leaves: Sequence[str | None]) -> bool:
        return not any(
            any(objections(json.loads(leaf), schema))
            for leaf, schema in zip(leaves, self.asked, strict=True)
            if leaf is not None and leaf != "null"
        )


def compile_fit(schema: Schema) -> Fit:
    """Plan a schema, once for each mapping; one that can't be planned leaves all to `shaped`."""
    try:
        return _compiled(next(options(schema)))
    except (Unplannable, RecursionError):
        return Fit("", ())


def _compiled(schema: Schema) -> Fit:
    record = Element("v{}", "j")
    casting = _casting(schema, "", record)
    conditions = ["ord(j) = 123", r"NOT contains(j, '\u')", *record.object(schema, "")]
    if record.spent[0] > MOST:
        raise Unplannable
    leaves = ", ".join(map(literal, record.leaves)) or "'$'"
    values = "".join(
        f", {record.casts.get(path, '{}').format(f'l[{i}]')} AS v{i}"
        for path, i in record.leaves.items()
    )
    changed = [f"l[{i}] <> v{i}" for path, i in record.leaves.items() if path in record.casts]
    text = f"CASE WHEN {' OR '.join(changed)} THEN {casting} ELSE j END" if changed else "j"
    asked = "".join(f", {leaf}" for leaf, _ in record.asked)
    sql = (
        f"SELECT CASE WHEN {' AND '.join(conditions)} THEN {text} END AS text{asked} "
        f"FROM (SELECT j, l{values} FROM (SELECT j, leaves(j, [{leaves}]) AS l FROM input))"
    )
    return Fit(sql, tuple(schema for _, schema in record.asked))


def _casting(schema: Schema, path: str, record: Element) -> str:
    """SQL for an object that is known to fit, its fields cast; notes in the record which are."""
    known = fields(schema)
    if schema.get("additionalProperties", not known) is not False:
        return record.at(path)  # there may be fields that no one could name
    parts = []
    for name in sorted(known):
        part, inner = known[name], f"{path}{pointer(name)}"
        if not isinstance(part, dict) or part.get("readOnly"):
            continue
        value, kinds = record.at(inner), kinds_of(part.get("type"))
        if "anyOf" not in part and kinds == ["object"]:
            nested = _casting(part, inner, record)
            value = f"CASE WHEN is_object({value}) THEN {nested} ELSE {value} END"
        elif "anyOf" not in part and len(kinds) == 1 and kinds[0] in CASTS:
            record.casts[inner] = CASTS[kinds[0]]
        parts.append(f"{literal(json_text(name) + ':')} || {value}")
    return f"'{{' || {joined(parts)} || '}}'" if parts else record.at(path)


@dataclass(slots=True)
class Element:
    """The record, or an item of a list in it.

    Conditions are NULL at worst where they don't hold, and never fail.
    """

    name: str
    """SQL for what is read at a place, whose number is to be filled in."""
    whole: str = ""
    """SQL for all of it, where that costs nothing; else it's read."""
    depth: int = 0
    leaves: dict[str, int] = field(default_factory=dict)
    casts: dict[str, str] = field(default_factory=dict)
    """By place, SQL that brings what is read there into its type."""
    asked: list[tuple[str, Schema]] = field(default_factory=list)
    may_ask: bool = True
    spent: list[int] = field(default_factory=lambda: [0])
    """Conditions so far, in one box for all elements."""

    def value(self, schema: Any, path: str) -> str:
        """A condition for what stands at a JSON pointer; null and missing fit any schema."""
        if not isinstance(schema, Mapping):
            raise Unplannable
        x = self.at(path)
        if "anyOf" not in schema:
            return f"(absent({x}) OR {self._plain(schema, path)})"
        asks, self.may_ask = self.may_ask, False
        fitting = " OR ".join(self._plain(option, path) for option in options(schema))
        self.may_ask = asks
        return f"(absent({x}) OR {fitting})" if fitting else f"absent({x})"

    def object(self, schema: Schema, path: str) -> list[str]:
        """Conditions for the fields of what is an object."""
        x, known = self.at(path), fields(schema)
        others = schema.get("additionalProperties", not known)
        if not isinstance(others, bool) or not all(isinstance(p, dict) for p in known.values()):
            raise Unplannable
        conditions = [self._keys(x, known, others)]
        inner = {name: f"{path}{pointer(name)}" for name in known}
        for name, part in known.items():
            if part.get("readOnly"):
                if others:  # else one that is there has a name that isn't known
                    conditions.append(f"{self.at(inner[name])} IS NULL")
            else:
                conditions.append(self.value(part, inner[name]))
                if "default" in part:
                    conditions.append(f"{self.at(inner[name])} IS NOT NULL")
        for name in schema.get("required", ()):
            if not known.get(name, {}).get("readOnly"):
                at = self.at(inner.get(name, f"{path}{pointer(name)}"))
                conditions.append(f"NOT absent({at})")
        return conditions

    def at(self, path: str) -> str:
        """SQL for what stands at a JSON pointer."""
        self.spent[0] += 1
        if not path and self.whole:
            return self.whole
        number = self.leaves.setdefault(path or "$", len(self.leaves) + 1)
        within(number)
        return self.name.format(number)

    def _keys(self, x: str, known: Mapping[str, Any], others: bool) -> str:
        """Whether the names are all known, and stand in the order of canonical JSON."""
        if others:
            sure = f"has_no_objects(substr({x}, 2))"
            return f"{sure} AND json_keys({x}) = list_sort(json_keys({x}))"
        names = sorted(name for name, part in known.items() if not part.get("readOnly"))
        pattern = "".join(f"({re.escape(name)}\x01)?" for name in names)
        return (
            f"regexp_full_match(array_to_string(list_append(json_keys({x}), ''), chr(1)), "
            f"{literal(pattern)})"
        )

    def _plain(self, schema: Schema, path: str) -> str:
        """A condition for a value that is there: its type, and whatever else is asked of it."""
        x = self.at(path)
        either = [
            f"({' AND '.join((_KINDS[kind].format(x), *self._of_kind(kind, schema, path)))})"
            for kind in kinds_of(schema.get("type"))
        ]
        conditions = [f"({' OR '.join(either) or 'false'})", *_enum(x, schema)]
        return f"({' AND '.join(conditions)})"

    def _of_kind(self, kind: str, schema: Schema, path: str) -> Iterable[str]:
        x = self.at(path)
        if kind == "string":
            yield from _sized(f"length({x}) - 2", schema, "Length", rf"NOT contains({x}, '\')")
            yield from self._formatted(x, schema)
        elif kind == "object":
            yield from self.object(schema, path)
        elif kind == "array":
            yield from _sized(f"json_array_length({x})", schema, "Items")
            items = schema.get("items")
            yield self._items(x, items) if items else f"has_no_objects({x})"
        elif kind in ("integer", "number"):
            if schema.get("maximum") is not None:
                yield f"NOT big({x}) AND number({x}) <= {exact(schema['maximum'])}"
            if schema.get("minimum") is not None:
                yield f"NOT big({x}) AND number({x}) >= {exact(schema['minimum'])}"

    def _formatted(self, x: str, schema: Schema) -> Iterable[str]:
        name = schema.get("format")
        if schema.get("pattern") is not None or name in _ASKED:
            if not self.may_ask:
                raise Unplannable
            self.asked.append((x, schema))
        elif name in _FORMATS:
            pattern = literal(f'"{_FORMATS[name]}"')
            yield f"regexp_full_match({x}, {pattern})"
            if name in ("date", "date-time"):
                yield f"try_cast(substr({x}, 2, 10) AS DATE) IS NOT NULL"

    def _items(self, x: str, schema: Any) -> str:
        pattern = _pattern(schema)
        if pattern:
            pattern = literal(rf"\[({pattern},?)*\]")
            return f"regexp_full_match({x}, {pattern})"
        if self.depth > 2:
            raise Unplannable
        name = f"e{self.depth}"
        item = Element(f"{name}[{{}}]", "", self.depth + 1, may_ask=False, spent=self.spent)
        misfit = f"NOT coalesce({item.value(schema, '')}, false)"
        leaves = ", ".join(map(literal, item.leaves))
        read = f"list_transform(items({x}), lambda {name}_j: leaves({name}_j, [{leaves}]))"
        return f"len(list_filter({read}, lambda {name}: {misfit})) = 0"


def _pattern(schema: Any, null: str = "|null") -> str:
    """A regular expression for the valid JSON texts of a schema; "" where it takes more to tell.

    Commas may be anywhere in it, as they can't in valid JSON.
    """
    if not isinstance(schema, Mapping) or not schema.keys() <= SIMPLE:
        return ""
    kinds, known = kinds_of(schema.get("type", "object")), fields(schema)
    if kinds == ["object"] and known and not schema.get("additionalProperties"):
        inner = [_member(name, part, schema.get("required", ())) for name, part in known.items()]
        within(len(inner))
        members = "".join(member for _, member in sorted(zip(known, inner, strict=True)))
        return rf"(\{{{members}\}}{null})" if all(inner) else ""
    texts = [_PATTERNS[kind] for kind in kinds if kind in _PATTERNS]
    return f"({'|'.join(texts)}{null})" if texts and len(texts) == len(kinds) else ""


def _member(name: str, schema: Any, required: Sequence[str]) -> str:
    text = _pattern(schema, "" if name in required else "|null")
    member = f"({re.escape(json_text(name))}:{text},?)"
    return text and (member if name in required else f"{member}?")


def kinds_of(declared: Any) -> list[str]:
    """The kinds of values that stay as they are, whose type is declared so."""
    if declared is None:
        return [kind for kind in _KINDS if kind != "integer"]
    types = [declared] if isinstance(declared, str) else [t for t in declared if t != "null"]
    if len(types) == 1:
        return [kind for kind in types if kind in _KINDS]
    # Of several, a number that is no integer becomes the first that takes it.
    return [kind for kind in types if kind in _KINDS and kind != "number"]


def _enum(x: str, schema: Schema) -> Iterable[str]:
    given = None if schema.get("allowCustom") else schema.get("enum")
    if given is None:
        return
    texts = [literal(json_text(one)) for one in given if not isinstance(one, (dict, list))]
    yield f"{x} IN ({', '.join(texts)})" if texts else "false"


def _sized(size: str, schema: Schema, what: str, sure: str = "true") -> Iterable[str]:
    least, greatest = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None:
        yield f"{sure} AND {size} >= {exact(least)}"
    if greatest is not None:
        yield f"{sure} AND {size} <= {exact(greatest)}"
