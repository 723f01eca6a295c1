"""Request: one HTTP call as YAML declares it, for collections, events and authentication alike.

Formulas see `$.input` (what the connection's user gave), `$.parameters`, `$.cursor`, and for calls
about one record `$.id` and `$.fields`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, Field, model_validator

from membrane_sync.elements.base import Formula, Spec, Template, Unfit

HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "REPORT", "PROPFIND"]


class ErrorRule(Spec):
    """What to do with an answer that matches; rules are tried in order, before the defaults."""

    status: list[int] = Field(default_factory=list)
    header: dict[str, str] = Field(default_factory=dict)
    when: Formula = Field(default=None, description="Over $.status, $.headers and $.body")
    action: Literal["retry", "refresh", "skip", "fail", "defunct", "ignore"]
    body: Formula = Field(default=None, description="`ignore`: goes on with this as the body")
    after_seconds: float | None = Field(
        default=None, ge=0, description="How long `retry` waits, where the app doesn't say"
    )
    message: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_membranes_words(cls, value: Any) -> Any:
        return _rule_words(value) if isinstance(value, Mapping) and "match" in value else value

    @model_validator(mode="after")
    def _says_what_its_action_can_do(self) -> ErrorRule:
        for key, action in (("after_seconds", "retry"), ("body", "ignore")):
            if getattr(self, key) is not None and self.action != action:
                raise Unfit(((key,), f"{key} is for {action}, not {self.action}"))
        return self


_ACTIONS = {
    "access_token_expired": "refresh",
    "connection_is_defunct": "defunct",
    "rate_limit_exceeded": "retry",
}
"""What is done at the key of a Membrane error; at any other it's to stop."""


def _rule_words(handler: Mapping[str, Any]) -> dict[str, Any]:
    """One of Membrane's `responseHandlers` in our words; a key that it doesn't know stays."""
    ours = dict(handler)
    ours["when"], error = ours.pop("match"), ours.pop("error", None)
    data = ours.pop("data", None)
    if ours.pop("isSuccess", error is None):
        return {**ours, "action": "ignore", "body": data}
    error = error if isinstance(error, Mapping) else {}
    action = _ACTIONS.get(str(error.get("key", "")).lower(), "fail")
    return {**ours, "action": action, "message": error.get("message")}


class Request(Spec):
    """One HTTP call; paths are below the connector's base URL, `{name}` is a path parameter."""

    method: HttpMethod = "GET"
    path: str | None = None
    path_parameters: Template = Field(default_factory=dict)
    query: Template = Field(default_factory=dict)
    headers: Template = Field(default_factory=dict)
    body: Formula = None
    graphql: str | None = Field(default=None, description="A GraphQL query instead of a body")
    variables: Template = Field(default_factory=dict, description="Variables of the query")
    function: str | None = Field(default=None, description="A function in hooks.py instead")
    not_supported: bool = Field(default=False, description="Masks what `extends` brought in")
    errors: list[ErrorRule] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_way(self) -> Request:
        ways = [self.path is not None, self.function is not None, self.not_supported]
        ways.append(self.graphql is not None and self.path is None)
        if sum(ways) != 1:
            raise ValueError("a call needs exactly one of path, graphql, function, not_supported")
        if self.graphql is not None and self.body is not None:
            raise Unfit((("body",), "a request by graphql makes its own body; use variables"))
        if self.graphql is None and self.variables:
            raise Unfit((("variables",), "variables are those of a graphql query"))
        try:
            names = _placeholders(self.path or "")
        except ValueError as error:
            raise Unfit((("path",), str(error))) from None
        missing = [name for name in names if name not in self.path_parameters]
        if missing:
            shown = " and ".join(f"{{{name}}}" for name in missing)
            raise Unfit((("path",), f"path uses {shown}, which path_parameters doesn't give"))
        return self


AnyRequest = TypeVar("AnyRequest", bound=Request)


def _unmasked(request: AnyRequest | None) -> AnyRequest | None:
    return None if request is None or request.not_supported else request


Unmasked = Annotated[AnyRequest | None, AfterValidator(_unmasked)]
"""A request that's gone where it's `not_supported`, as if nobody had declared it."""

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def _placeholders(path: str) -> list[str]:
    if set("{}") & set(_PLACEHOLDER.sub("", path)):
        raise ValueError(f"path {path!r} has a brace that belongs to no {{name}}")
    return _PLACEHOLDER.findall(path)


def expand_path(path: str, values: Mapping[str, Any]) -> str:
    """The path with each `{name}` replaced by its value, percent-encoded; 3.0 is `3`.

    >>> expand_path("/lists/{id}/contacts", {"id": "a b/c"})
    '/lists/a%20b%2Fc/contacts'
    """
    return _PLACEHOLDER.sub(lambda match: quote(_segment(values[match[1]]), safe=""), path)


def _segment(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
