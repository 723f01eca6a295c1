"""How a user answers a connection request: chooses, types in, goes to the app and comes back.

An answer takes effect once: attempts at one request follow one another, and the first that ends in
a connection is the last.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from membrane_sync.connections.forms import FormField, form_fields, read_form
from membrane_sync.connections.requests import (
    Host,
    existing_connection,
    hashed,
    with_credentials,
)
from membrane_sync.elements.authentication import AuthenticationOption
from membrane_sync.errors import (
    Fatal,
    LockTimeout,
    MembraneError,
    NotAuthorized,
    RateLimited,
    Retryable,
)
from membrane_sync.ports import ConnectionRecord, ConnectionRequest, Issued
from membrane_sync.project.authentication import Access
from membrane_sync.project.inputs import fit

CALLBACK_PATH = "/oauth/callback"
STATE_SECONDS = 600.0
"""How long a user may stay at the app's own page."""
ATTEMPT_SECONDS = 300.0
"""How long others wait for an attempt whose process has died; a live one is done long before."""
PERIOD_SECONDS = 600
ATTEMPTS_PER_REQUEST = 10
ATTEMPTS_PER_ADDRESS = 60
"""How many attempts a period allows at one request, and from one address."""


@dataclass(frozen=True)
class Choice:
    """A way to authenticate that the user may choose, with the fields to fill in for it."""

    key: str
    title: str
    description: str
    in_browser: bool
    input: list[FormField]
    credentials: list[FormField]


@dataclass(frozen=True)
class Visitor:
    """Whoever answers: a secret of the browser's, and the address it comes from."""

    browser: str = field(repr=False)
    address: str


@dataclass(frozen=True)
class Answered:
    """What came of an attempt: go to a `url`, mend what is `wrong`, or the request has ended."""

    url: str = ""
    wrong: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CameBack:
    """A user who is back from the app: the link's token, and the error if there was one."""

    request: ConnectionRequest
    token: str = field(repr=False)
    option: str
    error: MembraneError | None = None


class Declined(NotAuthorized):
    """The user, or the app, did not give the permission."""

    code = "access_denied"


def choices(host: Host, request: ConnectionRequest) -> list[Choice]:
    """The ways to answer a request, in the connector's order; of a product's choice, only that."""
    connector = host.project.connector(request.integration)
    given = form_fields(connector.input_schema)
    existing = existing_connection(host, request)
    missing = [one for one in given if one.name not in request.input]
    # One that's reconnected stays as it is; what could not be kept of it has to be given again.
    asked = [one for one in missing if one.required] if existing else missing
    return [
        _choice(access, asked)
        for access in host.accesses(request.integration)
        if request.option in ("", access.option) and not _by_device_alone(access.authentication)
    ]


