"""External event: something changed over there, and how to hear of it.

Taken in by `events/receive.py`, subscribed to by `events/subscribing.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from membrane_sync.elements.base import Element, Schema
from membrane_sync.elements.webhook import Subscribing


class ExternalEvent(Element, Subscribing):
    """An event of the connector itself, not of one collection; `handle` gives one, or a list."""

    type: Literal["webhook", "global_webhook"] = "webhook"
    payload_schema: Schema = Field(default_factory=dict)
    parameters_schema: Schema = Field(default_factory=dict)
