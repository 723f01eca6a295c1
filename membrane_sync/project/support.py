"""What may be declared and is not carried out by this version yet, said before it's missed.

A declaration that would be ignored in silence loses data; so what a sync relies on is an error, and
elements that only wait for their verbs are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator

from membrane_sync.elements import Element
from membrane_sync.elements.connection import Connection
from membrane_sync.elements.integration import Integration
from membrane_sync.elements.sync import Sync
from membrane_sync.project.located import Steps

WAITING_KINDS = ("action", "flow")
"""Kinds that are checked and not yet carried out."""


def unsupported(element: Element) -> Iterator[tuple[Steps, str]]:
    """Where and what: everything in the element that a sync relies on and can't have yet."""
    if isinstance(element, Sync) and element.direction != "import":
        yield ("direction",), f"direction {element.direction!r} is not supported yet; use import"


def without_effect(element: Element) -> Iterator[tuple[Steps, str]]:
    """Where and what: keys that are set and change nothing yet, though a sync is right without."""
    for model, keys in _WITHOUT_EFFECT.items():
        if isinstance(element, model):
            for key, message in keys.items():
                if key in element.model_fields_set:
                    yield (key,), message


_NOT_YET = "has no effect yet"

_WITHOUT_EFFECT: dict[type[Element], dict[str, str]] = {
    Integration: {
        "connector_version": f"connector_version {_NOT_YET}",
    },
    Connection: {
        "input": f"input {_NOT_YET} in a file; give it to membrane connect",
    },
}
