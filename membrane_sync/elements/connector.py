"""Connector: what we know about one external app, whoever connects to it.

Carried out by `clients/api.py`; lives in `connectors/<app>/connector.yaml`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from membrane_sync.elements.authentication import Authentication
from membrane_sync.elements.base import Element, Formula, RefersTo, Schema, Spec, Template
from membrane_sync.elements.request import ErrorRule, Request


class RateLimit(Spec):
    """A quota the app grants: so many requests in so many seconds."""

    requests: int = Field(gt=0)
    per_seconds: float = Field(gt=0)
    scope: Literal["connection", "app"] = Field(
        default="connection", description="Whose requests count: one connection's, or everybody's"
    )
    burst: int | None = Field(
        default=None, gt=0, description="How many may go at once after a pause, beyond the pace"
    )


class RateLimitHeaders(Spec):
    """Names of the headers that tell the quota, where they aren't among the usual ones."""

    limit: str | None = None
    remaining: str | None = None
    reset: str | None = None
    reset_format: (
        Literal["seconds", "milliseconds", "epoch_seconds", "epoch_milliseconds", "date"] | None
    ) = Field(default=None, description="What `reset` is; without it, its size tells")


class CollectionMapping(Spec):
    """How one collection speaks a unified data model."""

    key: Annotated[str, RefersTo("data_collection")]
    parameters: dict[str, str | int | bool] = Field(default_factory=dict)
    fields_from_collection: Formula = None
    fields_to_collection: Formula = None


class UnifiedMapping(Spec):
    """Which of the app's collections stand for one unified data model."""

    default_collection: Annotated[str, RefersTo("data_collection")] | None = None
    collection_mappings: list[CollectionMapping] = Field(default_factory=list)


class Connector(Element):
    """One external app: its address, how to authenticate, its limits and its errors."""

    base_url: Formula = Field(description="A URL, or a formula over $.input and $.parameters")
    authentication: Authentication = Field(default_factory=Authentication)
    headers: Template = Field(default_factory=dict)
    query: Template = Field(default_factory=dict)
    input_schema: Schema = Field(
        default_factory=dict, description="What the end user gives beside credentials"
    )
    parameters_schema: Schema = Field(
        default_factory=dict, description="What the developer sets on the integration"
    )
    rate_limits: list[RateLimit] = Field(default_factory=list)
    rate_limit_headers: RateLimitHeaders | None = None
    errors: list[ErrorRule] = Field(default_factory=list)
    test: Request | None = Field(default=None, description="A call that proves the credentials")
    timeout_seconds: float = Field(default=60.0, gt=0)
    unified_data_models: dict[str, UnifiedMapping] = Field(default_factory=dict)
    docs_url: str | None = None
    logo_url: str | None = None
    version: str | None = None
