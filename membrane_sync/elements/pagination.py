"""Pagination: how a list's next page is asked for, as YAML declares it.

Carried out by `sync/paging.py`, and what a result cap needs by `sync/stretch.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from membrane_sync.elements.base import Formula, Locator, Spec, Template, Unfit

PaginationType = Literal[
    "none", "cursor", "page", "offset", "link_header", "next_url", "keyset", "graphql"
]

TURNED_BY_THE_APP = ("page", "offset", "link_header", "next_url", "cursor", "graphql")
"""Types whose next page may be a number in disguise."""


class TieBreak(Spec):
    """How to ask for the records of one cursor value, in the order of their ids.

    Its templates see `$.tie.value` and `$.tie.after`, the last id so far and null at first; they
    replace what the request has at the same names.
    """

    after: Formula = Field(
        default=None, description="What of the last record is `$.tie.after`; by default its id"
    )
    path: str | None = None
    query: Template = Field(default_factory=dict)
    body: Formula = None
    variables: Template = Field(default_factory=dict)


class Pagination(Spec):
    """How the next page is asked for.

    A page that is shorter than asked never ends the reading, since apps clamp page sizes silently:
    what ends it is `has_more`, no next token, an empty page, or a total that is just what came. A
    total that was passed already, and one below zero, says nothing.
    """

    type: PaginationType
    parameter: str | None = Field(default=None, description="Takes the token, page or offset")
    location: Literal["query", "body", "header"] = "query"
    next: Formula = Field(
        default=None, description="Next token or URL, over $.body and $.headers; absent: the end"
    )
    page_info: Locator | None = Field(
        default=None, description="graphql: where the connection's pageInfo is"
    )
    first_page: int = 1
    page_size: int | None = Field(default=None, gt=0)
    page_size_parameter: str | None = None
    has_more: Formula = None
    total_pages: Formula = None
    total_records: Formula = None
    result_cap: int | None = Field(
        default=None, gt=0, description="The app answers no more than so many to one query"
    )
    tie_break: TieBreak | None = Field(
        default=None, description="How to read more records of one cursor value than result_cap"
    )

    @model_validator(mode="after")
    def _complete(self) -> Pagination:
        needed = {
            "cursor": ("parameter", "next"),
            "page": ("parameter",),
            "offset": ("parameter",),
            "next_url": ("next",),
            "keyset": ("parameter",),
            "graphql": ("parameter", "page_info"),
        }.get(self.type, ())
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            message = f"pagination of type {self.type} needs {' and '.join(missing)}"
            raise Unfit((("type",), message))
        if self.page_size_parameter and not self.page_size:
            raise Unfit((("page_size_parameter",), "page_size_parameter needs page_size"))
        return self

    @model_validator(mode="after")
    def _fits_the_cap(self) -> Pagination:
        if self.tie_break and not self.result_cap:
            raise Unfit((("tie_break",), "tie_break is for lists with a result_cap"))
        if self.result_cap and self.type not in TURNED_BY_THE_APP:
            message = f"a result_cap on pagination of type {self.type} can't be read beyond"
            raise Unfit((("result_cap",), message))
        if self.result_cap and self.page_size and self.page_size > self.result_cap:
            message = f"a page of {self.page_size} is more than the result_cap lets through"
            raise Unfit((("page_size",), message))
        return self
