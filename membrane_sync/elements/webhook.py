"""What a declaration says of webhooks that come in, whichever kind of event they bring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from membrane_sync.elements.base import Formula, Spec, Template

DAY = 86_400.0


class Signature(Spec):
    """How the sender proves itself, on the raw bytes of the body.

    `secret` is a formula over `$.parameters` (the integration's), `$.input`, `$.state` and
    `$.secret` (the subscription's own); it may give a list, of which any will do, while one secret
    takes another's place.
    """

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

    status: int = Field(default=200, ge=200, le=299)
    headers: Template = Field(default_factory=dict)
    body: Formula = None


class Challenge(Reply):
    """What a sender asks before it sends events, and its answer; formulas as for webhooks."""

    when: Formula = Field(description="True for a request that is no event but a challenge")


class Receiving(Spec):
    """How a webhook is taken in: formulas see `$.body`, `$.headers`, `$.query` and `$.method`.

    Those of one subscription see its `$.state`, `$.parameters` and `$.input` too. `event_id`,
    `occurred_at` and such are over one event.
    """

    signature: Signature | None = None
    challenge: Challenge | None = None
    reply: Reply = Field(default_factory=Reply)
    event_id: Formula = Field(
        default=None, description="The same whenever the event is sent; by default the body's hash"
    )
    occurred_at: Formula = Field(
        default=None, description="When it happened: a time, or a number of seconds since 1970"
    )
    dedupe_seconds: float = Field(
        default=3 * DAY, ge=0, description="For how long an event that comes again is the same"
    )
    max_body_bytes: int = Field(default=2**20, gt=0)
