"""Every switch of the simulator, with what it does; docs/simulator.md is held against these.

A model is checked on the way in, from Python as from `/_control/…`, so a misspelt switch is an
error and not a fault that never comes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pagination = Literal[
    "cursor", "page", "offset", "link", "next_url", "keyset", "body", "graphql", "none"
]
Notation = Literal["iso", "iso_offset", "space", "epoch_s", "epoch_ms", "strftime"]
Dialect = Literal[
    "seconds",
    "date",
    "zero",
    "reset_epoch",
    "reset_epoch_ms",
    "reset_relative",
    "ietf",
    "ietf_structured",
    "github",
    "hubspot",
    "shopify",
    "silent",
]
FaultName = Literal[
    "error", "rate_limit", "slow", "truncate", "reset", "duplicate", "html", "unauthorized"
]


class Switches(BaseModel):
    """Unknown switches are refused, and a set of switches never changes in place."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Collection(Switches):
    """One collection of the app and how it's listed."""

    key: str = Field(description="Name of the collection, and its path")
    records: int | None = Field(default=None, ge=0, description="How many; else the simulator's")

    pagination: Pagination = Field(
        default="cursor",
        description="How pages are turned: `cursor` an opaque token, `page` and `offset` numbers, "
        "`link` a Link header, `next_url` a URL in the body, `keyset` after the last id, `body` a "
        "token in a POST body, `graphql` a connection, `none` all at once",
    )
    page_size: int = Field(default=100, gt=0, description="Records on a page, if not asked")
    max_page_size: int = Field(default=1000, gt=0, description="The largest page that's given")
    oversize: Literal["clamp", "error"] = Field(
        default="clamp", description="A larger page asked for is cut in silence, or answers 400"
    )
    token: Literal["keyset", "position"] = Field(
        default="keyset",
        description="What `cursor`, `link`, `next_url`, `body` and `graphql` tokens hold: the "
        "place of the last record, or a number in disguise, which drifts",
    )
    result_cap: int | None = Field(default=None, gt=0, description="No query gives more than this")
    beyond_cap: Literal["error", "stop"] = Field(
        default="error", description="Pages beyond the cap answer 400, or the list just ends"
    )
    total: Literal["right", "wrong", "short", "unknown", "zero", "capped", "absent"] = Field(
        default="right",
        description="The `total` of an answer, and the `pages` of numbered ones: `wrong` counts "
        "ten too many, `short` three too few, `unknown` says -1, `zero` 0, `capped` never more "
        "than 1,000",
    )

    filter: Literal["inclusive", "exclusive", "none"] = Field(
        default="inclusive", description="`updated_from` means `>=` or `>`, or is ignored"
    )
    granularity: Literal["microsecond", "millisecond", "second", "day"] = Field(
        default="millisecond", description="Times are shown and compared in this unit"
    )
    notation: Notation = Field(
        default="iso",
        description="How times are written: `iso` in UTC with Z, `iso_offset` at +02:00, `space` "
        "without zone, `epoch_s`, `epoch_ms`, or `strftime` by its pattern",
    )
    strftime: str = Field(
        default="%d.%m.%Y %H:%M:%S", description="Pattern of notation `strftime`, in UTC"
    )
    sort: Literal["ascending", "descending", "id", "none"] = Field(
        default="ascending", description="By time of change, by id, or in no order"
    )
    sortable: bool = Field(
        default=True, description="The query's `sort` is heeded: `updated_at`, `-updated_at`, `id`"
    )
    ties: Literal["by_id", "unstable"] = Field(
        default="by_id", description="Order of equal times; `unstable` differs at each request"
    )
    window: Literal["optional", "required"] = Field(
        default="optional",
        description="`required`: without `updated_from` and `updated_before` 400",
    )

    per_moment: int = Field(default=1, gt=0, description="How many records share each time")
    step_ms: int = Field(default=100, gt=0, description="Time between two moments of change")
    nulls: int = Field(default=0, ge=0, description="How many records have no time of change")
    null_order: Literal["first", "last", "absent"] = Field(
        default="first", description="Where those are; a filter by time never finds them"
    )
    late_seconds: float = Field(
        default=0, ge=0, description="Changes are seen up to so much later than their time says"
    )
    skew_ms: int = Field(
        default=0, ge=0, description="Times of changes are off by up to so much, either way"
    )

    deletes: Literal["tombstone", "endpoint", "silent"] = Field(
        default="silent",
        description="A deleted record stays with `deleted: true`, is in `/<key>/deleted`, or is "
        "gone without a trace",
    )
    delta_changes: int = Field(
        default=0,
        ge=0,
        description="`/<key>/delta` with tokens that expire (410) after so many changes; 0: none",
    )
    parent: str | None = Field(
        default=None, description="Listed at `/<parent>/{id}/<key>` only; records are its children"
    )
    children: int = Field(default=3, gt=0, description="Records below each parent")
    touches_parent: bool = Field(
        default=False, description="A change of a child gives its parent a new time of change"
    )
    summary: bool = Field(
        default=False, description="The list has id and time only; `/<key>/{id}` has the record"
    )
    etag: bool = Field(default=False, description="Answers have an ETag, and 304 if it's sent")
    etag_fault: Literal["none", "stuck", "deaf"] = Field(
        default="none", description="`stuck`: 304 to any ETag; `deaf`: never 304"
    )
    silent_edits: bool = Field(
        default=False, description="An edit leaves the time of change as it was"
    )
    hidden_tombstones: bool = Field(
        default=False, description="A filter by time never finds tombstones"
    )

    @model_validator(mode="after")
    def _sorted_by_its_key(self) -> Collection:
        if self.pagination == "keyset" and self.sort != "id":
            raise ValueError(f"{self.key}: keyset pagination needs sort: id")
        return self


