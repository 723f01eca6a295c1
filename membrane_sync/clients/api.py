"""The external app over HTTP: authentication, patience, and plain words for what goes wrong.

Waits and repeats for rate limits (`Retry-After` in seconds or as a date), server errors and broken
connections, with exponential backoff and jitter, up to a deadline. Credentials only ever go to the
connector's own host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from membrane_sync.clients.authentication import auth_flow
from membrane_sync.clients.json_text import is_plain, read_json
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import (
    AppUnavailable,
    Fatal,
    NotAuthorized,
    RateLimited,
    Retryable,
    UnexpectedAnswer,
)
from membrane_sync.formulas import MISSING, evaluate
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Answer, Call

ATTEMPTS = 6
DEADLINE_SECONDS = 300.0
LONGEST_WAIT_SECONDS = 60.0
SHORTEST_SECRET = 4
"""Characters; to hide shorter ones would make holes in words, and tell what they are."""
AGENT = "membrane-sync"


class HttpApi:
    """Implements `ports.Api` for one connection."""

    def __init__(
        self,
        connector: Connector,
        connection: ConnectionRecord,
        parameters: Mapping[str, Any] | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.requests = 0
        self._connector = connector
        self._connection = connection.key
        self._secrets = _texts_in(connection.credentials)
        scope = {"input": dict(connection.input), "parameters": dict(parameters or {})}
        self._base = _base_url(connector, scope)
        self._query = _evaluated(connector.query, scope)
        self._client = httpx.Client(
            auth=auth_flow(connector.authentication, connection.credentials, scope),
            headers={"User-Agent": AGENT, "Accept": "application/json"}
            | {name: str(v) for name, v in _evaluated(connector.headers, scope).items()},
            timeout=connector.timeout_seconds,
            transport=transport,
        )
        self._sleep = {"sleep": sleep} if sleep is not None else {}

    def close(self) -> None:
        self._client.close()

    def send(self, call: Call) -> Answer:
        url = self._url(call.url)
        retrying: Retrying = Retrying(
            retry=retry_if_exception_type(Retryable),
            stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(DEADLINE_SECONDS),
            wait=_wait,
            reraise=True,
            **self._sleep,  # type: ignore[arg-type]
        )
        return retrying(self._send_once, call, url)

    def _send_once(self, call: Call, url: httpx.URL) -> Answer:
        self.requests += 1
        query = {} if _is_absolute(call.url) else {**self._query, **call.query}
        if query:
            url = url.copy_merge_params({k: _query_value(v) for k, v in query.items()})
        try:
            response = self._client.request(
                call.method, url, headers=dict(call.headers), json=call.body
            )
        except httpx.TimeoutException:
            raise AppUnavailable(self._said(call, "gave no answer in time")) from None
        except httpx.HTTPError as error:
            # Of other errors the text may quote what was sent, secrets included.
            reason = str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
            raise AppUnavailable(
                self._said(call, f"can't be reached: {reason}"),
                hint="is the address right, and the app running?",
            ) from None
        answer = self._answer(call, response)
        self._refuse_errors(call, answer)
        return answer

    def _answer(self, call: Call, response: httpx.Response) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        url = str(response.url.copy_with(query=None, fragment=None, username="", password=""))
        content = response.content
        if not content or "json" not in headers.get("content-type", "json"):
            return Answer(response.status_code, headers, response.text, url)
        if is_plain(content):
            return Answer(response.status_code, headers, url=url, content=content, read=self._read)
        body: Any = response.text
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

    def _url(self, path: str) -> httpx.URL:
        """The absolute URL; a URL the app gives must be the app's own, as it gets credentials."""
        if not _is_absolute(path):
            return self._below_base(path)
        try:
            url = httpx.URL(path)
        except httpx.InvalidURL:
            raise UnexpectedAnswer(
                f"{self._connector.key}: the app gave a next page that is no URL",
                hint="compare `pagination.next` in the collection's YAML with what it answers",
            ) from None
        if _origin(url) != _origin(self._base) or url.userinfo:
            raise UnexpectedAnswer(
                f"{self._connector.key}: the app points to another host "
                f"({url.scheme}://{url.host}); credentials are not sent there",
                hint="if that's the app's real address, use it as base_url",
            )
        return url

    def _below_base(self, path: str) -> httpx.URL:
        try:
            return httpx.URL(f"{str(self._base).rstrip('/')}/{path.lstrip('/')}")
        except httpx.InvalidURL:
            raise Fatal(
                f"{self._connector.key}: a path makes no URL: a character in it can't be sent, or "
                "it's too long",
                hint="look at the request's `path`, and at the values that it's given",
            ) from None

    def _refuse_errors(self, call: Call, answer: Answer) -> None:
        for rule in (*call.errors, *self._connector.errors):
            if _matches(rule, answer):
                if rule.action == "ignore":
                    return
                self._raise_rule(rule, call, answer)
        if answer.status < 300:
            return
        said = self._said(call, f"answered {answer.status}{self._reason(answer.body)}")
        if answer.status in (401, 403):
            raise NotAuthorized(said, hint=f"connect {self._connection!r} again: membrane connect")
        if answer.status == 429:
            raise RateLimited(said, retry_after=retry_after(answer.headers))
        if answer.status >= 500 or answer.status == 408:
            wait = retry_after(answer.headers)
            raise RateLimited(said, retry_after=wait) if wait else AppUnavailable(said)
        if answer.status < 400:
            raise UnexpectedAnswer(said, hint="redirects aren't followed: use the address it names")
        raise UnexpectedAnswer(said, hint="compare the collection's YAML with the app's API")

    def _raise_rule(self, rule: ErrorRule, call: Call, answer: Answer) -> None:
        reason = rule.message or f"answered {answer.status}{self._reason(answer.body)}"
        said = self._said(call, reason)
        if rule.action == "retry":
            raise RateLimited(said, retry_after=retry_after(answer.headers))
        raise UnexpectedAnswer(said)

    def _said(self, call: Call, what: str) -> str:
        """A message about a call: its path, never its query, which may hold secrets or values."""
        path = call.url.partition("?")[0].partition("#")[0]
        return self._masked(f"{self._connector.key}: {call.method} {path} {what}")

    def _reason(self, body: Any) -> str:
        """The app's own words, if it has any; nothing else of a body goes into messages."""
        if isinstance(body, Mapping):
            for name in ("message", "error", "detail", "errors"):
                words = body.get(name)
                if isinstance(words, str) and words:
                    # Masked before it's cut: half a secret wouldn't be found.
                    return f": {self._masked(words)[:200]}"
        return ""

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by `Retry-After`, which is a number of seconds or an HTTP date (RFC 9110)."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


