"""What a declaration says of webhooks: how they're taken in, and how the app comes to send them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from membrane_sync.elements.base import Formula, Locator, RefersTo, Spec, Template
from membrane_sync.elements.request import Request

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


class Existing(Request):
    """A list of the subscriptions that the app has, to find those that send to one of our URLs."""

    subscriptions: Locator = Field(default="$.body", description="Where the list is")
    url: Locator = Field(default="$.url", description="Where one of them says its URL")


class Subscribing(Receiving):
    """How the app comes to send webhooks, for how long, and what they hold.

    Formulas of requests see `$.webhook_url`, `$.secret`, `$.input` and `$.parameters`; `$.state`
    once the app was subscribed to; `$.expires_at` where `lifetime_seconds` says for how long.
    """

    subscribe: Request | None = None
    unsubscribe: Request | None = None
    refresh: Request | None = Field(
        default=None, description="Puts off the end; without one it's subscribed to anew"
    )
    existing: Existing | None = Field(
        default=None, description="Finds what was subscribed to and never noted, after a crash"
    )
    state: Formula = Field(default=None, description="What to keep, over the answer's $.body")
    expires_at: Formula = Field(
        default=None, description="When it ends by itself, over the answer's $.body"
    )
    lifetime_seconds: float | None = Field(
        default=None, gt=0, description="For how long to ask, where the app wants to be told"
    )
    refresh_before_seconds: float = Field(
        default=3600, gt=0, description="How long before its end it's renewed"
    )
    handle: Formula = None
    global_webhook: Annotated[str, RefersTo("global_webhook")] | None = Field(
        default=None, description="The product's URL by which events come, instead of an own one"
    )
    selector: Formula = Field(
        default=None, description="What a global webhook finds it by; sees $.credentials too"
    )
