"""Formulas that ask for what no record holds: a link, a record by its fields, a schema.

An evaluation only says what it wants to know. Whoever maps a batch holds `Lookups` meanwhile, lets
`prepare` collect the questions of all records, and finds the answers at once; so no operator ever
waits for a query of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from membrane_sync.formulas.errors import FormulaError
from membrane_sync.formulas.evaluator import Call, evaluate_fields, lazy_formula, operator_of
from membrane_sync.formulas.javascript import to_string, truthy
from membrane_sync.formulas.values import MISSING, Value, is_absent, size_of

MOST_ROUNDS: Final = 10
"""How often an answer may lead to another question, as where one lookup is within another."""

SCHEMA_TYPES: Final = ("data-collection", "internal-data-schema")


@dataclass(frozen=True, slots=True)
class LinkQuestion:
    """What is linked to a record: the product's, or with `external` the app's.

    `table` is a data link table's key, empty for the one of the sync itself.
    """

    table: str
    record_id: str
    external: bool = False


@dataclass(frozen=True, slots=True)
class RecordQuestion:
    """Which record of a collection has these values, by the locators of its fields, as texts."""

    collection: str
    parameters: str
    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SchemaQuestion:
    """What a collection's records, or those of a data schema, look like; see SCHEMA_TYPES."""

    type: str
    key: str
    parameters: str


Question: TypeAlias = LinkQuestion | RecordQuestion | SchemaQuestion


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """In place of an answer: why there can't be one, which is not the same as finding nothing."""

    reason: str


Find: TypeAlias = Callable[[Sequence[Question]], Mapping[Question, Value]]
"""The answers to many questions; a question that isn't among them has the answer MISSING."""


class Lookups:
    """What one batch's formulas ask, and the answers that are known so far."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[Question, Value] = {}
        self._open: dict[Question, None] = {}
        self.collecting = False
        self.asked = False
        self.missed = False

    def answer(self, question: Question) -> Value:
        """The answer; MISSING while questions are collected and this one is still open.

        `asked` and `missed` then say that there was an open one, and one that nothing answers.
        """
        if question in self._known:
            answer = self._known[question]
            self.missed = self.missed or answer is MISSING or isinstance(answer, Unanswerable)
            return answer
        if not self.collecting:
            return Unanswerable(f"asks more than {MOST_ROUNDS} questions one after another")
        self._open[question] = None
        self.asked = True
        return MISSING

    def settle(self) -> None:
        """Find the answers to all that is open."""
        found = self._find([*self._open]) if self._open else {}
        self._known |= {question: found.get(question, MISSING) for question in self._open}
        self._open.clear()


_HELD: Final[ContextVar[Lookups | None]] = ContextVar("lookups", default=None)


@contextmanager
def held(lookups: Lookups | None) -> Iterator[None]:
    """Answer formulas within the block; with None they fail as they do outside of it."""
    token = _HELD.set(lookups)
    try:
        yield
    finally:
        _HELD.reset(token)


def prepare(
    template: Value, records: Sequence[Callable[[], Value]], lookups: Lookups
) -> frozenset[int]:
    """Find out all that the template asks about these records, in as few rounds as can be.

    Each record is given as a function, so that no more than one need be in memory. Gives the
    numbers of those that ask what has no answer yet.
    """
    part = _asking_part(template)
    waiting = list(range(len(records))) if part is not MISSING else []
    missed: set[int] = set()
    lookups.collecting = True
    try:
        with held(lookups):
            for _ in range(MOST_ROUNDS):
                waiting = [n for n in waiting if _asks(part, records[n](), lookups, n, missed)]
                if not waiting:
                    break
                lookups.settle()
    finally:
        lookups.collecting = False
    return frozenset(missed.union(waiting))


def is_asking(template: Value) -> bool:
    """Does any part of the template ask for what no record holds?"""
    waiting = [template]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            name = next(iter(node), None)
            if name in ASKING:
                return True
            waiting.extend(() if name == "$plain" else node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)
    return False


def _asking_part(template: Value) -> Value:
    """The fields of the template that ask; the whole of it if it is a formula."""
    if not isinstance(template, dict) or operator_of(template) is not None:
        return template if is_asking(template) else MISSING
    fields = {key: formula for key, formula in template.items() if is_asking(formula)}
    # Where another field was first, the first of these could turn the object into a formula.
    return (template if operator_of(fields) else fields) or MISSING


def _asks(part: Value, record: Value, lookups: Lookups, number: int, missed: set[int]) -> bool:
    """Does the record ask what isn't known? If not, is there an answer to all that it asks?"""
    lookups.asked = lookups.missed = False
    evaluate_fields(part, record)
    if lookups.missed and not lookups.asked:
        missed.add(number)
    return lookups.asked


