"""One collection as it's read: its calls, its pages, and the values of its cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from membrane_sync.calls import as_call
from membrane_sync.elements.data_collection import DataCollection, ListMethod
from membrane_sync.elements.pagination import TURNED_BY_THE_APP, TieBreak
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import Fatal
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.formulas.locators import steps_of
from membrane_sync.records import Answer, Call
from membrane_sync.sync.cursor import CursorOrder, asked_again_from
from membrane_sync.sync.rendering import (
    Functions,
    Scope,
    answer_scope,
    by_function,
    put,
    render,
)

NOT_THERE = [404, 416]
"""What apps answer behind a list's last page, if it isn't an empty one."""


@dataclass(frozen=True)
class Step:
    """The next call; not `settled` if the cursor must not move with the page before it.

    With the page before it, all below the moment `reached` has been read. `again` if its answer may
    repeat records of any page since the last step that wasn't: they share a cursor value. `base` is
    the cursor from which a new listing would begin with this very call; None if none would.
    """

    call: Call
    settled: bool = True
    reached: datetime | None = None
    again: bool = False
    base: Any = None


@dataclass(frozen=True)
class End:
    """What is known when a reading is over: how far it went, and the token for the next one."""

    reached: datetime | None = None
    token: Any = None


@dataclass(frozen=True)
class Source:
    """A collection that can be listed, and the functions that its requests may name."""

    collection: DataCollection
    functions: Functions = field(default_factory=dict)

    @cached_property
    def method(self) -> ListMethod:
        """How it's listed; raises Fatal where it isn't."""
        method = self.collection.list_
        if method is None or method.not_supported:
            raise Fatal(
                f"collection {self.collection.key!r} can't be listed",
                hint="declare its list method",
            )
        return method

    @cached_property
    def order(self) -> CursorOrder | None:
        """The order of its cursor's values; None without such a cursor."""
        cursor = self.method.cursor
        return None if cursor is None or cursor.is_delta else CursorOrder(cursor)

    @cached_property
    def restarts(self) -> bool:
        """Whether the reading may begin again from the cursor that a page ended with."""
        method, cursor = self.method, self.method.cursor
        return (
            cursor is not None
            and self.order is not None
            and cursor.sorted == "ascending"
            and cursor.filtered_by == "app"
            and cursor.keeps_ties
            and method.function is None
            and method.pagination.type in TURNED_BY_THE_APP
        )

    @property
    def tie_break(self) -> TieBreak | None:
        """How records of one cursor value are read by their ids, if that's declared."""
        return self.method.pagination.tie_break

    def call(self, scope: Scope) -> Call:
        """The first call from `$.cursor` on."""
        if self.method.function is None:
            return render(self.method, scope)
        made = by_function(self.method, scope, self.functions)
        if not isinstance(made, Call):
            raise Fatal(f"function {self.method.function!r} gives several calls where one is meant")
        return made

    def tie_call(self, scope: Scope, value: Any, after: Any) -> Call:
        """The call for the records of one cursor value whose ids come after `after`."""
        tie = self.tie_break
        assert tie is not None and self.order is not None
        sent = self.order.notation.sent(value, steps_back=False)
        seen = {**scope, "tie": {"value": sent, "after": after}}
        method = self.method
        asked = method.model_copy(
            update={
                "path": tie.path or method.path,
                "query": {**method.query, **tie.query},
                "body": method.body if tie.body is None else tie.body,
                "variables": {**method.variables, **tie.variables},
            }
        )
        return render(asked, seen)

    def forgiven(self, call: Call) -> Call:
        """The call for a page behind the end of the list: that it isn't there means no records."""
        steps = steps_of(self.method.records) or ()
        names = [step for step in steps if isinstance(step, str)]
        if names[:1] != ["body"] or len(names) < len(steps):
            return call
        body = put(None, names[1:], []) if names[1:] else []
        return with_rule(call, ErrorRule(status=NOT_THERE, action="ignore", body=body))

    def is_expired(self, answer: Answer) -> bool:
        """Whether the app says that it no longer knows the delta token."""
        cursor = self.method.cursor
        if cursor is None or not cursor.is_delta:
            return False
        rule = cursor.delta_expired
        if rule.when is None:
            return answer.status in rule.status
        value = evaluate(rule.when, answer_scope(answer))
        by_status = "status" not in rule.model_fields_set or answer.status in rule.status
        return by_status and value is not MISSING and bool(value)

    def newest(self, records: Sequence[Any]) -> Any:
        """The greatest cursor value of a page, None if no record has one."""
        return None if self.order is None else self.order.newest(self.order.values(records))

    def values(self, records: Sequence[Any]) -> list[Any]:
        """The cursor values of a page that the cursor may move to."""
        if self.order is None:
            return []
        return self.order.values(records)

    def moved(self, scope: Scope, value: Any) -> dict[str, Any]:
        """The scope of a request from this value on."""
        assert self.method.cursor is not None
        notation = self.order.notation if self.order else None
        sent = asked_again_from(self.method.cursor, value, notation)
        moved = {**scope, "cursor": sent}
        window = scope.get("window")
        return {**moved, "window": {**window, "from": sent}} if window else moved

    def states(self, records: Sequence[Any]) -> set[str]:
        """Which records these are, in which state as far as the cursor tells."""
        assert self.order is not None
        ids = {"$var": self.collection.id}
        return {f"{evaluate(ids, record)} at {self.order.found(record)}" for record in records}

    def pages_of_function(self, scope: Scope) -> Any:
        """What the request's function makes: a call, a generator of calls; None without one."""
        if self.method.function is None:
            return None
        return by_function(self.method, scope, self.functions)

    def as_call(self, made: Any) -> Call:
        """A call that a function's generator gave."""
        return as_call(made, str(self.method.function), self.method.errors)


def with_rule(call: Call, rule: Any) -> Call:
    """The call with one more error rule, tried before its own."""
    return replace(call, errors=(rule, *call.errors))


def formulas_of(collection: DataCollection) -> list[Mapping[str, Any]]:
    """Every formula that reading evaluates over a record; a page's heads must hold what they read.

    The rest of a record is only kept.
    """
    method = collection.list_
    found: list[Any] = [{"$var": collection.id}, collection.deletes.tombstone]
    if method is not None:
        pagination, cursor = method.pagination, method.cursor
        if pagination.type == "keyset":
            found.append(pagination.next if pagination.next is not None else {"$var": "$.id"})
        if pagination.tie_break is not None:
            found.append(pagination.tie_break.after)
        if cursor is not None and not cursor.is_delta:
            found.append({"$var": cursor.field} if cursor.value is None else cursor.value)
    return [formula for formula in found if formula is not None]
