"""Custom fields: those that an account of the app has beside everybody's, and how to learn of them.

Carried out by `sync/custom_fields.py`.
"""

from __future__ import annotations

import re

from pydantic import Field, model_validator

from membrane_sync.elements.base import Formula, Locator, Schema, Unfit
from membrane_sync.elements.pagination import Pagination
from membrane_sync.elements.request import Request

_NAMES = re.compile(r"\$(?:\.(?:[^.\[\]\\]|\\.)+)*")
"""A locator without indexes."""

REFRESH_SECONDS = 86_400


class CustomFields(Request):
    """A request whose answers define fields; or a function that gives their schema itself."""

    records: Locator = Field(default="$.body", description="Where an answer has the definitions")
    node: Locator | None = Field(default=None, description="Where an item has the definition")
    pagination: Pagination = Field(default_factory=lambda: Pagination(type="none"))
    name: Formula = Field(
        default={"$var": "$.name"},
        description="Over a definition: the field's name in records; nothing leaves it out",
    )
    label: Formula = Field(default=None, description="What people call it")
    type: Formula = Field(default=None, description="The app's word for its type, or a schema")
    types: dict[str, Schema] = Field(
        default_factory=dict, description="A schema for each word of the app's"
    )
    inside: Locator = Field(default="$", description="The object of a record that has the fields")
    refresh_seconds: int = Field(
        default=REFRESH_SECONDS, ge=0, description="How long what was learnt is taken for true"
    )

    @model_validator(mode="after")
    def _leads_by_names(self) -> CustomFields:
        if not _NAMES.fullmatch(self.inside):
            raise Unfit((("inside",), "inside leads by names alone, as $.properties"))
        return self
