"""The external app over HTTP: authentication, patience, and plain words for what goes wrong.

Keeps to the declared quotas and to what the app's headers say of them. Waits and repeats for rate
limits, server errors and broken connections, with exponential backoff and jitter, up to a
deadline. Credentials only ever go to the connector's own host.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from membrane_sync.clients.address import Address, evaluated
from membrane_sync.clients.authentication import auth_flow
from membrane_sync.clients.authentication.certificate import tls_of
from membrane_sync.clients.authentication.values import Functions
from membrane_sync.clients.concurrency import Concurrency
from membrane_sync.clients.hosts import Hosts
from membrane_sync.clients.json_text import cut_plain, is_plain, read_json
from membrane_sync.clients.judge import LONGEST_HEEDED_SECONDS, Judge
from membrane_sync.clients.live import Signed, Signer
from membrane_sync.clients.pacing import Pacer, Pauses, shared_quotas
from membrane_sync.clients.rate_headers import RateStatus, rate_status, retry_after
from membrane_sync.clients.raw import send_raw
from membrane_sync.clients.retrying import patiently, retrying
from membrane_sync.clients.transport import http_client
from membrane_sync.clients.unpacking import whole
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.sensitive import sensitive_values
from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    RateLimited,
    Unauthenticated,
    UnexpectedAnswer,
)
from membrane_sync.masking import passwords
from membrane_sync.ports import ConnectionRecord, LiveCredentials, Party, Priority, Quotas
from membrane_sync.records import Answer, Call, RawAnswer, RawRequest

DEADLINE_SECONDS = 300.0


class HttpApi:
    """Implements `ports.Api` for one connection; many threads may send at once.

    `live` are its credentials as they are refreshed; without it, the connection's are used as they
    are. What the app says of them is told to `live`: that they work, are refused, or are defunct.
    `quotas` shares with other processes the connector's `rate_limits`, which aren't kept to without
    it, and that the app asked to wait. `concurrency` may be one for several connections. A wait of
    more than `longest_wait` seconds is not begun, but raised as RateLimited. With `hosts`, no
    others are called.
    """

    def __init__(
        self,
        connector: Connector,
        connection: ConnectionRecord,
        parameters: Mapping[str, Any] | None = None,
        *,
        functions: Functions | None = None,
        live: LiveCredentials | None = None,
        quotas: Quotas | None = None,
        priority: Priority = "bulk",
        concurrency: Concurrency | None = None,
        longest_wait: float = DEADLINE_SECONDS,
        hosts: Hosts | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests = 0
        self.skipped = 0
        self.quota_left: int | None = None
        self._connector = connector
        scope = {"input": dict(connection.input), "parameters": dict(parameters or {})}
        self._address = Address(connector, scope)
        credentials = dict(connection.credentials)
        self._signer = Signer(
            connector.key,
            connection,
            live,
            lambda now: auth_flow(connector.authentication, now, scope, functions),
            _secrets_of(connector, connection.input, parameters or {}),
        )
        self._judge = Judge(connector, connection, self._signer, self._hold)
        self._client = http_client(
            {name: str(v) for name, v in evaluated(connector.headers, scope).items()},
            timeout_seconds=connector.timeout_seconds,
            transport=transport,
            verify=tls_of(connector.authentication, {**scope, "credentials": credentials}),
            hosts=hosts,
        )
        self._sleep, self._clock = sleep or time.sleep, clock
        self._longest_wait = longest_wait
        self._retrying = retrying(longest_wait, sleep)
        self._concurrency = concurrency or Concurrency()
        self._pacer: Pacer | Pauses | None = None
        if quotas is not None and not connector.rate_limits:
            self._pacer = Pauses(quotas, connection, longest_wait=longest_wait, sleep=self._sleep)
        elif quotas is not None:
            self._pacer = Pacer(
                quotas,
                shared_quotas(connector, connection),
                Party(connection.tenant, priority),
                longest_wait=longest_wait,
                sleep=self._sleep,
                clock=clock,
            )
        self._held_until = 0.0
        self._counting = threading.Lock()

    def close(self) -> None:
        if self._pacer is not None:
            self._pacer.close()
        self._client.close()

    def send(self, call: Call) -> Answer:
        url = self._address.url(call.url, call.query)
        try:
            return patiently(self._retrying, self._attempt, call, url)
        except _Refused as refused:
            if not patiently(self._retrying, self._signer.live.refresh, refused.version):
                self._signer.live.refused(refused.version, refused.message)
                raise
        try:
            return patiently(self._retrying, self._attempt, call, url)
        except _Refused as again:
            self._signer.live.refused(again.version, again.message)
            raise

    def exchange(self, request: RawRequest) -> RawAnswer:
        """Send a request as somebody else wrote it; the answer as it is, whatever it says.

        Quotas are kept to; nothing is repeated, unless the credentials had expired. Raises Rejected
        for what isn't the connector's to be asked, RateLimited, AppUnavailable.
        """
        url = self._address.exact(request.path, request.query)
        signed = self._signer.now()
        answer = self._exchange_once(request, url, signed)
        if answer.status == 401 and self._signer.live.refresh(signed.version):
            answer.close()
            answer = self._exchange_once(request, url, self._signer.now())
        return answer

    def _exchange_once(self, request: RawRequest, url: httpx.URL, signed: Signed) -> RawAnswer:
        self._wait_for_leave()
        with self._counting:
            self.requests += 1
        answer = send_raw(
            self._client,
            request,
            url,
            auth=signed.auth,
            words=signed.words,
            kept=self._connector.headers,
        )
        headers = {name.lower(): value for name, value in answer.headers}
        status = rate_status(headers, self._connector.rate_limit_headers)
        wait = retry_after(headers) if answer.status in (429, 503) else None
        if wait is None and status.remaining == 0:
            wait = status.reset
        if wait:
            self._hold(wait)
        return answer

    def _attempt(self, call: Call, url: httpx.URL) -> Answer:
        signed = self._signer.now()
        with self._concurrency.slot() as began:
            self._wait_for_leave()
            try:
                answer = self._send_once(call, url, signed.auth)
            except _TimedOut:
                self._concurrency.too_much(began)
                raise
            if answer.status in (429, 503):
                self._concurrency.too_much(began)
            else:
                self._concurrency.went_well()
        return self._noted(call, answer, signed.version)

    def _noted(self, call: Call, answer: Answer, version: int) -> Answer:
        """The answer, if it's one to go on with; what it says of the credentials is passed on."""
        try:
            judged = self._judge.judged(call, answer, self._status(answer))
        except Unauthenticated as error:
            raise _Refused(error, version) from None
        except Defunct as error:
            self._signer.live.revoked(version, error.message)
            raise
        if answer.status < 300:
            self._signer.live.accepted()
        if judged.skipped:
            with self._counting:
                self.skipped += 1
        return judged

    def _status(self, answer: Answer) -> RateStatus:
        status = rate_status(answer.headers, self._connector.rate_limit_headers)
        if status.remaining is not None:
            self.quota_left = status.remaining
            if status.remaining == 0 and status.reset:
                self._hold(status.reset)
        return status

    def _wait_for_leave(self) -> None:
        wait = self._held_until - self._clock()
        if wait > self._longest_wait:
            raise RateLimited(
                f"{self._connector.key}: the app takes no request for another {wait:,.0f} s",
                retry_after=wait,
                hint="what was read is kept; the next sync goes on from there",
            )
        if wait > 0:
            self._sleep(wait)
        if self._pacer is not None:
            self._pacer.wait()

    def _hold(self, seconds: float) -> None:
        """Neither this process nor those that share the quotas send for so many seconds."""
        until = self._clock() + min(seconds, LONGEST_HEEDED_SECONDS)
        # Several answers say the same; a second is no news.
        if until > self._held_until + 1:
            self._held_until = until
            if self._pacer is not None:
                self._pacer.hold(seconds)

    def _send_once(self, call: Call, url: httpx.URL, auth: httpx.Auth | None) -> Answer:
        with self._counting:
            self.requests += 1
        try:
            request = self._client.build_request(
                call.method, url, headers=dict(call.headers), json=call.body
            )
            response = self._client.exchange(request, auth)
            content = whole(response)
        except httpx.TimeoutException:
            raise _TimedOut(self._said(call, "gave no answer in time")) from None
        except httpx.HTTPError as error:
            # Of other errors the text may quote what was sent, secrets included.
            reason = str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
            raise AppUnavailable(
                self._said(call, f"can't be reached: {reason}"),
                hint="is the address right, and the app running?",
            ) from None
        except (AppUnavailable, UnexpectedAnswer) as error:
            said = self._said(call, f"failed: {error.message}")
            raise type(error)(said, hint=error.hint) from None
        return self._answer(call, response, content)

    def _answer(self, call: Call, response: httpx.Response, content: bytes) -> Answer:
        headers = dict(response.headers.items())  # their names are in lower case already
        url = _plain_address(response.url)
        called_json = "json" in headers.get("content-type", "json")
        # Some apps call it text or HTML.
        may_be = called_json or content.lstrip()[:1] in (b"{", b"[")
        parts = None
        if content and may_be and response.is_success and call.cut is not None:
            parts = cut_plain(content, call.cut)
        if parts is not None or (content and may_be and is_plain(content)):
            return Answer(
                response.status_code,
                headers,
                url=url,
                content=content,
                read=self._read,
                parts=parts,
            )
        body: Any = httpx.Response(200, headers=headers, content=content).text
        if not content or not called_json:
            return Answer(response.status_code, headers, body, url)
        try:
            body = read_json(content)
        except (AppUnavailable, UnexpectedAnswer) as error:
            if response.is_success:
                raise type(error)(self._said(call, error.message), hint=error.hint) from None
        return Answer(response.status_code, headers, body, url)

    def _read(self, content: bytes) -> Any:
        try:
            return read_json(content)
        except (AppUnavailable, UnexpectedAnswer) as error:
            said = f"{self._connector.key}: {error.message}"
            raise type(error)(said, hint=error.hint) from None

    def _said(self, call: Call, what: str) -> str:
        return self._signer.words.about(call, what)


def _secrets_of(
    connector: Connector, input: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """What no message may hold besides the credentials: an OAuth client's secret, secret input."""
    way = connector.authentication
    return {
        "input": sensitive_values(connector.input_schema, input),
        "addresses": passwords(input),
        "parameters": [
            sensitive_values(schema, parameters)
            for schema in (connector.parameters_schema, way.parameters_schema)
        ],
    }


class _Refused(Unauthenticated):
    """The credentials of this version may only need to be refreshed."""

    def __init__(self, error: Unauthenticated, version: int) -> None:
        super().__init__(error.message, hint=error.hint)
        self.version = version


class _TimedOut(AppUnavailable):
    """No answer in time, which may be a sign of too many requests at once."""


def _plain_address(url: httpx.URL) -> str:
    """Without user, query and fragment; its parts are at hand, while its text is put together."""
    path = url.raw_path.partition(b"?")[0]
    return f"{url.scheme}://{(url.netloc + path).decode('ascii')}"
