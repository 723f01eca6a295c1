"""Global webhook: one product-level URL per app, from which payloads find their connections.

Taken in by `events/receive.py`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from membrane_sync.elements.base import Element, Formula, Unfit
from membrane_sync.elements.webhook import Receiving


class GlobalWebhook(Element, Receiving):
    """One URL for all tenants' events of an app."""

    events: Formula = Field(description="A list of {selector, payload}, over $.body and $.headers")

    @model_validator(mode="after")
    def _has_its_own_secret(self) -> GlobalWebhook:
        signature = self.signature
        if signature is not None and signature.secret is None:
            message = "the signature of a global webhook needs secret, over $.parameters"
            raise Unfit((("signature",), message))
        if self.gives_secret:
            message = "one URL has one secret: nobody could tell which tenant's app gave it"
            raise Unfit((("challenge", "secret"), message))
        return self
