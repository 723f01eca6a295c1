"""What may be declared and is not carried out by this version yet, said before it's missed.

A declaration that would be ignored in silence loses data; so what a sync relies on is an error, and
elements that only wait for their verbs are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator

from membrane_sync.elements import Element
from membrane_sync.elements.connection import Connection
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.integration import Integration
from membrane_sync.elements.sync import Sync
from membrane_sync.project.located import Steps

WAITING_KINDS = ("action", "flow", "internal_event", "external_event", "global_webhook")
"""Kinds that are checked and not yet carried out."""

RUNNABLE_AUTHENTICATION = ("none", "basic", "bearer", "api_key")


def unsupported(element: Element) -> Iterator[tuple[Steps, str]]:
    """Where and what: everything in the element that a sync relies on and can't have yet."""
    if isinstance(element, Connector):
        yield from _connector(element)
    elif isinstance(element, Sync) and element.direction != "import":
        yield ("direction",), f"direction {element.direction!r} is not supported yet; use import"


def without_effect(element: Element) -> Iterator[tuple[Steps, str]]:
    """Where and what: keys that are set and change nothing yet, though a sync is right without."""
    for model, keys in _WITHOUT_EFFECT.items():
        if isinstance(element, model):
            for key, message in keys.items():
                if key in element.model_fields_set:
                    yield (key,), message
    if isinstance(element, Connector) and "enabled" in element.authentication.model_fields_set:
        yield ("authentication", "enabled"), f"enabled {_NOT_YET}"


_NOT_YET = "has no effect yet"

_WITHOUT_EFFECT: dict[type[Element], dict[str, str]] = {
    DataCollection: {"events": f"events {_NOT_YET}; the collection is polled"},
    Integration: {
        "authentication_options": f"authentication_options {_NOT_YET}",
        "oauth_callback_url": f"oauth_callback_url {_NOT_YET}",
        "connector_version": f"connector_version {_NOT_YET}",
    },
    Connection: {
        "input": f"input {_NOT_YET} in a file; give it to membrane connect",
        "authentication_option": f"authentication_option {_NOT_YET}",
    },
}


def _connector(connector: Connector) -> Iterator[tuple[Steps, str]]:
    kind = connector.authentication.type
    if kind not in RUNNABLE_AUTHENTICATION:
        runnable = ", ".join(RUNNABLE_AUTHENTICATION)
        yield ("authentication", "type"), f"{kind!r} is not supported yet; use one of {runnable}"
    if connector.authentication.options:
        yield ("authentication", "options"), "a choice of authentications is not supported yet"
