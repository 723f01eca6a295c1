"""How a user answers a connection request: chooses, types in, goes to the app and comes back.

An answer takes effect once: attempts at one request follow one another, and the first that ends in
a connection is the last.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from membrane_sync.connections.choices import Choice, read_choice
from membrane_sync.connections.requests import (
    Host,
    existing_connection,
    hashed,
    with_credentials,
)
from membrane_sync.errors import (
    Fatal,
    LockTimeout,
    MembraneError,
    NotAuthorized,
    RateLimited,
    Retryable,
)
from membrane_sync.ports import (
    Authenticator,
    ConnectionRecord,
    ConnectionRequest,
    DeviceCode,
    Issued,
)

CALLBACK_PATH = "/oauth/callback"
STATE_SECONDS = 600.0
"""How long a user may stay at the app's own page."""
LONGEST_CODE_SECONDS = 1800.0
"""How long a code to be entered is asked for at most, whatever the app says."""
ATTEMPT_SECONDS = 300.0
"""How long others wait for an attempt whose process has died; a live one is done long before."""
PERIOD_SECONDS = 600
ATTEMPTS_PER_REQUEST = 10
ATTEMPTS_PER_ADDRESS = 60
"""How many attempts a period allows at one request, and from one address."""


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


@dataclass(frozen=True)
class Looked:
    """How it stands with a code: `code` while it's to be entered yet, or the `error` there was."""

    code: DeviceCode | None = None
    option: str = ""
    error: MembraneError | None = None


class Declined(NotAuthorized):
    """The user, or the app, did not give the permission."""

    code = "access_denied"


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
        input, secret, wrong = read_choice(choice, typed)
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

    def look(self, request: ConnectionRequest, visitor: Visitor) -> Looked:
        """Ask the app whether the code was entered, unless it was asked just before.

        Without a code and an error, there's nothing to be entered any more: the request says why.
        """
        now = self.now()
        kept = self.host.requests.waiting(request.id, hashed(visitor.browser), now)
        if kept is None:
            return Looked()
        code = DeviceCode(**kept["code"])
        if now < kept["next_at"] or not self.host.requests.look(request.id, now, ATTEMPT_SECONDS):
            return Looked(code)
        try:
            self._try(request, lambda: self._poll(request, kept, code))
        except MembraneError as error:
            return Looked(option=kept["option"], error=error)
        waits = self.host.requests.waiting(request.id, hashed(visitor.browser), now) is not None
        return Looked(code if waits else None)

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

    def _authenticator(self, request: ConnectionRequest, kept: Mapping[str, Any]) -> Authenticator:
        names = (request.integration, kept["option"])
        return self.host.apps.authenticator(*names, kept["input"])

    def _begin(self, request: ConnectionRequest, kept: Mapping[str, Any]) -> Answered:
        authenticator = self.host.apps.authenticator(
            request.integration, kept["option"], kept["input"]
        )
        if not authenticator.needs_browser and authenticator.offers_device:
            return self._show_code(request, kept, authenticator.begin_device(kept["credentials"]))
        if not authenticator.needs_browser:
            return self._connect(request, kept, authenticator.issue(kept["credentials"]))
        state, back = secrets.token_urlsafe(32), callback_url(self.host, request.integration)
        authorization = authenticator.begin(back, state, kept["credentials"])
        _check_address(authorization.url, request, "authorize_url")
        until = self.now() + STATE_SECONDS
        away = {**kept, "kept": dict(authorization.kept)}
        self.host.requests.send_off(request.id, hashed(state), until, away)
        return Answered(url=authorization.url)

    def _show_code(
        self, request: ConnectionRequest, kept: Mapping[str, Any], code: DeviceCode
    ) -> Answered:
        _check_address(code.verification_url, request, "the address to enter the code at")
        if code.complete_url:
            _check_address(code.complete_url, request, "the address with the code in it")
        until = self.now() + min(code.expires_in, LONGEST_CODE_SECONDS)
        self._keep_code(request, {**kept, "until": until}, code, code.interval)
        return Answered()

    def _poll(
        self, request: ConnectionRequest, kept: Mapping[str, Any], code: DeviceCode
    ) -> Answered:
        authenticator = self.host.apps.authenticator(
            request.integration, kept["option"], kept["input"]
        )
        try:
            found = authenticator.poll_device(code)
        except Retryable as error:
            # The code is as good as before.
            asked = error.retry_after if isinstance(error, RateLimited) else None
            self._keep_code(request, kept, code, max(2 * code.interval, asked or 0.0))
            return Answered()
        if isinstance(found, Issued):
            return self._connect(request, kept, found)
        self._keep_code(request, kept, replace(code, interval=found), found)
        return Answered()

    def _keep_code(
        self, request: ConnectionRequest, kept: Mapping[str, Any], code: DeviceCode, pause: float
    ) -> None:
        """Keep it for the next look, which is at the app in so many seconds."""
        more = {"code": asdict(code), "next_at": self.now() + pause}
        self.host.requests.show_code(request.id, kept["until"], {**kept, **more})

    def _finish(
        self, request: ConnectionRequest, kept: Mapping[str, Any], answer: Mapping[str, str]
    ) -> Answered:
        if "error" in answer or "denied" in answer:
            raise _refusal(answer.get("error", "access_denied"))
        authenticator = self.host.apps.authenticator(
            request.integration, kept["option"], kept["input"]
        )
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
        self.host.register(replace(record, account=self.host.apps.prove(record)))
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


def _check_address(url: str, request: ConnectionRequest, what: str) -> None:
    """A link of the page must lead to a web page, and run nothing."""
    if not url.startswith(("https://", "http://")):
        raise Fatal(f"integration {request.integration!r}: {what} is no web address")


def callback_url(host: Host, integration: str) -> str:
    """Where the app sends users back to: the integration's own address, or this server's."""
    own = host.project.integration(integration).oauth_callback_url
    return own or host.settings.connect.public_url + CALLBACK_PATH


def _refusal(error: str) -> MembraneError:
    if error == "access_denied":
        return Declined("the permission was not given")
    if error in ("temporarily_unavailable", "server_error"):
        return Retryable("the app can't do this now")
    return Fatal(f"the app refused to begin: {error[:100]!r}", hint="look at the integration")
