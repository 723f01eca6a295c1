"""Cursor: the value by which a sync asks only for what changed, as YAML declares it.

Carried out by `sync/cursor.py`, `sync/notation.py`, `sync/windows.py` and `sync/checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from membrane_sync.elements.base import Formula, Locator, Spec, Unfit
from membrane_sync.elements.schedule import Timezone

FORMATS = ("iso8601", "rfc2822", "epoch_seconds", "epoch_milliseconds", "epoch_microseconds")
"""Notations of time that have a name; any other is a strftime pattern, and has a `%`."""

SECONDS_PER_UNIT = {
    "day": 86_400,
    "hour": 3_600,
    "minute": 60,
    "second": 1,
    "millisecond": 0.001,
    "microsecond": 0.000_001,
}

Unit = Literal["day", "hour", "minute", "second", "millisecond", "microsecond"]

Found = Iterator[tuple[tuple[str | int, ...], str]]


def time_format(text: str) -> str:
    """The text, if it names a notation of time, or is a pattern that can be read back."""
    if text in FORMATS:
        return text
    if "%" not in text:
        named = ", ".join(FORMATS)
        raise ValueError(f"{text!r} is no format; use {named}, or a pattern as %Y-%m-%d")
    try:
        datetime.strptime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).strftime(text), text)
    except ValueError:
        raise ValueError(f"what the pattern {text!r} writes can't be read back") from None
    return text


TimeFormat = Annotated[str, AfterValidator(time_format)]


class Window(Spec):
    """The time from the cursor until now, asked for in slices: `$.window.from`, `$.window.to`."""

    seconds: float | None = Field(default=None, gt=0)
    days: int | None = Field(default=None, gt=0, description="Calendar days in `timezone`")
    timezone: Timezone = Field(default="UTC", description="Whose days; by IANA name")
    start: Formula = Field(default=None, description="Where the first sync begins: a time")
    includes_end: bool = Field(
        default=False, description="Does the app answer records equal to `$.window.to`?"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Window:
        if (self.seconds is None) == (self.days is None):
            raise ValueError("a window needs either seconds or days")
        if self.start is None:
            raise Unfit((("start",), "a window needs start: a time before the first record"))
        return self


class Settle(Spec):
    """A second cursor that trails, for records that show up late or change without a new time."""

    seconds: float = Field(gt=0, description="How long it can take until a record shows up")
    every_seconds: float = Field(gt=0, description="How often to ask from the trailing cursor")


class DeltaExpired(Spec):
    """By what an answer says that a delta token is no longer known."""

    status: list[int] = Field(default_factory=lambda: [410])
    when: Formula = Field(default=None, description="Over $.status, $.headers and $.body")


class Cursor(Spec):
    """The value by which the next sync asks only for what changed.

    The request sends it through a formula over `$.cursor`, which is absent on the first sync.
    """

    field: Locator = Field(default="", description="Where a record has it")
    value: Formula = Field(default=None, description="A formula over the record, instead of field")
    type: Literal["integer", "number", "timestamp", "string", "delta_token"]
    inclusive: bool = Field(
        default=True, description="Does the app answer records equal to the cursor again?"
    )
    unique: bool = Field(default=False, description="No two records ever share a value")
    sorted: Literal["ascending", "descending", "none"] = Field(
        default="none", description="ascending: each page can be committed with its cursor"
    )
    format: TimeFormat | None = Field(default=None, description="How the request has it")
    formats: list[TimeFormat] = Field(
        default_factory=list, description="How records have it, if not all as `format`"
    )
    timezone: Timezone | None = Field(default=None, description="Of times without an offset")
    granularity: Unit | None = Field(
        default=None, description="Unit of a number; of a timestamp, what the app's filter tells"
    )
    lag_seconds: float = Field(default=0, ge=0, description="Reach back so far at each sync")
    nulls: Literal["include", "exclude", "fail"] = Field(
        default="include",
        description="Records without a value; a sorted list must have those to include first",
    )
    window: Window | None = None
    window_seconds: float | None = Field(
        default=None, gt=0, description="Short for a window from 1970 on"
    )
    filtered_by: Literal["app", "client"] = "app"
    settle: Settle | None = None
    delta_token: Formula = Field(
        default=None, description="Token for the next sync, over $.body and $.headers"
    )
    delta_expired: DeltaExpired = Field(default_factory=DeltaExpired)

    @property
    def is_delta(self) -> bool:
        """Is it a token that the app gives, and not a value of records?"""
        return self.type == "delta_token"

    @property
    def is_time(self) -> bool:
        """Do its values stand for moments?"""
        return self.type == "timestamp" or (
            self.type in ("integer", "number") and self.granularity is not None
        )

    @property
    def keeps_ties(self) -> bool:
        """Can records that share a value with the cursor not be lost, when asked from it?"""
        return self.inclusive or self.unique or self.steps_back

    @property
    def steps_back(self) -> bool:
        """Is the request's value one granule before the cursor, since the app answers `>`?"""
        return self.type == "timestamp" and self.granularity is not None and not self.inclusive

    @property
    def slices(self) -> Window | None:
        """The window, also in its short form."""
        if self.window is None and self.window_seconds:
            return Window(seconds=self.window_seconds, start="1970-01-01T00:00:00Z")
        return self.window

    @model_validator(mode="after")
    def _makes_sense(self) -> Cursor:
        rules = (_delta_rules(self),) if self.is_delta else (_value_rules(self), _time_rules(self))
        found = [problem for rule in rules for problem in rule]
        if found:
            raise Unfit(*found)
        return self


