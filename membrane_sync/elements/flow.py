"""Flow: an asynchronous graph of nodes, started by triggers.

Its behaviour comes with actions and flows; until then it's declared and checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from membrane_sync.elements.action import HttpRequest
from membrane_sync.elements.base import Element, Formula, RefersTo, Schema, Spec, Unfit
from membrane_sync.elements.cycles import cycles
from membrane_sync.elements.nearest import nearest
from membrane_sync.elements.schedule import Cron

Path = tuple[str | int, ...]

NodeType = Literal[
    "api_trigger",
    "schedule_trigger",
    "internal_event_trigger",
    "data_record_created_trigger",
    "data_record_updated_trigger",
    "data_record_deleted_trigger",
    "connector_event_trigger",
    "search_data_records",
    "list_data_records",
    "lookup_data_record",
    "find_data_record_by_id",
    "find_or_create_data_record",
    "create_data_record",
    "update_data_record",
    "delete_data_record",
    "create_data_link",
    "find_data_link",
    "delete_data_link",
    "transform_data",
    "filter",
    "for_each",
    "run_function",
    "run_action",
    "api_request_to_your_app",
    "api_request_to_external_app",
    "http_request",
]


class NodeLink(Spec):
    """Where a node's output goes, if the filter holds over `$.output`."""

    key: str
    filter: Formula = None
    name: str | None = None


class NodeConfig(Spec):
    """What the node's type needs; see the table in docs/elements.md."""

    data_source: Annotated[str, RefersTo("data_source")] | None = None
    field_mapping: Annotated[str, RefersTo("field_mapping")] | None = None
    data_link_table: Annotated[str, RefersTo("data_link_table")] | None = None
    internal_event: Annotated[str, RefersTo("internal_event")] | None = None
    action: Annotated[str, RefersTo("action")] | None = None
    event: str | None = None
    event_parameters: dict[str, Any] = Field(default_factory=dict)
    direction: Literal["import", "export", "both"] | None = None
    external_record_id: Formula = None
    app_record_id: Formula = None
    cron: Cron | None = None
    interval_minutes: int | None = Field(default=None, ge=1)
    filter: Formula = None
    input: Formula = None
    id: Formula = None
    query: Formula = None
    output: Formula = None
    items: Formula = None
    root_node_key: str | None = None
    request: HttpRequest | None = None
    function: str | None = None


class FlowNode(Spec):
    """One step."""

    type: NodeType
    name: str | None = None
    description: str | None = None
    config: NodeConfig = Field(default_factory=NodeConfig)
    user_config: dict[str, Any] = Field(default_factory=dict)
    links: list[NodeLink] = Field(default_factory=list)
    concurrency: int = Field(default=1, ge=1)
    on_error: Literal["stop", "continue"] = "stop"
    input_schema: Schema = Field(default_factory=dict)
    output_schema: Schema = Field(default_factory=dict)


class Flow(Element):
    """Nodes and the links between them; links form no cycle and name nodes that exist."""

    nodes: dict[str, FlowNode]
    parameters_schema: Schema = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    enabled: bool = True
    auto_create_instances: bool = False

    @model_validator(mode="after")
    def _graph(self) -> Flow:
        problems = [*self._dangling(), *self._cycles()]
        if problems:
            raise Unfit(*problems)
        return self

    def _dangling(self) -> Iterator[tuple[Path, str]]:
        for key, node in self.nodes.items():
            for index, link in enumerate(node.links):
                if link.key not in self.nodes:
                    hint = nearest(link.key, self.nodes, "nodes are")
                    message = f"node {key!r} links to {link.key!r}, which doesn't exist; {hint}"
                    yield ("nodes", key, "links", index, "key"), message

    def _cycles(self) -> Iterator[tuple[Path, str]]:
        graph = {key: [link.key for link in node.links] for key, node in self.nodes.items()}
        for cycle in cycles(graph):
            first, second = cycle[:2]
            index = graph[first].index(second)
            message = f"the nodes' links form a cycle: {' → '.join(cycle)}"
            yield ("nodes", first, "links", index, "key"), message
