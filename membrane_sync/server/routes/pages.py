"""Lists a page at a time, by an opaque cursor."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from membrane_sync.errors import Fatal

T = TypeVar("T")
R = TypeVar("R")

Limit = Annotated[int, Query(ge=1, le=200, description="How many, at most")]
Cursor = Annotated[
    str, Query(max_length=1500, description="`next_cursor` of the page before; empty for the first")
]


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


def page(
    read: Callable[[str, int], Sequence[R]],
    shown: Callable[[R], T],
    key: Callable[[R], str],
    cursor: str,
    limit: int,
) -> Page[T]:
    """The page after `cursor`; `read` gives so many rows after a key."""
    rows = read(_key(cursor), limit + 1)
    items = [shown(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items=items, next_cursor=_cursor(key(rows[limit - 1])) if more else None)


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _key(cursor: str) -> str:
    try:
        key = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        key = "\0"
    if "\0" in key:
        raise Fatal("this `cursor` is none of ours", hint="take `next_cursor` as it came")
    return key
