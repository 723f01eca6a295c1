"""What a declaration says of webhooks: how they're taken in, and how the app comes to send them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import Formula, Locator, RefersTo, Spec, Template, Unfit
from membrane_sync.elements.request import Request, Unmasked

DAY = 86_400.0


Scheme = Literal[
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
    "ecdsa",
    "basic",
    "bearer",
]

PUBLIC_KEYS = ("ed25519", "rsa", "ecdsa")
"""Schemes that need no secret here, but the sender's public key."""

PLACEHOLDER = re.compile(r"\{(body|timestamp|method|url|path|header:[A-Za-z0-9-]+)\}")
"""What a template may name: parts of the request as they came."""


class Signature(Spec):
    """How the sender proves itself, on the raw bytes of the body.

    `secret` is a formula over `$.parameters` (the integration's), `$.input`, `$.state` and
    `$.secret` (the subscription's own, which it is by default); it may give a list, of which any
    will do, while one secret takes another's place.
    """

    scheme: Scheme
    header: str | None = Field(default=None, min_length=1)
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    template: str = Field(default="{body}", description="What is signed, as `{timestamp}.{body}`")
    timestamp_header: str | None = Field(default=None, min_length=1)
    tolerance_seconds: float = Field(default=300, gt=0)
    secret: Formula = None
    secret_encoding: Literal["text", "hex", "base64"] = Field(
        default="text", description="How a secret of `hmac` is written"
    )
    padding: Literal["pkcs1v15", "pss"] = Field(default="pkcs1v15", description="Of `rsa`")
    token: Formula = Field(
        default=None,
        description="Of `bearer`: the sender's token where it's in no header; all of a list",
    )

    @model_validator(mode="after")
    def _whole(self) -> Signature:
        problems = (*_missing_parts(self), *_template_problems(self))
        if problems:
            raise Unfit(*problems)
        return self


Problems = Iterator[tuple[tuple[str | int, ...], str]]


def _missing_parts(signature: Signature) -> Problems:
    scheme = signature.scheme
    if scheme in ("hmac", *PUBLIC_KEYS) and signature.header is None:
        yield (), f"a signature of scheme {scheme} needs header: the one that holds it"
    if scheme in PUBLIC_KEYS and signature.secret is None:
        yield (), f"a signature of scheme {scheme} needs secret: the sender's public key"
    if signature.token is not None and scheme != "bearer":
        yield ("token",), "token is for the scheme bearer"
    if signature.token is not None and signature.header is not None:
        yield ("token",), "the token is either in a header or what the formula token gives"


def _template_problems(signature: Signature) -> Problems:
    if signature.scheme not in ("hmac", *PUBLIC_KEYS):
        return
    named = PLACEHOLDER.findall(signature.template)
    left = PLACEHOLDER.sub("", signature.template)
    if "{" in left or "}" in left:
        known = "{body}, {timestamp}, {method}, {url}, {path} and {header:Name}"
        yield ("template",), f"template has a name that is none; there are {known}"
    elif "body" not in named:
        yield ("template",), "template leaves out {body}: anybody could change what isn't signed"
    elif "timestamp" in named and signature.timestamp_header is None:
        yield ("template",), "template has {timestamp}, which needs timestamp_header"
    elif "timestamp" not in named and signature.timestamp_header is not None:
        message = "timestamp_header proves nothing unless template has {timestamp}"
        yield ("timestamp_header",), message


class Reply(Spec):
    """What the sender wants to hear."""

    status: int = Field(default=200, ge=200, le=299)
    headers: Template = Field(default_factory=dict)
    body: Formula = None


class Challenge(Reply):
    """What a sender asks before it sends events, and its answer.

    Formulas see what those of webhooks see, and what the signature's `secret` sees. By one with a
    `secret`, the app gives its own: it's taken while the app is being subscribed to, once.
    """

    when: Formula = Field(description="True for a request that is no event but a challenge")
    signed: bool = Field(
        default=True, description="False for a sender that asks without its signature"
    )
    secret: Formula = Field(
        default=None, description="The secret that the app made up, and signs by from then on"
    )

    @model_validator(mode="after")
    def _comes_first(self) -> Challenge:
        if self.secret is not None and self.signed:
            message = "nothing is signed before its secret is known: add signed: false"
            raise Unfit((("secret",), message))
        return self


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

    @property
    def gives_secret(self) -> bool:
        """Whether the app makes up the secret, and tells it by a challenge."""
        return self.challenge is not None and self.challenge.secret is not None

    @model_validator(mode="after")
    def _secret_is_used(self) -> Receiving:
        if self.gives_secret and self.signature is None:
            message = "a challenge's secret is of no use without signature"
            raise Unfit((("challenge", "secret"), message))
        return self


class Existing(Request):
    """A list of the subscriptions that the app has, to find those that send to one of our URLs."""

    subscriptions: Locator = Field(default="$.body", description="Where the list is")
    url: Locator = Field(default="$.url", description="Where one of them says its URL")


class Subscribing(Receiving):
    """How the app comes to send webhooks, for how long, and what they hold.

    Formulas of requests see `$.webhook_url`, `$.secret`, `$.input` and `$.parameters`; `$.state`
    once the app was subscribed to; `$.expires_at` where `lifetime_seconds` says for how long.
    """

    subscribe: Unmasked[Request] = None
    unsubscribe: Unmasked[Request] = None
    refresh: Unmasked[Request] = Field(
        default=None, description="Puts off the end; without one it's subscribed to anew"
    )
    existing: Unmasked[Existing] = Field(
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