class Quota(Switches):
    """So many requests in any window of so many seconds; real time, not the app's clock."""

    requests: int = Field(gt=0, description="Requests that are answered in a window")
    per_seconds: float = Field(gt=0, description="Length of the sliding window")
    scope: Literal["account", "app"] = Field(
        default="account", description="Counted for each account, or for all of them together"
    )


class Faults(Switches):
    """What goes wrong: a share of requests each, drawn from the seed, or one request by number."""

    error: float = Field(default=0, ge=0, le=1, description="Share answered 500, 502, 503 or 504")
    rate_limit: float = Field(
        default=0, ge=0, le=1, description="Share refused as if a quota were used up"
    )
    slow: float = Field(default=0, ge=0, le=1, description="Share answered after `slow_seconds`")
    slow_seconds: float = Field(
        default=1, ge=0, description="How long; more than the client's patience makes timeouts"
    )
    truncate: float = Field(default=0, ge=0, le=1, description="Share of bodies cut in the middle")
    reset: float = Field(
        default=0, ge=0, le=1, description="Share of connections closed in mid-answer"
    )
    duplicate: float = Field(
        default=0, ge=0, le=1, description="Share of pages with their last record twice"
    )
    html: float = Field(
        default=0, ge=0, le=1, description="Share answered 200 with a page of HTML instead"
    )
    unauthorized: float = Field(default=0, ge=0, le=1, description="Share answered 401")
    at: dict[int, FaultName] = Field(
        default_factory=dict, description="The fault of one request, by its number from 1"
    )
    drift_every: int = Field(
        default=0, ge=0, description="Someone edits a record at each so many'th list request"
    )
    drift_kinds: tuple[Literal["edit", "create", "delete"], ...] = Field(
        default=("edit",), description="What that someone does, drawn from the seed"
    )


class Limits(Switches):
    """Quotas, and how the app speaks of them."""

    quotas: tuple[Quota, ...] = Field(default=(), description="All of them hold")
    dialect: Dialect = Field(
        default="seconds",
        description="Headers of a refusal: `seconds`, `date` and `zero` of Retry-After; "
        "`reset_epoch`, `reset_epoch_ms`, `reset_relative` of X-RateLimit-Reset; `ietf` the fields "
        "RateLimit-Limit, -Remaining and -Reset, `ietf_structured` RateLimit and RateLimit-Policy; "
        "`github`, `hubspot`, `shopify` as those apps do; `silent` none",
    )
    announced: bool = Field(default=True, description="Good answers tell what is left, too")


class Access(Switches):
    """Who may ask."""

    kind: Literal["none", "token", "basic", "oauth"] = Field(
        default="token",
        description="`token`: `Authorization: Bearer`, `X-Api-Key` or `?api_key=`; `basic`: "
        "account and token; `oauth`: tokens of `/oauth/token`",
    )
    accounts: tuple[str, ...] = Field(
        default=("acme",), description="Accounts; the token of one is `token-<account>`"
    )
    custom_fields: int = Field(
        default=0, ge=0, description="Fields of its own on each account's records"
    )
    token_seconds: float = Field(
        default=3600, gt=0, description="oauth: how long an access token lives; real time"
    )
    rotate: bool = Field(
        default=True,
        description="oauth: each refresh gives a new refresh token, and an old one sent again "
        "revokes all of the account's",
    )


class Wire(Switches):
    """How answers travel."""

    gzip: bool = Field(default=False, description="Compressed for clients that take it")


class Hooks(Switches):
    """How the app sends webhooks; shares are drawn from the seed."""

    longest_seconds: float | None = Field(
        default=None, gt=0, description="A subscription ends after so long at most; real time"
    )
    id_only: bool = Field(default=False, description="A webhook has the record's id, not itself")
    dropped: float = Field(default=0, ge=0, le=1, description="Share of changes not told of")
    duplicate: float = Field(default=0, ge=0, le=1, description="Share sent twice")
    forged: float = Field(
        default=0, ge=0, le=1, description="Share sent once more by somebody else, with lies"
    )
    late: float = Field(default=0, ge=0, le=1, description="Share that others overtake")
    late_by: int = Field(default=5, gt=0, description="By how many, at most")
    attempts: int = Field(
        default=1, gt=0, description="How often one is sent that isn't answered 2xx"
    )
    again_seconds: float = Field(default=1, ge=0, description="How long after; real time")


MODELS: tuple[type[Switches], ...] = (Collection, Quota, Limits, Faults, Access, Wire, Hooks)
"""Every model of switches."""
