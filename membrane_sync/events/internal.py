"""Internal events: what the product tells of, checked, and put into the inbox for whom it's about.

    events = InternalEvents(project, ledger.inbox, listeners)
    events.publish("order_paid", [{"order": 7}], tenant="acme")

An event is put into the queue of each connection of its tenant that has a sync to be run by it. One
that nothing asks for is kept as `ignored`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from membrane_sync.elements.data_schema import DataSchema
from membrane_sync.elements.internal_event import InternalEvent
from membrane_sync.errors import InvalidInput
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports.events import Arrival, Event, EventSource, Inbox
from membrane_sync.project import schemas
from membrane_sync.project.project import Project
from membrane_sync.project.shape import shaped
from membrane_sync.project.values import is_storable, is_tenant_key

MOST_PROBLEMS = 50
"""Problems of one batch that are told; a batch with more of them is refused all the same."""


class Listeners(Protocol):
    """Who asks for an internal event."""

    def __call__(self, tenant: str, event: str) -> Sequence[str]:
        """The keys of the tenant's connections that do."""
        ...


@dataclass(frozen=True)
class Told:
    """One event as the product told it; `tenant` and `key` where they stand beside the payload.

    `key` is the same however often the event is told.
    """

    payload: Any
    tenant: str = ""
    key: str = ""


@dataclass(frozen=True)
class Published:
    """The ids of new events, and how many there were already."""

    events: Sequence[int]
    duplicates: int


class Misfit(Exception):
    """Why something told is no event of its type: by field, what's wrong with it."""

    def __init__(self, fields: Mapping[str, str], tenant: str = "") -> None:
        super().__init__("; ".join(f"{field}: {words}" for field, words in fields.items()))
        self.fields = dict(fields)
        self.tenant = tenant


class InternalEvents:
    """All types of internal events of a project."""

    def __init__(self, project: Project, inbox: Inbox, listeners: Listeners) -> None:
        self._project = project
        self._inbox = inbox
        self._listeners = listeners

    def publish(
        self, type: str, payloads: Sequence[Any], *, tenant: str = "", key: str = ""
    ) -> Published:
        """Put them into the inbox, all or none, in one transaction.

        With a `tenant`, all are its; `key` is the same if they're told again. Raises NotFound for
        an unknown type, and InvalidInput, which names item and field.
        """
        kind = self.kind(type)
        told = [Told(p, tenant, f"{n} {key}" if key else "") for n, p in enumerate(payloads)]
        events: list[Event] = []
        wrong: dict[str, str] = {}
        for number, one in enumerate(told):
            try:
                events += kind.events(one, "internal")
            except Misfit as misfit:
                place = f"[{number}]." if len(told) > 1 else ""
                wrong |= {f"{place}{field}": words for field, words in misfit.fields.items()}
        if wrong:
            more = f" ({len(wrong):,} in all)" if len(wrong) > MOST_PROBLEMS else ""
            shown = dict(list(wrong.items())[:MOST_PROBLEMS])
            raise InvalidInput(shown, hint=f"nothing was taken; mend the payload{more}")
        (put,) = self._inbox.put([Arrival(None, events)])
        return Published(put.events, put.duplicates)

    def kind(self, type: str) -> Kind:
        """The type of this key; raises NotFound. Use it for one batch: it keeps who listens."""
        return Kind(self._project, self._project.get(InternalEvent, type), self._listeners)


class Kind:
    """One type of internal event, for one batch."""

    def __init__(self, project: Project, element: InternalEvent, listeners: Listeners) -> None:
        self.element = element
        self._project = project
        self._listeners = listeners
        self._known: dict[str, Sequence[str]] = {}

    def events(self, told: Told, source: EventSource) -> list[Event]:
        """One for each connection that asks for it, or one that's ignored; raises Misfit."""
        tenant = told.tenant
        try:
            wrong = dict(self._wrong(told.payload))
            if wrong:
                raise Misfit(wrong)
            tenant = self._tenant(told)
            key = self._key(told)
        except Misfit as misfit:
            misfit.tenant = tenant
            raise
        event = Event(
            source,
            "internal",
            self.element.key,
            tenant,
            payload=json.dumps(told.payload, ensure_ascii=False),
            dedupe_key=key,
            dedupe_seconds=self.element.dedupe_seconds if key else 0.0,
        )
        return self.spread(event)

    def refused(self, told: Told, source: EventSource, misfit: Misfit) -> Event:
        """A dead event for what is no event of the type, so that somebody sees it."""
        payload = told.payload
        if not isinstance(payload, str):
            payload = json.dumps(payload, default=str)
        return Event(
            source,
            "internal",
            self.element.key,
            misfit.tenant or told.tenant,
            payload=payload.replace("\0", "\ufffd"),
            dedupe_key=f"key {told.key}" if told.key else "",
            dedupe_seconds=self.element.dedupe_seconds if told.key else 0.0,
            status="dead",
            error=str(misfit),
        )

    def spread(self, event: Event) -> list[Event]:
        """The event for each connection that asks for it; as `ignored` if there's none."""
        asking = self._asking(event.tenant)
        if not asking:
            return [replace(event, connection="", status="ignored")]
        return [replace(event, connection=key, status="pending") for key in asking]

    def _asking(self, tenant: str) -> Sequence[str]:
        if tenant not in self._known:
            self._known[tenant] = self._listeners(tenant, self.element.key)
        return self._known[tenant]

    @cached_property
    def _schema(self) -> Mapping[str, Any]:
        """What payloads are held against; fields that it doesn't know are let be."""
        schema: Mapping[str, Any] = self.element.schema_
        if self.element.data_schema is not None:
            schema = self._project.get(DataSchema, self.element.data_schema).schema_
        return schemas.expanded(schema, schemas.lookup_in(self._project))

    def _wrong(self, payload: Any) -> Iterator[tuple[str, str]]:
        if not isinstance(payload, Mapping):
            yield "payload", "should be an object"
        elif not is_storable(payload):
            yield "payload", "holds what JSON or a database can't"
        else:
            for misfit in shaped(payload, self._schema).misfits:
                yield misfit.field, misfit.reason

    def _tenant(self, told: Told) -> str:
        formula = self.element.tenant
        named = MISSING if formula is None else self._evaluated("tenant", formula, told.payload)
        if told.tenant:
            if named is not MISSING and named is not None and _text(named) != told.tenant:
                raise Misfit({"tenant": "is another than the one that tells of it"})
            return told.tenant
        if formula is None:
            raise Misfit({"tenant": "is named by nothing: not by who tells of it, nor a formula"})
        if not is_tenant_key(_text(named)):
            raise Misfit({"tenant": "is no key of a tenant, as the formula `tenant` gives it"})
        return _text(named)

    def _key(self, told: Told) -> str:
        formula = self.element.event_id
        found = MISSING if formula is None else self._evaluated("event_id", formula, told.payload)
        if found is MISSING or found is None:
            return f"key {told.key}" if told.key else ""
        text = _text(found)
        if not text:
            raise Misfit({"event_id": "is no text or number, as its formula gives it"})
        return f"id {text}"

    def _evaluated(self, name: str, formula: Any, payload: Any) -> Any:
        try:
            return evaluate(formula, payload)
        except FormulaError:
            raise Misfit({name: f"can't be told: the formula `{name}` fails"}) from None


def _text(value: Any) -> str:
    """A text or a whole number as text; empty for all else."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if isinstance(value, str) or is_number else ""
