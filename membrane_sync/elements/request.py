"""Request: one HTTP call as YAML declares it, for collections, events and authentication alike.

Formulas see `$.input` (what the connection's user gave), `$.parameters`, `$.cursor`, and for calls
about one record `$.id` and `$.fields`.
"""

from __future__ import annotations

from string import Formatter
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, model_validator

from membrane_sync.elements.base import Formula, Spec, Template

HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "REPORT", "PROPFIND"]


class ErrorRule(Spec):
    """What to do with an answer that matches; rules are tried in order, before the defaults."""

    status: list[int] = Field(default_factory=list)
    header: dict[str, str] = Field(default_factory=dict)
    when: Formula = Field(default=None, description="Over $.status, $.headers and $.body")
    action: Literal["retry", "refresh", "skip", "fail", "defunct", "ignore"]
    message: str | None = None


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
        names = set(self.path_parameters)
        for name in _placeholders(self.path or ""):
            if name not in names:
                raise ValueError(f"path uses {{{name}}}, which path_parameters doesn't give")
        return self


def _placeholders(path: str) -> list[str]:
    try:
        fields = [name for _, name, _, _ in Formatter().parse(path) if name is not None]
    except ValueError as error:
        raise ValueError(f"path {path!r} has an unclosed brace: {error}") from None
    return fields


def expand_path(path: str, values: dict[str, Any]) -> str:
    """The path with each `{name}` replaced by its value, percent-encoded; 3 is `3`, not `3.0`."""
    for name in _placeholders(path):
        path = path.replace("{" + name + "}", quote(str(values[name]), safe=""))
    return path
