"""Which subscriptions a connection needs for its syncs, and by what declaration each is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from membrane_sync.elements.data_collection import CollectionEvent, DataCollection
from membrane_sync.elements.external_event import ExternalEvent
from membrane_sync.elements.webhook import Subscribing
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.hooks import HOOKS, Hooks
from membrane_sync.project.project import Project
from membrane_sync.project.resolved_sync import ResolvedSync
from membrane_sync.sync.rendering import Functions

CHANGES = ("all", "created", "updated", "deleted")
"""What a collection declares events for; `all` where one subscription brings everything."""

Config = dict[str, Any]

_WHAT = ("kind", "collection", "stream", "change", "event", "parameters")
"""What of a config tells one subscription from another."""


@dataclass(frozen=True)
class Wanted:
    """One subscription as it's declared: `scope` is what its formulas see of the connection.

    `app` is the connector's key, and `base_url` its formula; `functions` are those of its hooks.py.
    """

    config: Config
    declaration: Subscribing
    scope: Mapping[str, Any]
    app: str
    base_url: Any = None
    functions: Functions = field(default_factory=dict, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The same for what one subscription serves."""
        return identity(self.config)

    def version(self, webhook_url: str) -> str:
        """Hash of what the app is told; with another one it has to be told anew."""
        told = self.declaration.model_dump(
            mode="json", include={"subscribe", "global_webhook", "selector", "lifetime_seconds"}
        )
        if self.declaration.gives_secret:  # One that was made otherwise can't be verified.
            told["gives_secret"] = True
        return _hash([told, webhook_url, self.scope])


def identity(config: Mapping[str, Any]) -> str:
    """The same for what one subscription serves, however many want it."""
    return _hash({name: config[name] for name in _WHAT if name in config})


def wanted(
    project: Project, connection: ConnectionRecord, syncs: Sequence[ResolvedSync]
) -> list[Wanted]:
    """The subscriptions that these syncs of a connection need, each once."""
    configs = {
        identity(config): config
        for sync in syncs
        for config in (*_of_records(sync), *_of_triggers(sync))
    }
    found = (declared(project, connection, config) for config in configs.values())
    return [one for one in found if one is not None]


def needs_some(syncs: Sequence[ResolvedSync]) -> bool:
    """Whether any connection could need a subscription for these syncs."""
    return any((*_of_records(sync), *_of_triggers(sync)) for sync in syncs)


def declared(
    project: Project, connection: ConnectionRecord, config: Mapping[str, Any]
) -> Wanted | None:
    """By what declaration such a subscription is made; None if there's no such any more."""
    integration = connection.integration
    if integration not in project.integrations:
        return None
    declaration = _declaration(project, integration, config)
    if declaration is None:
        return None
    connector = project.connector(integration)
    parameters = {**project.integration(integration).parameters, **config["parameters"]}
    return Wanted(
        config=dict(config),
        declaration=declaration,
        scope={"input": dict(connection.input), "parameters": parameters},
        app=connector.key,
        base_url=connector.base_url,
        functions=Hooks(project.root / "connectors" / connector.key / HOOKS),
    )


def covered(configs: Iterable[Mapping[str, Any]]) -> set[str]:
    """The streams of which these subscriptions tell every new record and every change."""
    told: dict[str, set[str]] = {}
    for config in configs:
        if config["kind"] == "record":
            told.setdefault(config["stream"], set()).add(config["change"])
    return {s for s, changes in told.items() if "all" in changes or changes >= _WRITES}


_WRITES = {"created", "updated"}


def events_of(collection: DataCollection) -> dict[str, CollectionEvent]:
    """What the collection declares of events, by what happened."""
    found = {change: getattr(collection.events, change) for change in CHANGES}
    return {change: event for change, event in found.items() if event is not None}


def _of_records(sync: ResolvedSync) -> Iterable[Config]:
    extends = sync.collection.extends
    parameters = sync.source.collection_parameters
    for change, event in events_of(sync.collection).items():
        if event.type in ("webhook", "connector_event"):
            yield {
                "kind": "record",
                "collection": sync.collection.key,
                "parameters": {**(extends.parameters if extends else {}), **parameters},
                "stream": sync.stream,
                "change": change,
            }


def _of_triggers(sync: ResolvedSync) -> Iterable[Config]:
    for trigger in sync.sync.triggers:
        if trigger.external_event is not None:
            yield {"kind": "external", "event": trigger.external_event, "parameters": {}}


def _declaration(
    project: Project, integration: str, config: Mapping[str, Any]
) -> Subscribing | None:
    """A collection's own event, or the connector's that tells of its records too."""
    event = config.get("event")
    if config["kind"] == "record":
        found = project.find("data_collection", config["collection"], integration=integration)
        own = events_of(cast(DataCollection, found)).get(config["change"]) if found else None
        if own is None or own.type == "webhook":
            return own
        event = own.event if own.type == "connector_event" else None
    if event is None:
        return None
    return cast(
        "ExternalEvent | None", project.find("external_event", event, integration=integration)
    )


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
