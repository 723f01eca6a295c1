"""Where webhooks come to: the URL of a subscription or a global webhook, and who is behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.elements.data_collection import CollectionEvent, DataCollection
from membrane_sync.elements.external_event import ExternalEvent
from membrane_sync.elements.global_webhook import GlobalWebhook
from membrane_sync.elements.webhook import Receiving
from membrane_sync.events.request import WebhookRequest
from membrane_sync.ports.events import EventSource
from membrane_sync.ports.subscriptions import Subscription

Verify = Callable[[WebhookRequest, Sequence[str], float, Any], None]


@dataclass(frozen=True)
class Subscriber:
    """Whom an event is for, and the declarations that make events of what came.

    Of an event of the connector itself there's `external` alone; of a collection's records there's
    `event`, which may rest on an `external` one. `known` is what their formulas see besides.
    """

    subscription: Subscription
    external: ExternalEvent | None = None
    event: CollectionEvent | None = None
    collection: DataCollection | None = None
    known: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def declarations(self) -> list[Receiving]:
        """Those that may say what identifies an event, the nearest first."""
        return [one for one in (self.event, self.external) if one is not None]


@dataclass(frozen=True)
class Endpoint:
    """One URL; `name` is the subscription's key, or `app/key` of a global webhook.

    `title` is what logs call it by, since the key is a secret. What `secrets` gives are those that
    any signature may be by, and `known` is what the formulas of a challenge see.
    """

    name: str
    title: str
    source: EventSource
    receiving: Receiving
    verify: Verify | None
    secrets: Sequence[str] = field(repr=False)
    known: Mapping[str, Any] = field(repr=False)
    subscriber: Subscriber | None = None

    @property
    def declared_global(self) -> GlobalWebhook | None:
        """The global webhook, if it's the URL of one."""
        return self.receiving if isinstance(self.receiving, GlobalWebhook) else None