@dataclass(frozen=True)
class Answering:
    """Carries out what a visitor does about a request; `now` is replaced in tests."""

    host: Host
    now: Callable[[], float] = time.time

    def submit(
        self,
        request: ConnectionRequest,
        token: str,
        choice: Choice,
        typed: Mapping[str, str],
        visitor: Visitor,
    ) -> Answered:
        """Try what was typed in as `input.<name>` and `credentials.<name>`, or begin at the app.

        Raises what the app has against it; the request is open for another attempt then.
        """
        input, secret, wrong = _read(choice, typed)
        if wrong:
            return Answered(wrong=wrong)
        self._count(request, visitor)
        self._claim(request, visitor)
        known = {**request.input, **input}
        kept = {"token": token, "option": choice.key, "input": known, "credentials": secret}
        return self._try(request, lambda: self._begin(request, kept))

    def come_back(self, answer: Mapping[str, str], visitor: Visitor) -> CameBack:
        """The user is back from the app with the callback's query.

        Raises NotAuthorized where the state is unknown, overdue, used, or another browser's.
        """
        now, browser = self.now(), hashed(visitor.browser)
        state = hashed(answer.get("state", ""))
        found = self.host.requests.take_back(state, browser, now, ATTEMPT_SECONDS)
        if found is None:
            raise NotAuthorized("this was not begun here, is finished already, or took too long")
        request, kept = found
        try:
            self._try(request, lambda: self._finish(request, kept, answer))
        except MembraneError as error:
            return CameBack(request, kept["token"], kept["option"], error)
        return CameBack(request, kept["token"], kept["option"])

    def cancel(self, request: ConnectionRequest, visitor: Visitor) -> None:
        """End the request without a connection; raises LockTimeout while an attempt goes on."""
        self._claim(request, visitor)
        self.host.requests.settle(request.id, "cancelled", "cancelled")

    def _claim(self, request: ConnectionRequest, visitor: Visitor) -> None:
        now, browser = self.now(), hashed(visitor.browser)
        if not self.host.requests.claim(request.id, browser, now, ATTEMPT_SECONDS):
            raise LockTimeout(
                "another attempt at this is still going on", hint="wait a minute, and try again"
            )

    def _try(self, request: ConnectionRequest, attempt: Callable[[], Answered]) -> Answered:
        """The attempt; one that fails leaves the request open."""
        try:
            return attempt()
        except MembraneError as error:
            self.host.requests.release(request.id, error.code)
            raise
        except BaseException:
            self.host.requests.release(request.id, "failed")
            raise

    def _begin(self, request: ConnectionRequest, kept: Mapping[str, Any]) -> Answered:
        authenticator = self.host.authenticator(request.integration, kept["option"], kept["input"])
        if not authenticator.needs_browser:
            return self._connect(request, kept, authenticator.issue(kept["credentials"]))
        state, back = secrets.token_urlsafe(32), callback_url(self.host, request.integration)
        authorization = authenticator.begin(back, state, kept["credentials"])
        if not authorization.url.startswith(("https://", "http://")):
            raise Fatal(f"integration {request.integration!r}: authorize_url is no web address")
        until = self.now() + STATE_SECONDS
        away = {**kept, "kept": dict(authorization.kept)}
        self.host.requests.send_off(request.id, hashed(state), until, away)
        return Answered(url=authorization.url)

    def _finish(
        self, request: ConnectionRequest, kept: Mapping[str, Any], answer: Mapping[str, str]
    ) -> Answered:
        if "error" in answer or "denied" in answer:
            raise _refusal(answer.get("error", "access_denied"))
        authenticator = self.host.authenticator(request.integration, kept["option"], kept["input"])
        back = callback_url(self.host, request.integration)
        issued = authenticator.finish(answer, back, kept["kept"])
        return self._connect(request, kept, issued)

    def _connect(
        self, request: ConnectionRequest, kept: Mapping[str, Any], issued: Issued
    ) -> Answered:
        there = existing_connection(self.host, request)
        plain = ConnectionRecord(request.connection, request.integration, request.tenant)
        record = replace(
            with_credentials(there or plain, issued, self.now()),
            name=request.name or (there.name if there else ""),
            input=kept["input"],
            option=kept["option"],
        )
        self.host.register(replace(record, account=self.host.prove(record)))
        self.host.requests.settle(request.id, "success")
        return Answered()

    def _count(self, request: ConnectionRequest, visitor: Visitor) -> None:
        """Raise RateLimited if there were too many attempts of late."""
        now = self.now()
        period = int(now // PERIOD_SECONDS)
        for subject, most in (
            (f"request:{request.id}", ATTEMPTS_PER_REQUEST),
            (f"address:{visitor.address}", ATTEMPTS_PER_ADDRESS),
        ):
            if self.host.requests.attempts(hashed(subject), period) > most:
                left = (period + 1) * PERIOD_SECONDS - now
                raise RateLimited("there were too many attempts", retry_after=left)


def callback_url(host: Host, integration: str) -> str:
    """Where the app sends users back to: the integration's own address, or this server's."""
    own = host.project.integration(integration).oauth_callback_url
    return own or host.settings.connect.public_url + CALLBACK_PATH


def _choice(access: Access, asked: list[FormField]) -> Choice:
    key, authentication, app = access.option, access.authentication, access.connector.title
    in_browser = _in_browser(authentication)
    title = authentication.title or (f"Sign in to {app}" if in_browser else "")
    return Choice(
        key=key,
        title=title or key.replace("_", " ").capitalize() or f"Connect {app}",
        description=authentication.description or "",
        in_browser=in_browser,
        input=asked,
        credentials=form_fields(authentication.input_schema, secret=True),
    )


def _in_browser(authentication: AuthenticationOption) -> bool:
    oauth2 = authentication.oauth2
    by_code = oauth2 is not None and oauth2.grant == "authorization_code"
    return authentication.type == "oauth1" or (authentication.type == "oauth2" and by_code)


def _by_device_alone(authentication: AuthenticationOption) -> bool:
    """Whether a code has to be typed in elsewhere: that takes a terminal."""
    oauth2 = authentication.oauth2
    return oauth2 is not None and oauth2.grant == "device_code"


def _read(
    choice: Choice, typed: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What was typed in as input and as credentials, and what is wrong by the form's names."""
    wrong: dict[str, str] = {}
    parts: dict[str, dict[str, Any]] = {}
    for part, fields in (("input", choice.input), ("credentials", choice.credentials)):
        values, misread = read_form(fields, _below(part, typed))
        schema = {"properties": {one.name: one.schema for one in fields}}
        # The same rules as for what comes by the API or from a terminal.
        parts[part], misfits = fit(schema, values)
        said = {name: f"This {why}." for name, why in misfits.items()} | misread
        wrong |= {f"{part}.{name}": why for name, why in said.items()}
    return parts["input"], parts["credentials"], wrong


def _below(prefix: str, typed: Mapping[str, str]) -> dict[str, str]:
    """The fields of one part of the form, by the schema's names."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in typed.items() if name.startswith(start)}


def _refusal(error: str) -> MembraneError:
    if error == "access_denied":
        return Declined("the permission was not given")
    if error in ("temporarily_unavailable", "server_error"):
        return Retryable("the app can't do this now")
    return Fatal(f"the app refused to begin: {error[:100]!r}", hint="look at the integration")
