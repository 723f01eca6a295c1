"""External event: something changed over there, and how to hear of it.

Taken in by `events/receive.py`, subscribed to by `events/subscribing.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from membrane_sync.elements.base import Element, Formula, RefersTo, Schema
from membrane_sync.elements.request import Request
from membrane_sync.elements.webhook import Receiving


class ExternalEvent(Element, Receiving):
    """An event of the connector itself, not of one collection."""

    type: Literal["webhook", "global_webhook"] = "webhook"
    payload_schema: Schema = Field(default_factory=dict)
    parameters_schema: Schema = Field(default_factory=dict)
    subscribe: Request | None = None
    unsubscribe: Request | None = None
    refresh: Request | None = None
    refresh_before_seconds: float = Field(default=3600, gt=0)
    handle: Formula = Field(default=None, description="The events, over $.body and $.headers")
    global_webhook: Annotated[str, RefersTo("global_webhook")] | None = None
    selector: Formula = Field(default=None, description="Finds this connection's events")
