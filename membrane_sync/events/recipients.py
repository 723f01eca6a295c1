"""Who is behind a URL that webhooks come to, remembered for some seconds.

What is remembered may be older than the ledger: a subscription that's gone is taken in for so long,
which does no harm, and before a signature is refused its secrets are read again.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from membrane_sync.elements.data_collection import CollectionEvent, DataCollection
from membrane_sync.elements.external_event import ExternalEvent
from membrane_sync.elements.global_webhook import GlobalWebhook
from membrane_sync.elements.webhook import Receiving, Signature
from membrane_sync.errors import MembraneError, NotConnected, Retryable
from membrane_sync.events.endpoint import Endpoint, Subscriber
from membrane_sync.events.signatures import check_of, secrets_of
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.ports import ConnectionRecord
from membrane_sync.ports.subscriptions import Subscription, Subscriptions
from membrane_sync.project.project import Project

REMEMBERED_SECONDS = 5.0
RENEWED_AFTER_SECONDS = 0.5
"""How old a subscription has to be to be read again for a signature that it refuses."""
MOST_REMEMBERED = 20_000
SELECTORS_AT_ONCE = 500

T = TypeVar("T")
log = logging.getLogger("membrane_sync.webhooks")


class Recipients:
    """Endpoints and subscribers, out of the ledger's subscriptions and the project's files."""

    def __init__(
        self,
        project: Project,
        subscriptions: Subscriptions,
        connection: Callable[[str], ConnectionRecord],
    ) -> None:
        self._project = project
        self._subscriptions = subscriptions
        self._connection = connection
        self._endpoints = _Remembered[Endpoint]()
        self._meant = _Remembered[Sequence[Subscriber]]()
        self._connections = _Remembered[ConnectionRecord | None]()

    def remembered(self, name: str) -> Endpoint | None:
        """The endpoint of this name, if it was read a short while ago."""
        return self._endpoints.get(name)

    def read(self, keys: Sequence[str]) -> list[Endpoint | MembraneError | None]:
        """The endpoints of subscriptions by their keys, as the ledger has them now.

        None for a key that's nobody's, or whose subscription takes no webhooks by itself; an error
        for one that can't be read, while the others can.
        """
        try:
            known = self._subscriptions.of_keys(sorted({*keys}))
            found = {one.key: self._endpoint(one) for one in known}
        except Retryable:
            raise
        except MembraneError as error:
            if len(keys) == 1:
                return [error]
            return [self.read([key])[0] for key in keys]
        return [found.get(key) for key in keys]

    def _endpoint(self, subscription: Subscription) -> Endpoint | None:
        subscriber = self._subscriber(subscription)
        record = self._connection_of(subscription.connection)
        if subscription.global_webhook or subscriber is None or record is None:
            return None
        receiving = subscriber.external or subscriber.event
        assert receiving is not None  # a subscriber has one of the two
        known = {
            "parameters": self._parameters(record.integration),
            "input": dict(record.input),
            "state": dict(subscription.state),
        }
        knowns = [{**known, "secret": secret} for secret in subscription.secrets]
        config, key = subscription.config, subscription.key
        about = (config.get("collection") or config.get("event"), config.get("change"))
        title = "/".join(str(part) for part in (subscription.connection, *about) if part)
        proof = _proof(receiving, *knowns)
        endpoint = Endpoint(key, title, "webhook", receiving, *proof, subscriber)
        return self._endpoints.put(key, endpoint)

    def global_webhook(self, app: str, key: str) -> Endpoint | None:
        """The endpoint of an app's global webhook; None if no integration of the app has it."""
        here = [i for i in self._project.integrations if self._project.connector(i).key == app]
        found = [self._project.find("global_webhook", key, integration=i) for i in here]
        if not found or found[0] is None:
            return None
        declared = cast(GlobalWebhook, found[0])
        name = f"{app}/{key}"
        # Two integrations of one app share the URL: either one's secret will do.
        knowns: list[dict[str, Any]] = [{"parameters": self._parameters(i)} for i in here]
        verify, secrets, known = _proof(declared, *knowns)
        endpoint = Endpoint(name, name, "global_webhook", declared, verify, secrets, known)
        return self._endpoints.put(name, endpoint)

    def forget(self) -> None:
        """Read all anew from the ledger."""
        for remembered in (self._endpoints, self._meant, self._connections):
            remembered.clear()

    def renewed(self, endpoint: Endpoint) -> Endpoint | None:
        """The endpoint as it is now; None if that was just looked at."""
        if endpoint.subscriber is None:
            return None
        is_young = self._endpoints.age(endpoint.name) < RENEWED_AFTER_SECONDS
        # What the app signs by may be known by another process in the very moment.
        if is_young and endpoint.subscriber.subscription.secret_until is None:
            return None
        self._connections.drop(endpoint.subscriber.subscription.connection)
        found = self.read([endpoint.name])[0]
        return found if isinstance(found, Endpoint) else None

    def take_secret(self, endpoint: Endpoint, secret: str) -> bool:
        """Keep the secret that an app gave; False where it wasn't to give one, or another one.

        An app that didn't hear our answer gives it once more.
        """
        is_taken = self._subscriptions.take_secret(endpoint.name, secret)
        found = self.read([endpoint.name])[0]  # from now on, this process knows it
        if is_taken or not isinstance(found, Endpoint) or found.subscriber is None:
            return is_taken
        given = found.subscriber.subscription.given[:1]
        return any(compare_digest(secret.encode(), known.encode()) for known in given)

    def meant(
        self, global_webhook: str, selectors: Sequence[str]
    ) -> Mapping[str, Sequence[Subscriber]]:
        """The subscribers of every tenant that the selectors mean, by selector."""
        found = {s: self._meant.get(f"{global_webhook}\0{s}") for s in {*selectors}}
        missing = sorted(s for s, subscribers in found.items() if subscribers is None)
        for start in range(0, len(missing), SELECTORS_AT_ONCE):
            piece = missing[start : start + SELECTORS_AT_ONCE]
            read = self._subscriptions.matching(global_webhook, piece)
            for selector in piece:
                subscribers = [self._subscriber(one) for one in read.get(selector, ())]
                there = [one for one in subscribers if one is not None]
                found[selector] = there
                if there:
                    self._meant.put(f"{global_webhook}\0{selector}", there)
        return {selector: subscribers or () for selector, subscribers in found.items()}

    def _subscriber(self, subscription: Subscription) -> Subscriber | None:
        """None for one of a connection that's archived, or whose declaration is gone."""
        record = self._connection_of(subscription.connection)
        if record is None:
            return None
        config = subscription.config
        external: ExternalEvent | None = None
        event: CollectionEvent | None = None
        collection: DataCollection | None = None
        if config.get("kind") == "record":
            found = self._find("data_collection", config.get("collection"), record.integration)
            collection = cast("DataCollection | None", found)
            event = _event_of(collection, str(config.get("change") or "all"))
            if event is None or event.type not in ("webhook", "connector_event"):
                return self._without(subscription)
        if event is None or event.type == "connector_event":
            key = config.get("event") if event is None else event.event
            found = self._find("external_event", key, record.integration)
            external = cast("ExternalEvent | None", found)
            if external is None:
                return self._without(subscription)
        known = {
            "parameters": {
                **self._parameters(record.integration),
                **(config.get("parameters") or {}),
            },
            "input": dict(record.input),
            "state": dict(subscription.state),
        }
        return Subscriber(subscription, external, event, collection, known)

    @staticmethod
    def _without(subscription: Subscription) -> None:
        what = subscription.config.get("collection") or subscription.config.get("event")
        log.warning(
            "connection %s is subscribed to events of %s, which the project doesn't declare",
            subscription.connection,
            what,
        )

    def _find(self, kind: str, key: Any, integration: str) -> Any:
        return self._project.find(kind, str(key), integration=integration) if key else None

    def _parameters(self, integration: str) -> dict[str, Any]:
        return dict(self._project.integration(integration).parameters)

    def _connection_of(self, key: str) -> ConnectionRecord | None:
        known = self._connections.get(key)
        if known is not None:
            return known
        try:
            record = self._connection(key)
        except NotConnected:
            return None
        there = record.integration in self._project.integrations
        if record.status == "archived" or not there:
            return None
        return self._connections.put(key, record)


