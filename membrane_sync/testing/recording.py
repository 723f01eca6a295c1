"""HTTP of an app, recorded in a JSON file without secrets, and played back without the app.

    recorder = Recorder(Redaction(["the-token"]))
    api = HttpApi(connector, connection, transport=recorder)
    ...
    recorder.save(path)
    api = HttpApi(connector, connection, transport=Replayer(path, Redaction(["the-token"])))

What records say is in the file: record accounts whose data may be seen.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import httpx

from membrane_sync.errors import Fatal
from membrane_sync.spelling import Spellings

REDACTED = "REDACTED"
VERSION = 1
SHORTEST = 4
"""Characters of a secret that is looked for in texts; shorter ones would be found everywhere."""

_KEPT_OF_REQUESTS = ("accept", "content-type", "if-none-match", "idempotency-key")
_OF_THE_WAY = ("content-encoding", "content-length", "transfer-encoding", "connection", "date")
_SECRET_NAMES = re.compile(
    r"(access|refresh|id|csrf|xsrf|bearer|auth|session)[-_]?token|secret|password|passwd|api[-_]?key"
    r"|authorization|cookie|private[-_]?key|signature|credential|www-authenticate|session[-_]?id|jwt"
    r"|assertion|^sig$",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"(?<=[?&])([\w.%-]{1,60})=([^&#\s\"'<>]+)")
"""A parameter of a URL that stands in a text."""


class Redaction:
    """Takes secrets out: by value wherever they are, and by name in headers, queries and bodies.

    `names` are more names of fields that hold secrets, and those of `plain` hold none, whatever
    they sound like. What is found by name is from then on looked for by value too, as an access
    token that an app has issued.
    """

    def __init__(
        self, secrets: Iterable[str] = (), names: Iterable[str] = (), plain: Iterable[str] = ()
    ) -> None:
        self._names = {name.lower() for name in names}
        self._plain = {name.lower() for name in plain}
        self._values: set[str] = set()
        self._spellings = Spellings(())
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Look for this value too, as it is and encoded."""
        if len(secret) < SHORTEST or secret == REDACTED or secret in self._values:
            return
        self._values.add(secret)
        self._spellings = Spellings(self._values)

    def text(self, text: str) -> str:
        """The text without any secret's value, and without those of URLs in it, by their names."""
        if "=" in text:
            text = _PARAMETER.sub(self._parameter, text)
        return self._spellings.hide(text, REDACTED)

    def _parameter(self, found: re.Match[str]) -> str:
        name, value = found.groups()
        if not self._is_secret(name):
            return found[0]
        self.learn(unquote_plus(value))
        return f"{name}={REDACTED}"

    def named(self, name: str, value: str) -> str:
        """A value under a name: gone if the name is a secret's."""
        if self._is_secret(name):
            if name.lower() == "set-cookie":
                value = value.partition(";")[0].partition("=")[2]
            self.learn(value)
            for part in re.split(r"[\s;,=]+", value):
                # Of a header, the parts: a scheme and a token, or cookies.
                self.learn(part if len(part) >= 2 * SHORTEST else "")
            return REDACTED
        return self.text(value)

    def body(self, content: bytes) -> str:
        """A body as text; what is not text is in base64, after `base64:`."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(self._without(content)).decode()
        try:
            value = json.loads(text)
        except ValueError:
            return self._form(text)
        clean = self._value(value)
        # A second time, for secrets that were learnt further below.
        clean = self._value(clean)
        return text if clean == value else json.dumps(clean, ensure_ascii=False)

    def _without(self, content: bytes) -> bytes:
        """The bytes as long as they were, with a `*` for each byte of a secret."""
        clean = bytearray(content)
        for start, stop in self._spellings.find(content):
            clean[start:stop] = b"*" * (stop - start)
        return bytes(clean)

    def _form(self, text: str) -> str:
        """A form's fields by their names, any other text by its values."""
        if not re.fullmatch(r"[\w.\[\]%+-]+=[^&\s]*(&[\w.\[\]%+-]+=[^&\s]*)*", text):
            return self.text(text)
        pairs = httpx.QueryParams(text).multi_items()
        return str(httpx.QueryParams([(name, self.named(name, value)) for name, value in pairs]))

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.text(name): self._field(name, item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return REDACTED if number and str(value) in self._values else value

    def _field(self, name: str, value: Any) -> Any:
        return self._hidden(name, value) if self._is_secret(name) else self._value(value)

    def _hidden(self, name: str, value: Any) -> Any:
        """What a field that is called a secret has, without any text or number."""
        if isinstance(value, dict):
            return {self.text(key): self._hidden(name, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._hidden(name, item) for item in value]
        if value is None or isinstance(value, bool) or value == "":
            return value
        return self.named(name, str(value))

    def _is_secret(self, name: str) -> bool:
        if name.lower() in self._plain:
            return False
        return name.lower() in self._names or _SECRET_NAMES.search(name) is not None


class Recorder(httpx.BaseTransport):
    """Sends requests on, and keeps what was asked and answered."""

    def __init__(self, redaction: Redaction, transport: httpx.BaseTransport | None = None) -> None:
        self.exchanges: list[dict[str, Any]] = []
        self._redaction = redaction
        self._transport = transport or httpx.HTTPTransport()
        self._origin = ""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        response = self._transport.handle_request(request)
        try:
            body = response.read()
        finally:
            response.close()
        self._origin = self._origin or _origin(request.url)
        asked = _asked(request, content, self._redaction)
        headers = [
            (name, self._redaction.named(name, value))
            for name, value in response.headers.multi_items()
            if name.lower() not in _OF_THE_WAY
        ]
        said = {
            "status": response.status_code,
            "headers": headers,
            "body": self._redaction.body(body),
        }
        self.exchanges.append({"request": asked, "response": said})
        plain = [(n, v) for n, v in response.headers.multi_items() if n.lower() not in _OF_THE_WAY]
        return httpx.Response(response.status_code, headers=plain, content=body, request=request)

    def save(self, path: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write the file, with what else there is to say `about` the recording.

        Secrets that were learnt late are taken out of earlier exchanges too.
        """
        text = json.dumps(self.exchanges, ensure_ascii=False)
        exchanges = [_clean(exchange, self._redaction) for exchange in json.loads(text)]
        file = {
            "version": VERSION,
            "origin": self._redaction.text(self._origin),
            "about": json.loads(self._redaction.body(json.dumps(dict(about or {})).encode())),
            "exchanges": exchanges,
        }
        path.write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        self._transport.close()


class Replayer(httpx.BaseTransport):
    """Answers from a file: each request as often as it was recorded, in that order.

    Requests are told apart by method, path, query and body, whatever the host is. Raises Fatal for
    one that isn't in the file, and for a file that can't be read.
    """

    def __init__(self, path: Path, redaction: Redaction) -> None:
        self._path = path
        self._redaction = redaction
        file = _read(path)
        self.about: Mapping[str, Any] = file["about"]
        """What the recorder said of the recording."""
        self._origin: str = file["origin"]
        self._waiting: dict[str, list[Mapping[str, Any]]] = {}
        for exchange in file["exchanges"]:
            key = _key(exchange["request"])
            self._waiting.setdefault(key, []).append(exchange["response"])

    @property
    def unused(self) -> int:
        """How many recorded answers nobody has asked for."""
        return sum(len(answers) for answers in self._waiting.values())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = _asked(request, request.read(), self._redaction)
        waiting = self._waiting.get(_key(asked))
        if not waiting:
            raise Fatal(
                f"{self._path.name} has no further answer to {asked['method']} {asked['path']} "
                "with this query and body",
                hint="the declaration asks for something else than it did: record anew",
            )
        answer = waiting.pop(0)
        here = _origin(request.url)
        headers = [(n, v.replace(self._origin, here)) for n, v in answer["headers"]]
        body = answer["body"]
        content = (
            base64.b64decode(body.removeprefix("base64:"))
            if body.startswith("base64:")
            else body.replace(self._origin, here).encode()
        )
        return httpx.Response(answer["status"], headers=headers, content=content, request=request)


def _asked(request: httpx.Request, content: bytes, redaction: Redaction) -> dict[str, Any]:
    headers = {
        name: redaction.named(name, request.headers[name])
        for name in _KEPT_OF_REQUESTS
        if name in request.headers
    }
    for name, value in request.headers.items():
        redaction.named(name, value)  # learns what is secret in those that aren't kept
    query = [
        (name, redaction.named(name, value)) for name, value in request.url.params.multi_items()
    ]
    return {
        "method": request.method,
        "path": redaction.text(request.url.path),
        "query": query,
        "headers": headers,
        "body": redaction.body(content),
    }


def _clean(exchange: dict[str, Any], redaction: Redaction) -> dict[str, Any]:
    """The exchange once more without what is known to be secret by now."""
    for part in exchange.values():
        part["body"] = redaction.body(part["body"].encode())
        if isinstance(part["headers"], dict):
            part["headers"] = {n: redaction.text(v) for n, v in part["headers"].items()}
            part["path"] = redaction.text(part["path"])
            part["query"] = [(n, redaction.text(v)) for n, v in part["query"]]
        else:
            part["headers"] = [(n, redaction.text(v)) for n, v in part["headers"]]
    return exchange


def _key(asked: Mapping[str, Any]) -> str:
    body = asked["body"]
    with suppress(ValueError):
        body = json.loads(body)
    query = sorted([name, value] for name, value in asked["query"])
    return json.dumps([asked["method"], asked["path"], query, body], sort_keys=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        file = json.loads(path.read_text(encoding="utf-8"))
        if file["version"] != VERSION:
            raise ValueError
        return {name: file[name] for name in ("origin", "about", "exchanges")}
    except (OSError, ValueError, KeyError, TypeError):
        raise Fatal(f"{path} is no recording", hint="record one: --record FILE") from None


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
