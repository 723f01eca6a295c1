"""Answers to what formulas ask: links and records of the lake, and schemas of the project.

A batch's questions come together. Those about one link table, or about one collection's records by
the same fields, are one query.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membrane_sync.formulas.locators import steps_of
from membrane_sync.formulas.lookups import (
    LinkQuestion,
    Question,
    RecordQuestion,
    SchemaQuestion,
    Unanswerable,
)
from membrane_sync.ports import DEFAULT_INSTANCE, Lake
from membrane_sync.project.resolved_sync import Names, stream_name
from membrane_sync.records import LinkKey

Answers = Iterator[tuple[Question, Any]]


@dataclass(frozen=True)
class Answering:
    """Where a connection's formulas find what they ask; a `formulas.lookups.Find`.

    `links` is the key of the link table that a formula means if it names none.
    """

    lake: Lake
    names: Names
    links: str = ""
    instance_key: str = DEFAULT_INSTANCE

    def __call__(self, questions: Sequence[Question]) -> Mapping[Question, Any]:
        """The answers to all questions; what isn't found isn't among them."""
        links = [q for q in questions if isinstance(q, LinkQuestion)]
        records = [q for q in questions if isinstance(q, RecordQuestion)]
        schemas = [q for q in questions if isinstance(q, SchemaQuestion)]
        return dict(
            [*self._links(links), *self._records(records), *map(self._schema, schemas)],
        )

    def _links(self, questions: Iterable[LinkQuestion]) -> Answers:
        """By the links of the direction that is asked for, then by those of the other one.

        A link that was made as records came in leads back out as well, and the other way round.
        """
        groups: dict[tuple[str, bool], list[LinkQuestion]] = defaultdict(list)
        for question in questions:
            table = question.table or self.links
            if table:
                groups[table, question.external].append(question)
            else:
                reason = "names no dataLinkTable, and there is no sync here whose own it could mean"
                yield question, Unanswerable(reason)
        for (table, external), asked in groups.items():
            ids = [question.record_id for question in asked]
            found: dict[str, str] = {}
            for direction in ("import", "export") if external else ("export", "import"):
                key = LinkKey(table, self.instance_key, direction)
                found |= self._linked(key, ids, external=external)
            yield from ((q, found[q.record_id]) for q in asked if q.record_id in found)

    def _linked(self, key: LinkKey, ids: Sequence[str], *, external: bool) -> Mapping[str, str]:
        if external:
            return self.lake.linked_apps(key, ids)
        return {i: link.app_id for i, link in self.lake.links(key, ids).items()}

    def _records(self, questions: Iterable[RecordQuestion]) -> Answers:
        groups: dict[tuple[str, str, tuple[str, ...]], list[RecordQuestion]] = defaultdict(list)
        for question in questions:
            fields = tuple(name for name, _ in question.query)
            groups[question.collection, question.parameters, fields].append(question)
        for (collection, parameters, fields), asked in groups.items():
            values = [[value for _, value in question.query] for question in asked]
            found = self._found(collection, parameters, fields, values)
            if isinstance(found, Unanswerable):
                yield from ((question, found) for question in asked)
            else:
                pairs = zip(asked, found, strict=True)
                yield from ((question, i) for question, i in pairs if i is not None)

    def _found(
        self,
        collection: str,
        parameters: str,
        fields: Sequence[str],
        values: Sequence[Sequence[str]],
    ) -> Sequence[str | None] | Unanswerable:
        steps = [steps_of(name) for name in fields]
        if not all(steps):
            return Unanswerable("queries by a field whose name is no locator")
        stream = stream_name(collection, json.loads(parameters or "{}"))
        found = self.lake.find_records(stream, [s for s in steps if s], values)
        if found is not None:
            return found
        if self.names.collection(collection) is None:
            return Unanswerable(f"searches collection {collection!r}, which the app doesn't have")
        return Unanswerable(
            f"searches collection {collection!r}, of which no sync has stored records yet"
        )

    def _schema(self, question: SchemaQuestion) -> tuple[Question, Any]:
        schema: Mapping[str, Any] | None
        if question.type == "data-collection":
            found = self.names.collection(question.key)
            schema = None if found is None else found.fields_schema
        else:
            schema = self.names.schema(question.key)
        what = question.type.replace("-", " ")
        missing = Unanswerable(f"names the {what} {question.key!r}, which isn't there")
        return question, missing if schema is None else dict(schema)