def _event_of(collection: DataCollection | None, change: str) -> CollectionEvent | None:
    if collection is None:
        return None
    events = collection.events
    own = {"created": events.created, "updated": events.updated, "deleted": events.deleted}
    return own.get(change) or events.all


def _proof(
    receiving: Receiving, *knowns: dict[str, Any]
) -> tuple[Callable[..., None] | None, list[str], dict[str, Any]]:
    signature = receiving.signature
    if signature is None:
        return None, [], knowns[0]
    secrets = [secret for known in knowns for secret in _secrets(signature, known)]
    return check_of(signature), secrets, knowns[0]


def _secrets(signature: Signature, known: Mapping[str, Any]) -> list[str]:
    formula = {"$var": "$.secret"} if signature.secret is None else signature.secret
    found = evaluate(formula, known, strict=False)
    return [] if found is MISSING else secrets_of(found)


class _Remembered(Generic[T]):
    """Values by name for some seconds, for threads; the ones not used for longest go first."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> T | None:
        with self._lock:
            found = self._values.get(name)
            if found is None or time.monotonic() - found[0] > REMEMBERED_SECONDS:
                return None
            self._values.move_to_end(name)
            return found[1]

    def age(self, name: str) -> float:
        with self._lock:
            found = self._values.get(name)
            return time.monotonic() - found[0] if found is not None else float("inf")

    def put(self, name: str, value: T) -> T:
        with self._lock:
            self._values[name] = (time.monotonic(), value)
            self._values.move_to_end(name)
            while len(self._values) > MOST_REMEMBERED:
                self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()

    def drop(self, name: str) -> None:
        with self._lock:
            self._values.pop(name, None)
