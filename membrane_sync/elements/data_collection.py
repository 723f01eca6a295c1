"""Data collection: a table in the external app, and how to read, find and write its records.

Carried out by `sync/collection.py` and `sync/paging.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import (
    Element,
    Formula,
    Locator,
    RefersTo,
    Schema,
    Spec,
    Template,
    Unfit,
)
from membrane_sync.elements.cursor import Cursor
from membrane_sync.elements.custom_fields import CustomFields
from membrane_sync.elements.pagination import Pagination
from membrane_sync.elements.request import Request, Unmasked
from membrane_sync.elements.webhook import Subscribing

__all__ = ["Cursor", "DataCollection", "Deletes", "ListMethod", "Pagination"]


class Listing(Request):
    """A request whose answers have many records, page by page."""

    records: Locator = "$.body"
    node: Locator | None = Field(default=None, description="Where an item has the record itself")
    pagination: Pagination = Field(default_factory=lambda: Pagination(type="none"))
    cursor: Cursor | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Listing:
        problems = (*_graphql_problems(self), *_cap_problems(self))
        if problems and not self.not_supported:
            raise Unfit(*problems)
        return self


Problems = Iterator[tuple[tuple[str | int, ...], str]]


def _graphql_problems(method: Listing) -> Problems:
    if method.pagination.type == "graphql" and method.graphql is None:
        yield ("pagination", "type"), "pagination of type graphql needs a request by graphql"


def _cap_problems(method: Listing) -> Problems:
    cap, cursor = method.pagination.result_cap, method.cursor
    if not cap:
        return
    again = cursor is not None and cursor.filtered_by == "app" and cursor.keeps_ties
    windowed = cursor is not None and cursor.slices is not None
    if not (again and cursor is not None and cursor.sorted == "ascending") and not windowed:
        yield (
            ("pagination", "result_cap"),
            "what is beyond a result_cap is read from the cursor on; that needs a cursor with "
            "sorted: ascending that is inclusive or unique, or one with a window",
        )
    counted = cursor is not None and (cursor.type == "integer" or cursor.granularity is not None)
    if method.pagination.tie_break and not counted:
        message = "tie_break needs the cursor's granularity: where the next value begins"
        yield ("pagination", "tie_break"), message


class DeletedListing(Listing):
    """A list of what was deleted: each record says which by its id."""

    id: Locator = Field(default="$.id", description="Where a deleted record's id is")


class Deletes(Spec):
    """How a record that is gone over there is recognised."""

    tombstone: Formula = Field(default=None, description="True on a record that says it's deleted")
    endpoint: Unmasked[DeletedListing] = Field(
        default=None, description="The app's list of deleted records"
    )
    full_scan: bool = Field(
        default=False, description="Gone from a complete full scan means deleted"
    )
    exact_total: bool = Field(
        default=False,
        description="total_records counts what the list shows, no more: a scan must see as many",
    )
    max_share: float = Field(
        default=0.5, gt=0, le=1, description="A scan that would delete more deletes nothing"
    )
    mode: Literal["soft", "hard"] = Field(
        default="soft", description="hard: the lake keeps nothing of a deleted record"
    )


class DrillDown(Spec):
    """Lists that must be read for each record of a parent collection."""

    collection: Annotated[str, RefersTo("data_collection")]
    parameters: Template = Field(
        default_factory=dict, description="The parent's own, where it's read with some"
    )
    changed_parents_only: bool = Field(
        default=False, description="A parent changes whenever one of its children does"
    )
    unique_ids: bool = Field(default=True, description="No two parents have children with one id")
    on_parent_delete: Literal["delete", "keep"] = Field(
        default="delete", description="What becomes of the children of a deleted parent"
    )


class ListMethod(Listing):
    """Read many records, page by page."""

    filter_fields: list[str] = Field(default_factory=list)
    conditional: bool | Literal["first_page"] = Field(
        default=False,
        description="Ask whether anything is new, by the ETag of the last reading's first answer",
    )
    parent: DrillDown | None = None

    @model_validator(mode="after")
    def _condition_fits(self) -> ListMethod:
        reason = _no_condition(self)
        if self.conditional and reason and not self.not_supported:
            raise Unfit((("conditional",), reason))
        return self


def _no_condition(method: ListMethod) -> str:
    """Why a list can't be asked for on condition; empty if it can."""
    if method.method != "GET" or method.graphql is not None or method.function is not None:
        return "only a GET of a path can be conditional"
    if method.parent is not None:
        return "a list below a parent can't be conditional"
    if method.cursor is not None and method.cursor.slices is not None:
        return "a window ends now, so no request is made twice; leave conditional out"
    by_header = (
        method.pagination.type == "link_header"
        or "$.headers" in method.pagination.model_dump_json()
    )
    if method.conditional is True and by_header:
        return (
            "an unchanged page doesn't tell if there's a next one by now; use first_page, if the "
            "ETag of the first page changes with any record"
        )
    return ""


