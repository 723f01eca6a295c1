"""Events: how they come in, who hears of them, and how they take effect once more."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property

from membrane_sync.bootstrap.apps import INTERACTIVE_SECONDS, Apps
from membrane_sync.bootstrap.stores import Stores
from membrane_sync.bootstrap.syncs import Syncs
from membrane_sync.clients.api import HttpApi
from membrane_sync.clients.product import HttpProduct
from membrane_sync.elements.internal_event import Outbox
from membrane_sync.errors import MembraneError, NotConnected, NotFound
from membrane_sync.events.checkups import Keeper, Looked
from membrane_sync.events.intake import Intake
from membrane_sync.events.internal import InternalEvents
from membrane_sync.events.outbox import Outboxes, Reading
from membrane_sync.events.product import ProductSubscriber
from membrane_sync.events.recipients import Recipients
from membrane_sync.events.replay import Replay, WebhookReplay
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.stores.sql_outbox import SqlOutbox

log = logging.getLogger("membrane_sync.events")

CONNECTIONS_A_QUERY = 500

ROWS_A_READING = 1_000
"""Rows of one outbox that are put into the inbox in one transaction."""


class Events:
    """Webhooks, internal events, outboxes and subscriptions of a project."""

    def __init__(self, project: Project, stores: Stores, syncs: Syncs, apps: Apps) -> None:
        self._project = project
        self._ledger = stores.ledger
        self._syncs = syncs
        self._apps = apps

    def close(self) -> None:
        """Give back the connections to outboxes."""
        if "outboxes" in self.__dict__:
            self.outboxes.close()

    @cached_property
    def intake(self) -> Intake:
        """Takes in webhooks, into the ledger's inbox."""
        ledger = self._ledger
        recipients = Recipients(self._project, ledger.subscriptions, ledger.connection)
        return Intake(recipients, ledger.inbox)

    @cached_property
    def internal(self) -> InternalEvents:
        """What the product tells of."""
        return InternalEvents(self._project, self._ledger.inbox, self.listeners)

    @cached_property
    def outboxes(self) -> Outboxes:
        """The tables that the product writes its events to."""

        def opened(outbox: Outbox, event: str) -> SqlOutbox:
            return SqlOutbox(self._project.settings.databases[outbox.database], outbox, event)

        return Outboxes(self._project, self._ledger.inbox, self.internal, opened)

    def read_outboxes(self, limit: int = ROWS_A_READING) -> Sequence[Reading]:
        """Put the next rows of each outbox into the inbox; again at once where there are `more`."""
        return self.outboxes.read(limit)

    def replay(self, tenant: str | None = None) -> Replay:
        """Lets events of a tenant's, or with None of anybody's, take effect once more."""
        return Replay(self._ledger.event_log(tenant), self.internal)

    @property
    def webhook_replay(self) -> WebhookReplay:
        """Takes in webhooks that were kept once more."""
        return WebhookReplay(self._ledger.webhooks, self.intake, self._ledger.inbox)

    def forget_events(self) -> Mapping[str, int]:
        """Delete webhooks and events as old as the settings say; gives how many of each."""
        days = timedelta(days=self._project.settings.keep_events_days)
        return self._ledger.forget_events(datetime.now(UTC) - days)

    def listeners(self, tenant: str, event: str) -> list[str]:
        """The tenant's connections with a sync that an internal event makes run.

        One that rests is among them: its events wait.
        """
        found, after = [], ""
        ledger = self._ledger.for_tenant(tenant)
        while page := ledger.connections(after, CONNECTIONS_A_QUERY):
            found += [c.key for c in page if c.status != "archived" and self._asks(c, event)]
            after = page[-1].key
        return found

    def _asks(self, connection: ConnectionRecord, event: str) -> bool:
        try:
            syncs = self._syncs.of(connection)
        except NotFound:
            return False
        except MembraneError:
            return True  # It can't be said now, and to ask later is better than to lose it.
        triggers = (trigger for sync in syncs for trigger in sync.sync.triggers)
        return any(trigger.internal_event == event for trigger in triggers)

    @cached_property
    def subscriptions(self) -> Keeper:
        """Looks after what apps are to tell of events."""

        def open_api(connection: ConnectionRecord) -> HttpApi:
            return self._apps.api(connection, longest_wait=INTERACTIVE_SECONDS)

        url = self._project.settings.connect.public_url
        return Keeper(self._ledger, self._project, url, self._syncs.of, open_api)

    def reconcile_subscriptions(self, most: int = 200) -> Sequence[Looked]:
        """Make, renew and remove subscriptions of up to so many connections that may need it.

        The product is asked to tell of its events for their tenants, too.
        """
        looked = self.subscriptions.due(most)
        tenants = []
        for one in looked:
            with suppress(NotConnected):
                tenants.append(self._ledger.known(one.connection).tenant)
        for (tenant, event), error in self.product_subscriber.reconcile(tenants).items():
            log.warning("internal event %s of tenant %s: %s", event, tenant, error)
        return looked

    @cached_property
    def product_subscriber(self) -> ProductSubscriber:
        """Asks the product to tell of internal events."""
        server = self._project.settings.server
        return ProductSubscriber(
            self._project,
            self._ledger.product_subscriptions,
            HttpProduct(server.workspace_key, next(iter(server.workspace_secrets), "")),
            self.listeners,
            self._ledger.tenants,
            self._project.settings.connect.public_url,
        )
