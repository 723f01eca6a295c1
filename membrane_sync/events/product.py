"""Asks the product to tell of a tenant's internal events, while a sync of theirs needs them.

    ProductSubscriber(project, kept, product, listeners, tenants, public_url).reconcile(["acme"])

The product may be asked more than once for the same: whoever is killed before it has noted the
answer leaves that to another one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from membrane_sync.elements.action import HttpRequest
from membrane_sync.elements.internal_event import InternalEvent
from membrane_sync.errors import Fatal, MembraneError, NotFound
from membrane_sync.events.internal import Listeners
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.ports import Tenant, Tenants
from membrane_sync.ports.product import (
    ProductApi,
    ProductCall,
    ProductSubscription,
    ProductSubscriptions,
)
from membrane_sync.project.project import Project

CLAIM_SECONDS = 60.0
TENANTS_AT_ONCE = 100
FIRST_BACK_OFF, LONGEST_BACK_OFF = 30.0, 3_600.0
MOST_FAREWELLS = 8
"""After so many tries, a product that won't be unsubscribed from is left alone."""


@dataclass(frozen=True)
class ProductSubscriber:
    """Brings what the product was asked for to what is needed."""

    project: Project
    kept: ProductSubscriptions
    product: ProductApi
    listeners: Listeners
    tenants: Tenants
    public_url: str
    now: Callable[[], float] = time.time

    def reconcile(self, tenants: Iterable[str] = ()) -> Mapping[tuple[str, str], str]:
        """Ask for these tenants, and for those for whom something is due.

        Gives what went wrong, by tenant and event; it's tried again later.
        """
        wrong: dict[tuple[str, str], str] = {}
        for tenant in dict.fromkeys([*tenants, *self.kept.due(TENANTS_AT_ONCE)]):
            there = {one.event: one for one in self.kept.of_tenant(tenant)}
            needed = [event for event in self._declared if self.listeners(tenant, event)]
            for event in dict.fromkeys([*needed, *there]):
                error = self._one(tenant, event, there.get(event), event in needed)
                wrong |= {(tenant, event): error} if error else {}
        return wrong

    @cached_property
    def _declared(self) -> Mapping[str, InternalEvent]:
        found = [self.project.get(InternalEvent, k) for k in self.project.keys("internal_event")]
        return {event.key: event for event in found if event.subscribe is not None}

    def _one(
        self, tenant: str, event: str, known: ProductSubscription | None, is_needed: bool
    ) -> str:
        version = self._version(event) if is_needed else ""
        if known is not None and known.version == version and is_needed and known.due_at is None:
            return ""
        if known is not None and known.due_at is not None and known.due_at > self.now():
            return ""  # It failed, and rests.
        claimed = self.kept.claim(tenant, event, CLAIM_SECONDS)
        if claimed is None:
            return ""
        try:
            if not is_needed:
                self._unsubscribe(claimed)
                self.kept.drop(tenant, event)
                return ""
            # One that's due without being another is needed still: it was only looked at.
            if claimed.version != version:
                answer = self._ask(claimed, self._declared[event].subscribe)
                claimed = replace(claimed, version=version, state=answer)
            self.kept.settle(replace(claimed, attempts=0, error="", due_at=None))
            return ""
        except MembraneError as error:
            return self._failed(claimed, error, is_needed)

    def _failed(self, one: ProductSubscription, error: MembraneError, is_needed: bool) -> str:
        attempts = one.attempts + 1
        if not is_needed and attempts >= MOST_FAREWELLS:
            self.kept.drop(one.tenant, one.event)
            return error.message
        wait = min(FIRST_BACK_OFF * 2.0 ** min(one.attempts, 20), LONGEST_BACK_OFF)
        due_at = self.now() + wait
        self.kept.settle(replace(one, attempts=attempts, error=error.message, due_at=due_at))
        return error.message

    def _unsubscribe(self, one: ProductSubscription) -> None:
        declared = self.project.find("internal_event", one.event)
        request = declared.unsubscribe if isinstance(declared, InternalEvent) else None
        if one.version and request is not None:
            try:
                self._ask(one, request)
            except NotFound:
                return  # It's gone already.

    def _ask(self, one: ProductSubscription, request: HttpRequest | None) -> Any:
        assert request is not None  # only such events are subscribed to
        tenant = self._tenant(one.tenant)
        scope = {
            "webhook_url": self._url(one.event),
            "event": one.event,
            "tenant": {"key": tenant.key, "name": tenant.name, "fields": dict(tenant.fields)},
            "state": one.state,
        }
        try:
            url, body = evaluate(request.url, scope), evaluate(request.body, scope)
            headers, query = (_texts(evaluate(part, scope)) for part in _maps(request))
        except FormulaError as error:
            raise Fatal(f"internal_event {one.event}: its request fails: {error}") from None
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise Fatal(
                f"internal_event {one.event}: the url of its request is no address",
                hint="begin it with https://",
            )
        sent = None if body is MISSING else body
        return self.product.send(ProductCall(request.method, url, tenant, headers, query, sent))

    def _tenant(self, key: str) -> Tenant:
        try:
            return self.tenants.tenant(key)
        except NotFound:
            return Tenant(key)

    def _url(self, event: str) -> str:
        return f"{self.public_url}/internal-events/{event}"

    def _version(self, event: str) -> str:
        """Hash of the request: another one means to ask again."""
        request = self._declared[event].subscribe
        assert request is not None
        text = json.dumps([request.model_dump(mode="json"), self._url(event)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _maps(request: HttpRequest) -> tuple[Any, Any]:
    return request.headers, request.query


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): str(item) for name, item in value.items() if item is not None}
