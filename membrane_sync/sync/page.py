"""One answer's records, without a Python value for each of their fields.

Of each record its JSON text is cut out of the answer as it came, and its head is read: the fields
that the declaration needs while reading, as the id, the cursor and the tombstone. The rest is first
read in the lake, a whole column at a time. Cutting is msgspec's `Raw`, measured at 0.7 µs a record
against 6 µs for reading it (docs/decisions/010-records-as-text.md).
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from membrane_sync.arrow import without
from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.formulas import MISSING, evaluate, variables
from membrane_sync.formulas.locators import steps_of
from membrane_sync.records import Answer, Call, Texts
from membrane_sync.sync.heads import Heads
from membrane_sync.sync.rendering import answer_scope, refuse_graphql_errors
from membrane_sync.sync.source import Source, formulas_of

NO_CONTENT = 204
"""Some apps' way to say that a list is empty (Zoho's, among others)."""


@dataclass(frozen=True)
class Page:
    """The records of one answer, in its order.

    `heads` hold of each record at least what `formulas_of` the collection read, as a dict, or
    whatever stands there instead of one. `texts` are the records' JSON texts; None where only
    `heads`, then whole, can be had, as in JSON that isn't by the letter. `scope` is what formulas
    of the pagination see.
    """

    answer: Answer
    heads: Sequence[Any]
    texts: Texts | None
    scope: Mapping[str, Any]


def to_be_cut(source: Source, call: Call) -> Call:
    """The call, whose answer may be cut into records where it arrives."""
    reader = _reader(_Declared(source.collection))
    return replace(call, cut=reader.cut) if reader else call


def read_page(source: Source, answer: Answer) -> Page:
    """The page of an answer; raises UnexpectedAnswer where the declared place holds no list.

    An answer that says that a delta token has expired, one to be passed over, or one that has no
    content by its status, has no records.
    """
    if answer.skipped or answer.status == NO_CONTENT or source.is_expired(answer):
        return Page(answer, [], Texts([]), answer_scope(answer))
    reader = _reader(_Declared(source.collection))
    page = reader.page(answer) if reader and answer.content else None
    refuse_graphql_errors(source.method, page.scope["body"] if page else answer.body)
    return page or _whole_page(source, answer)


def _whole_page(source: Source, answer: Answer) -> Page:
    method = source.method
    scope = answer_scope(answer)
    found = evaluate({"$var": method.records}, scope)
    if found is MISSING or not isinstance(found, list):
        kind = "nothing" if found is MISSING else type(found).__name__
        raise UnexpectedAnswer(
            f"collection {source.collection.key!r}: the answer has {kind} at {method.records}, "
            "not a list",
            hint="compare `records` in the collection's YAML with what the app answers",
        )
    if method.node is not None:
        nodes = [evaluate({"$var": method.node}, item) for item in found]
        found = [None if node is MISSING else node for node in nodes]
    return Page(answer, found, None, scope)


class _Declared:
    """A collection as a key of the readers' cache: the same object is the same declaration."""

    def __init__(self, collection: DataCollection) -> None:
        self.collection = collection

    def __hash__(self) -> int:
        return id(self.collection)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Declared) and self.collection is other.collection


@lru_cache(maxsize=512)
def _reader(declared: _Declared) -> _Reader | None:
    """How to cut a collection's pages; None where the declaration doesn't allow it."""
    collection = declared.collection
    method = Source(collection).method
    path = _names(method.records)
    node = () if method.node is None else _names(method.node)
    fields = _first_names(formulas_of(collection))
    if path is None or path[:1] != ("body",) or node is None or fields is None:
        return None
    if _reads_records(method, path):
        return None
    return _Reader(path[1:], node, tuple(sorted(fields)))


def _reads_records(method: ListMethod, path: tuple[str, ...]) -> bool:
    """Whether the paging looks into the records, or at something that they're part of."""
    pagination = method.pagination
    formulas = [pagination.has_more, pagination.total_pages, pagination.total_records]
    if pagination.type != "keyset":
        formulas.append(pagination.next)
    if method.cursor is not None:
        formulas.append(method.cursor.delta_token)
    read = [steps_of(locator) for formula in formulas for locator in variables(formula)]
    return any(steps is None or steps[: len(path)] == path[: len(steps)] for steps in read)


class _Parts(NamedTuple):
    """A page cut up: its records' texts, the structs of their heads, and the body without them."""

    texts: list[Any]
    structs: list[Any]
    rest: Any


class _Reader:
    """Cuts pages whose list of records is at `path` in the body; heads hold `fields`."""

    def __init__(
        self, path: tuple[str, ...], node: tuple[str, ...], fields: tuple[str, ...]
    ) -> None:
        self._path = path
        self._fields = fields
        names = [(f"f{i}", Any, MISSING) for i in range(len(fields))]
        rename = {f"f{i}": field for i, field in enumerate(fields)}
        head = msgspec.defstruct("Head", names, rename=rename, gc=False)
        self._node = node
        self._texts = self._decoder(msgspec.Raw)
        self._heads = self._decoder(head)

    def page(self, answer: Answer) -> Page | None:
        """The page; None where it isn't as declared: then the long way says what is wrong."""
        try:
            parts: _Parts = answer.parts or self.cut(answer.content)
        except (ValueError, RecursionError):
            return None
        heads = Heads(self._fields, parts.structs)
        body = self._put(parts.rest, heads)
        scope = {"body": body, "headers": answer.headers, "status": answer.status}
        return Page(answer, heads, Texts(parts.texts), scope)

    def cut(self, content: bytes) -> _Parts:
        """Raises ValueError or RecursionError where it isn't as declared."""
        texts = self._read(self._texts, content)
        structs = self._read(self._heads, content)
        return _Parts(texts, structs, json.loads(without(texts, content)))

    def _read(self, decoder: msgspec.json.Decoder[Any], content: bytes) -> list[Any]:
        found = decoder.decode(content)
        for _ in self._path:
            found = found.node
        for _ in self._node:
            found = [item.node for item in found]
        records: list[Any] = found
        return records

    def _put(self, body: Any, heads: Heads) -> Any:
        """The body with the heads in place of its records."""
        if not self._path:
            return heads
        place = body
        for name in self._path[:-1]:
            place = place[name]
        place[self._path[-1]] = heads
        return body

    def _decoder(self, item: Any) -> msgspec.json.Decoder[Any]:
        records = types.GenericAlias(list, (_wrapped(item, self._node),))
        return msgspec.json.Decoder(_wrapped(records, self._path))


def _wrapped(inner: Any, names: tuple[str, ...]) -> Any:
    """A type of objects that have `inner` at the end of these names, each read as `node`."""
    for name in reversed(names):
        inner = msgspec.defstruct("Node", [("node", inner)], rename={"node": name}, gc=False)
    return inner


def _first_names(formulas: Iterable[Any]) -> set[str] | None:
    """The fields that formulas read of a record; None if that's the record itself."""
    found: set[str] = set()
    for formula in formulas:
        for locator in variables(formula):
            steps = steps_of(locator)
            if not steps or not isinstance(steps[0], str):
                return None
            found.add(steps[0])
    return found


def _names(locator: str) -> tuple[str, ...] | None:
    steps = steps_of(locator)
    if steps is None or not all(isinstance(step, str) for step in steps):
        return None
    return tuple(str(step) for step in steps)
