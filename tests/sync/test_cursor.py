"""Cursor values: found, ordered, asked from, and moved without losing ties."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from membrane_sync.elements.data_collection import Cursor
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.sync.cursor import (
    CursorOrder,
    asked_from,
    marking,
    safe_checkpoint,
    stored_value,
    value_of,
)


def cursor(**more: Any) -> Cursor:
    base = {"field": "$.at", "type": "integer", "inclusive": True, "sorted": "ascending"}
    return Cursor.model_validate({**base, **more})


@pytest.mark.parametrize(
    ("kind", "values", "newest"),
    [
        ("integer", [9, 10, "11"], "11"),
        ("number", [9.5, "10.25", 2], "10.25"),
        ("string", ["b", "a", "ä"], "ä"),
        (
            "timestamp",
            ["2026-01-01T00:00:00+01:00", "2025-12-31T23:30:00Z"],
            "2025-12-31T23:30:00Z",
        ),
        (
            "timestamp",
            ["2026-01-01 00:00:00", "2026-01-01T00:00:00.001Z"],
            "2026-01-01T00:00:00.001Z",
        ),
    ],
)
def test_values_are_ordered_by_their_type(kind: str, values: list[Any], newest: Any) -> None:
    assert CursorOrder(cursor(type=kind)).newest(values) == newest


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", "x"), ("integer", True), ("number", []), ("string", 1), ("timestamp", "soon")],
)
def test_a_value_of_another_type_is_unexpected(kind: str, value: Any) -> None:
    with pytest.raises(UnexpectedAnswer, match=rf"\$\.at should be a {kind}"):
        CursorOrder(cursor(type=kind)).key(value)


@pytest.mark.parametrize(
    ("kind", "granularity", "lag", "stored", "asked"),
    [
        ("integer", "second", 0, 100, 100),
        ("integer", "second", 10, 100, 90),
        ("integer", "second", 10, "100", 90),
        ("integer", "millisecond", 0.1, 1_000, 900),
        ("integer", "microsecond", 1, 5_000_000, 4_000_000),
        ("integer", "minute", 90, 100, 98),
        ("integer", "day", 60, 100, 99),
        ("integer", "second", 0.5, 100, 99),
        ("number", "second", 0.5, 100, 99.5),
        ("number", "millisecond", 0.5, 1000.5, 500.5),
        ("timestamp", None, 60, "2026-01-01T00:00:30Z", "2025-12-31T23:59:30Z"),
        ("timestamp", None, 60, "2026-01-01 00:00:30", "2025-12-31 23:59:30"),
        ("timestamp", None, 1, "2026-01-01T00:00:00.250Z", "2025-12-31T23:59:59.250Z"),
        ("timestamp", None, 1, "2026-01-01T00:00:00.250-05:00", "2025-12-31T23:59:59.250-05:00"),
        ("timestamp", None, 1, "2026-01-01T00:00:00+05:30", "2025-12-31T23:59:59+05:30"),
        (
            "timestamp",
            None,
            1,
            "2026-01-01T00:00:00.123456+00:00",
            "2025-12-31T23:59:59.123456+00:00",
        ),
        ("timestamp", None, 60, "2026-01-02", "2026-01-01"),
        ("timestamp", None, 0.5, "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z"),
        ("string", None, 0, "abc", "abc"),
        ("integer", "second", 10, None, None),
    ],
)
def test_the_lag_is_taken_off_in_the_same_notation(
    kind: str, granularity: str | None, lag: float, stored: Any, asked: Any
) -> None:
    declared = cursor(type=kind, granularity=granularity, lag_seconds=lag)
    assert asked_from(declared, stored) == asked
    assert type(asked_from(declared, stored)) is type(asked)


LAGGING = {"inclusive": False, "lag_seconds": 5, "granularity": "second"}


@pytest.mark.parametrize(
    ("declared", "values", "last", "checkpoint"),
    [
        ({}, [], True, None),
        ({}, [1, 2, 2], False, 2),
        ({}, [1, 2, 2], True, 2),
        ({"inclusive": False, "unique": True}, [1, 2], False, 2),
        # Of records equal to 2, more may follow on the next page: they'd be left out.
        (LAGGING, [1, 2, 2], False, 1),
        (LAGGING, [2, 2], False, None),
        (LAGGING, [1, 2, 2], True, 2),
    ],
)
def test_the_checkpoint_loses_no_ties(
    declared: dict[str, Any], values: list[int], last: bool, checkpoint: int | None
) -> None:
    of = cursor(**declared)
    assert safe_checkpoint(of, CursorOrder(of), values, last=last) == checkpoint


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOON_SECONDS = int(NOON.timestamp())


@pytest.mark.parametrize(
    ("declared", "value", "usable"),
    [
        ({"type": "timestamp"}, "2026-01-03T12:00:00Z", True),
        ({"type": "timestamp"}, "2026-01-03T12:00:01Z", False),
        ({"type": "timestamp"}, "2026-01-03 14:00:01+02:00", False),
        ({"type": "timestamp"}, "soon", False),
        ({"granularity": "second"}, NOON_SECONDS + 86_400, True),
        ({"granularity": "second"}, NOON_SECONDS + 86_401, False),
        ({"granularity": "millisecond"}, (NOON_SECONDS + 86_400) * 1_000, True),
        ({"granularity": "millisecond"}, str((NOON_SECONDS + 86_401) * 1_000), False),
        ({"granularity": "microsecond", "type": "number"}, (NOON_SECONDS + 86_401) * 1e6, False),
        # Without a granularity a number is no time.
        ({}, 10**18, True),
        ({"type": "string"}, "9999-01-01", True),
        ({"type": "number"}, "nan", False),
        ({"type": "number"}, "inf", False),
    ],
)
def test_a_time_to_come_or_an_unreadable_value_is_not_moved_to(
    declared: dict[str, Any], value: Any, usable: bool
) -> None:
    order = CursorOrder(cursor(**declared), now=NOON)
    record = {"at": value}
    assert order.found(record) == value
    assert (order.value(record) == value, order.fault(record) == "") == (usable, usable)


@pytest.mark.parametrize(
    ("declared", "value", "old"),
    [
        ({"type": "timestamp"}, "2026-01-01T12:00:00Z", True),
        ({"type": "timestamp"}, "2026-01-01T12:00:01Z", False),
        ({"granularity": "second"}, NOON_SECONDS - 86_400, True),
        ({"granularity": "second"}, NOON_SECONDS, False),
        ({}, 1, False),
        ({"type": "string"}, "1970-01-01", False),
    ],
)
def test_only_a_time_is_surely_old(declared: dict[str, Any], value: Any, old: bool) -> None:
    assert CursorOrder(cursor(**declared), now=NOON).is_old(value) is old


def test_a_stored_cursor_says_nothing_to_another_declaration() -> None:
    stored = marking(cursor())(7)
    assert (stored_value(cursor(), stored), value_of(stored)) == (7, 7)
    assert stored_value(cursor(sorted="none", nulls="fail"), stored) == 7
    assert stored_value(cursor(type="number"), stored) is None
    assert stored_value(cursor(field="$.changed"), stored) is None
    assert stored_value(cursor(), 7) is None, "nobody knows of which declaration it is"
    assert marking(cursor())(None) is None
