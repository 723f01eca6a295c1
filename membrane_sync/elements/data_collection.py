"""Data collection: a table in the external app, and how to read, find and write its records.

Carried out by `sync/collection.py` and `sync/paging.py`.
"""

from __future__ import annotations

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
from membrane_sync.elements.request import Request

PaginationType = Literal[
    "none", "cursor", "page", "offset", "link_header", "next_url", "keyset", "graphql"
]


class Pagination(Spec):
    """How the next page is asked for.

    A page that is shorter than asked never ends the reading, since apps clamp page sizes silently:
    what ends it is `has_more`, `total_pages`, `total_records`, no next token, or an empty page.
    """

    type: PaginationType
    parameter: str | None = Field(default=None, description="Takes the token, page or offset")
    location: Literal["query", "body"] = "query"
    next: Formula = Field(
        default=None, description="Next token or URL, over $.body and $.headers; absent: the end"
    )
    first_page: int = 1
    page_size: int | None = Field(default=None, gt=0)
    page_size_parameter: str | None = None
    has_more: Formula = None
    total_pages: Formula = None
    total_records: Formula = None
    result_cap: int | None = Field(default=None, gt=0, description="The app stops after so many")

    @model_validator(mode="after")
    def _complete(self) -> Pagination:
        needed = {
            "cursor": ("parameter", "next"),
            "page": ("parameter",),
            "offset": ("parameter",),
            "next_url": ("next",),
            "keyset": ("parameter",),
        }.get(self.type, ())
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            message = f"pagination of type {self.type} needs {' and '.join(missing)}"
            raise Unfit((("type",), message))
        if self.page_size_parameter and not self.page_size:
            raise Unfit((("page_size_parameter",), "page_size_parameter needs page_size"))
        return self


class Cursor(Spec):
    """The value by which the next sync asks only for what changed.

    The request sends it through a formula over `$.cursor`, which is absent on the first sync.
    """

    field: Locator
    type: Literal["integer", "number", "timestamp", "string"]
    inclusive: bool = Field(description="Does the app answer records equal to the cursor again?")
    unique: bool = Field(default=False, description="No two records ever share a value")
    sorted: Literal["ascending", "descending", "none"] = Field(
        default="none", description="ascending: each page can be committed with its cursor"
    )
    format: str | None = Field(default=None, description="strftime format for the request")
    granularity: Literal["day", "minute", "second", "millisecond", "microsecond"] | None = None
    lag_seconds: float = Field(default=0, ge=0, description="Reach back so far at each sync")
    nulls: Literal["include", "exclude", "fail"] = Field(
        default="include",
        description="Records without a value; a sorted list must have those to include first",
    )
    window_seconds: float | None = Field(default=None, gt=0)
    filtered_by: Literal["app", "client"] = "app"
    delta_token: Formula = Field(default=None, description="Token for the next sync, from the body")

    @model_validator(mode="after")
    def _no_loss_at_ties(self) -> Cursor:
        if not self.inclusive and not self.unique and not self.lag_seconds:
            message = (
                "an exclusive cursor whose values are not unique loses the records that share the "
                "last value; add unique: true if that can't happen, or lag_seconds"
            )
            raise Unfit((("inclusive",), message))
        return self

    @model_validator(mode="after")
    def _lag_has_a_unit(self) -> Cursor:
        if not self.lag_seconds or self.type == "timestamp":
            return self
        if self.type == "string":
            message = "a cursor of type string has no seconds to reach back by"
            raise Unfit((("lag_seconds",), message))
        if self.granularity is None:
            message = f"lag_seconds on a cursor of type {self.type} needs its granularity"
            raise Unfit((("lag_seconds",), message))
        return self


class Deletes(Spec):
    """How a record that is gone over there is recognised."""

    tombstone: Formula = Field(default=None, description="True on a record that says it's deleted")
    endpoint: Request | None = None
    full_scan: bool = Field(
        default=False, description="Gone from a complete full scan means deleted"
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
    parameters: Template = Field(default_factory=dict)
    changed_parents_only: bool = False


class ListMethod(Request):
    """Read many records, page by page."""

    records: Locator = "$.body"
    pagination: Pagination = Field(default_factory=lambda: Pagination(type="none"))
    cursor: Cursor | None = None
    filter_fields: list[str] = Field(default_factory=list)
    conditional: bool = Field(default=False, description="Send If-None-Match where an ETag came")
    parent: DrillDown | None = None


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


class CollectionEvent(Spec):
    """How changes of this collection reach us without asking for all of it."""

    type: Literal["webhook", "connector_event", "pull_latest", "delta_pull", "full_scan"]
    event: Annotated[str, RefersTo("external_event")] | None = Field(
        default=None, description="connector_event: key of external event"
    )
    subscribe: Request | None = None
    unsubscribe: Request | None = None
    refresh: Request | None = None
    handle: Formula = None
    id_only: bool = False


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
    custom_fields: Request | None = None
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