_backoff = wait_exponential(multiplier=0.5, max=LONGEST_WAIT_SECONDS) + wait_random(0, 0.5)


def _wait(state: RetryCallState) -> float:
    """As long as the app asks for, and never no time at all; else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, RateLimited) else None
    backoff = _backoff(state)
    return backoff if asked is None else max(asked, 0.1) + min(backoff, 0.5)


def _matches(rule: ErrorRule, answer: Answer) -> bool:
    if rule.status and answer.status not in rule.status:
        return False
    if any(answer.headers.get(name.lower()) != value for name, value in rule.header.items()):
        return False
    if rule.when is None:
        return True
    scope = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    value = evaluate(rule.when, scope, strict=False)
    return value is not MISSING and bool(value)


def _base_url(connector: Connector, scope: Mapping[str, Any]) -> httpx.URL:
    value = evaluate(connector.base_url, scope)
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise Fatal(
            f"connector {connector.key!r}: base_url gives {value!r}, not a URL",
            hint="give the connection the input that base_url uses: membrane connect --set",
        )
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        url = httpx.URL()
    if not url.host:
        raise Fatal(
            f"connector {connector.key!r}: base_url gives {value[:200]!r}, not a URL",
            hint="give the connection the input that base_url uses: membrane connect --set",
        )
    return url


def _evaluated(template: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    value = evaluate(dict(template), scope)
    return {} if value is MISSING else dict(value)


def _query_value(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict) else value


def _is_absolute(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _texts_in(value: Any) -> list[str]:
    """All texts of the credentials that are long enough to be hidden, the longest first."""
    if isinstance(value, Mapping):
        texts = [text for item in value.values() for text in _texts_in(item)]
    elif isinstance(value, list | tuple):
        texts = [text for item in value for text in _texts_in(item)]
    else:
        texts = (
            [str(value)]
            if isinstance(value, str | int) and len(str(value)) >= SHORTEST_SECRET
            else []
        )
    return sorted(texts, key=len, reverse=True)
