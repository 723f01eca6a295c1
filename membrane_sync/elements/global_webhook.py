"""Global webhook: one product-level URL per app, from which payloads find their connections.

Taken in by `events/receive.py`.
"""

from __future__ import annotations

from pydantic import Field

from membrane_sync.elements.base import Element, Formula
from membrane_sync.elements.webhook import Receiving


class GlobalWebhook(Element, Receiving):
    """One URL for all tenants' events of an app."""

    events: Formula = Field(description="A list of {selector, payload}, over $.body and $.headers")