@lazy_formula("$findAppRecordId")
def find_app_record_id(call: Call) -> Value:
    """The product's id of a record of the app's, by its link; MISSING where there is none."""
    return _linked(call, external=False)


@lazy_formula("$findExternalRecordId")
def find_external_record_id(call: Call) -> Value:
    """The app's id of a record of the product's, by its link; MISSING where there is none."""
    return _linked(call, external=True)


@lazy_formula("$lookup")
def lookup(call: Call) -> Value:
    """The id of the record, of the collection that the field refers to, which has these values."""
    query = call.option("query")
    if not isinstance(query, dict) or operator_of(query) is not None or not query:
        return call.unusable(query, "needs a query, an object of fields and values")
    wanted: list[tuple[str, str]] = []
    for name, part in query.items():
        value = call.build(part, call.scope, call.at("query", name))
        if is_absent(value) or value == "":
            return MISSING  # an empty value would be found in any record that lacks the field
        wanted.append((str(name), _text(call, value, f"query by {name!r}")))
    collection = call.build(call.option("collection"), call.scope, call.at("collection"))
    if not isinstance(collection, dict) or not isinstance(collection.get("key"), str):
        reason = "stands in a field whose schema has no referenceCollection with a key"
        return call.unusable(collection, reason)
    parameters = _canonical(call, collection.get("parameters"))
    found = _asked(call, RecordQuestion(collection["key"], parameters, tuple(sorted(wanted))))
    if found is MISSING and truthy(call.option("createIfNotFound")) and not _is_collecting():
        return call.unusable(dict(wanted), "finds no record, and this version doesn't create one")
    return found


@lazy_formula("$dataSchemaRef")
def data_schema_ref(call: Call) -> Value:
    """The schema of a collection or of a data schema."""
    args = call.build(call.args, call.scope, call.at())
    named = args if isinstance(args, dict) else {"type": SCHEMA_TYPES[1], "key": args}
    kind, key = named.get("type"), named.get("key")
    if kind not in SCHEMA_TYPES or not isinstance(key, str):
        return call.unusable(args, f"needs a key, and a type that is {' or '.join(SCHEMA_TYPES)}")
    return _asked(call, SchemaQuestion(kind, key, _canonical(call, named.get("parameters"))))


ASKING: Final = frozenset(
    ("$findAppRecordId", "$findExternalRecordId", "$lookup", "$dataSchemaRef")
)
"""The operators that ask; without someone to answer, as without a connection, they fail."""


def _linked(call: Call, *, external: bool) -> Value:
    record_id = call.build(call.option("recordId"), call.scope, call.at("recordId"))
    if is_absent(record_id) or record_id == "":
        return MISSING
    table = call.build(call.option("dataLinkTable"), call.scope, call.at("dataLinkTable"))
    key = table.get("key") if isinstance(table, dict) else table
    if not isinstance(key, str) and not is_absent(key):
        return call.unusable(table, "needs a dataLinkTable with a key")
    text = _text(call, record_id, "recordId")
    return _asked(call, LinkQuestion(key if isinstance(key, str) else "", text, external))


def _asked(call: Call, question: Question) -> Value:
    lookups = _HELD.get()
    if lookups is None:
        reason = "asks what only a connection's lake knows; name a connection"
        raise call.error(MISSING, reason)  # never silent: it isn't the record's fault
    answer = lookups.answer(question)
    if isinstance(answer, Unanswerable):
        return call.unusable(MISSING, answer.reason)
    return answer


def _is_collecting() -> bool:
    lookups = _HELD.get()
    return lookups is not None and lookups.collecting


def _text(call: Call, value: Value, what: str) -> str:
    if isinstance(value, (dict, list, tuple)):
        raise FormulaError(
            str(call.where), call.operator, value, f"{what} must be a text or a number"
        )
    return to_string(value)


def _canonical(call: Call, parameters: Any) -> str:
    if is_absent(parameters) or parameters == {}:
        return ""
    call.spend(size_of(parameters))
    try:
        return json.dumps(parameters, sort_keys=True)
    except (TypeError, ValueError):
        raise call.error(parameters, "has parameters that are not JSON") from None