def _delta_rules(cursor: Cursor) -> Found:
    if cursor.delta_token is None:
        yield ("type",), "a cursor of type delta_token needs delta_token: where the answer has it"
    allowed = {"type", "delta_token", "delta_expired"}
    for name in sorted(cursor.model_fields_set - allowed):
        yield (name,), f"a cursor of type delta_token has no {name}"


def _value_rules(cursor: Cursor) -> Found:
    given: set[str] = cursor.model_fields_set
    if (not cursor.field) == (cursor.value is None):
        yield ("field",), "a cursor needs either field or value: what of a record it is"
    if "inclusive" not in given and cursor.filtered_by == "app":
        yield (), "inclusive is missing: does the app answer records equal to the cursor again?"
    for name in sorted(given & {"delta_token", "delta_expired"}):
        yield (name,), f"{name} is for a cursor of type delta_token"
    if not cursor.keeps_ties and not cursor.lag_seconds and cursor.filtered_by == "app":
        yield (
            ("inclusive",),
            "an exclusive cursor whose values are not unique loses the records that share the "
            "last value; add unique: true if that can't happen, or lag_seconds",
        )
    if cursor.lag_seconds and cursor.type == "string":
        yield ("lag_seconds",), "a cursor of type string has no seconds to reach back by"
    elif cursor.lag_seconds and not cursor.is_time:
        yield (
            ("lag_seconds",),
            f"lag_seconds on a cursor of type {cursor.type} needs its granularity",
        )


def _time_rules(cursor: Cursor) -> Found:
    for name in ("format", "window", "window_seconds", "settle"):
        if getattr(cursor, name) is not None and not cursor.is_time:
            yield (name,), f"{name} needs times: a timestamp, or a number with its granularity"
    for name in ("formats", "timezone"):
        if getattr(cursor, name) and cursor.type != "timestamp":
            yield (name,), f"{name} is for a cursor of type timestamp"
    if cursor.window is not None and cursor.window_seconds is not None:
        yield ("window_seconds",), "window_seconds is short for window; write one of them"
    if cursor.slices is not None and cursor.is_time:
        yield from _window_rules(cursor, cursor.slices)
    if cursor.filtered_by == "client":
        for name in ("window", "window_seconds", "settle"):
            if getattr(cursor, name) is not None:
                yield (name,), f"{name} asks the app for a time, and filtered_by is client"
    elif cursor.settle is not None and cursor.slices is not None:
        yield ("settle",), "settle and window don't go together; lag_seconds makes windows overlap"


def _window_rules(cursor: Cursor, window: Window) -> Found:
    name = "window" if cursor.window is not None else "window_seconds"
    granule = SECONDS_PER_UNIT[cursor.granularity] if cursor.granularity else 0
    if cursor.granularity is None and not (cursor.inclusive and not window.includes_end):
        message = "bounds of which both or neither are answered meet only if granularity is known"
        yield (name,), message
    if window.seconds is not None and window.seconds < granule:
        yield (name,), f"a window shorter than a {cursor.granularity} has no records of its own"
