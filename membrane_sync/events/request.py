"""A webhook's request as it came, and what formulas see of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

MOST_FIELDS = 10_000
"""Of a form: a sender that proves nothing may send one, too."""


class Unreadable(ValueError):
    """The body isn't what its content type says."""


@dataclass(frozen=True)
class WebhookRequest:
    """One request, byte for byte; `url` is the one that its sender knows, whatever proxies did.

    Names of headers are in lower case.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def values(self, header: str) -> list[str]:
        """All values of a header."""
        name = header.lower()
        return [value for key, value in self.headers if key == name]

    @cached_property
    def scope(self) -> dict[str, Any]:
        """What formulas see; raises Unreadable."""
        return {**self.without_body, "body": self.content}

    @cached_property
    def without_body(self) -> dict[str, Any]:
        """What formulas see of a request whose body nobody can read."""
        return {"headers": self.named, "query": self.query, "method": self.method}

    @cached_property
    def named(self) -> Mapping[str, str]:
        """The headers by name; several of one name are one, with commas between them."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query's parameters; of several with one name, the first."""
        pairs = parse_qsl(urlsplit(self.url).query, keep_blank_values=True)
        return dict(reversed(pairs))

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        """The fields of a body that is a form; raises Unreadable."""
        text = _text(self.body)
        try:
            return parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError:
            raise Unreadable(f"the body is a form of more than {MOST_FIELDS:,} fields") from None

    @property
    def is_form(self) -> bool:
        """Whether the body is the fields of a form."""
        return self._content_type == "application/x-www-form-urlencoded"

    @property
    def _content_type(self) -> str:
        return self.named.get("content-type", "").partition(";")[0].strip().lower()

    @cached_property
    def content(self) -> Any:
        """The body as JSON, a form's fields, or text; None if there's none. Raises Unreadable."""
        if not self.body:
            return None
        if self.is_form:
            return _fields(self.form)
        declared = self._content_type
        if declared == "application/json" or declared.endswith("+json"):
            return _json(self.body)
        # Some senders of JSON call it text, or nothing.
        if self.body.lstrip()[:1] in (b"{", b"["):
            return _json(self.body)
        return _text(self.body)


def _fields(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise Unreadable("the body is JSON that is nested too deep") from None
    except ValueError:
        raise Unreadable("the body isn't JSON") from None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    """What is too large for a number would be written again as a word that isn't JSON."""
    number = float(text)
    return number if math.isfinite(number) else _refused(text)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Unreadable("the body is neither JSON nor text in UTF-8") from None
