"""Global webhook: one product-level URL per app, from which payloads find their connections.

Its behaviour comes with the events verbs; until then it's declared and checked.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from membrane_sync.elements.base import Element, Formula, Spec, Template


class Signature(Spec):
    """How the sender proves itself, on the raw bytes of the body."""

    scheme: Literal[
        "hmac",
        "standard_webhooks",
        "stripe",
        "github",
        "slack",
        "shopify",
        "hubspot",
        "twilio",
        "ed25519",
        "rsa",
        "basic",
        "bearer",
    ]
    header: str | None = None
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    template: str = Field(default="{body}", description="What is signed, as `{timestamp}.{body}`")
    timestamp_header: str | None = None
    tolerance_seconds: float = Field(default=300, gt=0)
    secret: Formula = None


class Reply(Spec):
    """What the sender wants to hear."""

    status: int = 200
    headers: Template = Field(default_factory=dict)
    body: Formula = None


class GlobalWebhook(Element):
    """One URL for all tenants' events of an app."""

    signature: Signature | None = None
    events: Formula = Field(description="A list of {selector, payload}, over $.body and $.headers")
    event_id: Formula = None
    challenge: Reply | None = None
    reply: Reply = Field(default_factory=Reply)
