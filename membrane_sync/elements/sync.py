"""Sync: source, mapping, link table, direction, schedule and policies; it becomes jobs and assets.

Carried out by `sync/run.py`, and by the assets of `orchestration/`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import Element, RefersTo, Spec
from membrane_sync.elements.schedule import Schedule

ConflictPolicy = Literal["app_wins", "external_wins", "newest_wins", "manual"]


class Conflicts(Spec):
    """Who wins when both sides changed the same field since they last agreed."""

    policy: ConflictPolicy = "newest_wins"
    fields: dict[str, ConflictPolicy] = Field(default_factory=dict)


class Trigger(Spec):
    """An event that makes the sync run at once, for the connections of whom it's about."""

    internal_event: Annotated[str, RefersTo("internal_event")] | None = None
    external_event: Annotated[str, RefersTo("external_event")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Trigger:
        if (self.internal_event is None) == (self.external_event is None):
            raise ValueError("a trigger is one internal_event or one external_event")
        return self


class Sync(Element):
    """One kind of record kept in sync for every connection of every integration that offers it."""

    field_mapping: Annotated[str, RefersTo("field_mapping")]
    data_source: Annotated[str, RefersTo("data_source")] | None = Field(
        default=None, description="By default the field mapping's"
    )
    data_link_table: Annotated[str, RefersTo("data_link_table")]
    direction: Literal["import", "export", "both"] = "import"
    integrations: list[Annotated[str, RefersTo("integration")]] | None = Field(
        default=None, description="By default each whose connector offers the collection"
    )
    schedule: Schedule | None = None
    triggers: list[Trigger] = Field(
        default_factory=list, description="Other events than those of the collection's records"
    )
    match: list[str] = Field(
        default_factory=list,
        description="Fields by which a new external record finds a row the product already has",
    )
    delete: Literal["hard", "soft", "ignore"] = Field(
        default="hard", description="What a deletion over there does to the product's row"
    )
    conflicts: Conflicts = Field(default_factory=Conflicts)
    enabled: bool = True
