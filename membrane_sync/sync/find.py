"""One record, asked of the app by its id."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from membrane_sync.calls import as_call, concluded
from membrane_sync.elements.data_collection import RecordMethod
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import Fatal, Rejected
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.ports import Api
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.records import Answer, RawRecord
from membrane_sync.sync.raw import raw_record
from membrane_sync.sync.rendering import answer_scope, by_function, refuse_graphql_errors, render
from membrane_sync.sync.source import with_rule

GONE = (404, 410)
_GONE = ErrorRule(status=[*GONE], action="ignore")


class Finder:
    """Finds records of a sync's collection; many threads may ask it at once."""

    def __init__(self, sync: ResolvedSync, api: Api, scope: Mapping[str, Any]) -> None:
        self._sync = sync
        self._api = api
        self._scope = scope
        method = sync.collection.find_by_id
        self._method = None if method is None or method.not_supported else method

    @property
    def is_able(self) -> bool:
        """Whether the collection declares how to find a record."""
        return self._method is not None

    def find(self, external_id: str) -> RawRecord:
        """The record as it is now; one that is gone is a deleted one.

        Raises what the app has against it, and Rejected where it answers another record, or none
        that can be kept.
        """
        if self._method is None:
            raise Fatal(
                f"collection {self._sync.collection.key!r} has no find_by_id",
                hint="declare it, or have `handle` give whole records",
            )
        record = self._asked(self._method, {**self._scope, "id": external_id})
        if record is None:
            return RawRecord(external_id, "{}", deleted=True)
        found = raw_record(self._sync.collection, record)
        if found.external_id != external_id:
            raise Rejected("the app answered another record than the one that was asked for")
        return found

    def _asked(self, method: RecordMethod, scope: Mapping[str, Any]) -> Any:
        if method.function is None:
            return self._record(method, self._send(method, render(method, scope)))
        made = by_function(method, scope, self._sync.functions)
        if not isinstance(made, Generator):
            return self._record(method, self._send(method, made))
        found, _ = concluded(made, str(method.function), lambda call: self._send(method, call))
        return found

    def _send(self, method: RecordMethod, call: Any) -> Answer:
        made = as_call(call, str(method.function), method.errors)
        return self._api.send(with_rule(made, _GONE))

    def _record(self, method: RecordMethod, answer: Answer) -> Any:
        if answer.status in GONE:
            return None
        refuse_graphql_errors(method, answer.body)
        found = evaluate({"$var": method.record}, answer_scope(answer))
        return None if found is MISSING else found
