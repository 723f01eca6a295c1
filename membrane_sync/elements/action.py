"""Action: one synchronous call with typed input and output.

Its behaviour comes with actions and flows; until then it's declared and checked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from membrane_sync.elements.base import Element, Formula, RefersTo, Schema, Spec, Template
from membrane_sync.elements.request import HttpMethod

ActionType = Literal[
    "list_data_records",
    "find_data_record_by_id",
    "match_data_record",
    "search_data_record",
    "create_data_record",
    "find_or_create_data_record",
    "update_data_record",
    "delete_data_record",
    "api_request_to_external_app",
    "api_request_to_your_app",
    "http_request",
    "run_function",
]


class HttpRequest(Spec):
    """A plain HTTP request with formulas."""

    method: HttpMethod = "GET"
    url: Formula
    headers: Template = Field(default_factory=dict)
    query: Template = Field(default_factory=dict)
    body: Formula = None


class ActionConfig(Spec):
    """What the action's type needs; see the table in docs/elements.md."""

    data_source: Annotated[str, RefersTo("data_source")] | None = None
    field_mapping: Annotated[str, RefersTo("field_mapping")] | None = None
    data_link_table: Annotated[str, RefersTo("data_link_table")] | None = None
    filter: Template = Field(default_factory=dict)
    unified_filter: Template = Field(default_factory=dict)
    cursor: Formula = None
    query: Formula = None
    id: Formula = None
    lookup: Template = Field(default_factory=dict)
    input: Formula = None
    request: HttpRequest | None = None
    function: str | None = None


class Action(Element):
    """One call, usable from the API, a flow or an AI agent."""

    type: ActionType
    input_schema: Schema = Field(default_factory=dict)
    config: ActionConfig = Field(default_factory=ActionConfig)
    output_mapping: Formula = None
    custom_output_schema: Schema = Field(default_factory=dict)
    example: dict[str, Any] = Field(default_factory=dict)