class SearchMethod(Request):
    """Read many records that match a text."""

    records: Locator = "$.body"
    pagination: Pagination = Field(default_factory=lambda: Pagination(type="none"))


class RecordMethod(Request):
    """Read one record: by id, or by the values of some fields."""

    record: Locator = "$.body"
    fields: list[str] = Field(default_factory=list)


class WriteMethod(Request):
    """Create, update or delete; with `batch_size`, many records in one call."""

    response: Formula = Field(default=None, description="The record's id, over $.body")
    fields: list[str] = Field(default_factory=list)
    required_fields: list[str] = Field(default_factory=list)
    excluded_fields: list[str] = Field(default_factory=list)
    batch_size: int | None = Field(default=None, gt=0)
    idempotency_key: Formula = None


class CollectionEvent(Subscribing):
    """How changes of this collection reach us without asking for all of it.

    `handle` gives one or a list of `{type, record}` or `{type, id}`, where type is `created`,
    `updated` or `deleted`. `pull_latest`, `delta_pull` and `full_scan` say how `list` finds them.
    """

    type: Literal["webhook", "connector_event", "pull_latest", "delta_pull", "full_scan"]
    event: Annotated[str, RefersTo("external_event")] | None = Field(
        default=None, description="connector_event: key of external event"
    )
    id_only: bool = Field(default=False, description="The record has to be fetched")
    not_found_retries: int = Field(
        default=3,
        ge=0,
        le=10,
        description="How often a created record that isn't found is asked for again, until it's "
        "gone",
    )


class CollectionEvents(Spec):
    """Events by what happened; `all` where one subscription brings everything."""

    created: CollectionEvent | None = None
    updated: CollectionEvent | None = None
    deleted: CollectionEvent | None = None
    all: CollectionEvent | None = None


class Extends(Spec):
    """Another collection of this connector to take everything from that isn't said here."""

    collection: Annotated[str, RefersTo("data_collection")]
    parameters: dict[str, str | int | bool] = Field(default_factory=dict)


class DataCollection(Element):
    """A table in the external app."""

    id: Locator = Field(default="$.id", description="Where a record says its id")
    fields_schema: Schema = Field(
        default_factory=dict, description="The records' fields; they become typed columns"
    )
    custom_fields: CustomFields | None = Field(
        default=None, description="How to learn of the fields that an account has of its own"
    )
    parameters_schema: Schema = Field(default_factory=dict)
    ignored_fields: list[str] = Field(
        default_factory=list, description="A change of these alone is no change"
    )
    list_: ListMethod | None = Field(default=None, alias="list")
    search: SearchMethod | None = None
    match: RecordMethod | None = None
    find_by_id: RecordMethod | None = None
    create: WriteMethod | None = None
    update: WriteMethod | None = None
    delete: WriteMethod | None = None
    deletes: Deletes = Field(default_factory=Deletes)
    events: CollectionEvents = Field(default_factory=CollectionEvents)
    extends: Extends | None = None

    @model_validator(mode="after")
    def _ignores_fields_of_its_own(self) -> DataCollection:
        declared = self.fields_schema.get("properties") or {}
        for number, name in enumerate(self.ignored_fields):
            outer = name.removeprefix("$.").partition(".")[0]
            if name in declared or outer == name:
                continue
            if name.startswith("$.") or outer in declared:
                message = f"{name} is no field of the record itself; name a whole one, as {outer}"
                raise Unfit((("ignored_fields", number), message))
        return self
