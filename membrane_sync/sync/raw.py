"""One record on its way into the lake: its id, its JSON text, and whether it's a tombstone."""

from __future__ import annotations

import json
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import Rejected
from membrane_sync.formulas import MISSING, FormulaError, evaluate
from membrane_sync.formulas.locators import reader
from membrane_sync.records import RawRecord


def raw_record(collection: DataCollection, record: Any, text: str | None = None) -> RawRecord:
    """The record as the collection declares it; raises Rejected for one that can't be kept."""
    found = reader(collection.id)(record) if isinstance(record, dict) else MISSING
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise Rejected(f"the record has no id at {collection.id}")
    try:
        gone = collection.deletes.tombstone
        value = MISSING if gone is None else evaluate(gone, record)
        deleted = value is not MISSING and bool(value)
        return RawRecord(whole_text(str(found)), text or json_text(record), deleted)
    except FormulaError as error:
        raise Rejected(f"its tombstone can't be read: {error}") from None
    except (ValueError, RecursionError):
        raise Rejected("it holds what can't be kept as JSON") from None


def json_text(value: Any) -> str:
    """The value as JSON; raises ValueError for NaN and infinities."""
    return whole_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def whole_text(text: str) -> str:
    """The text with a replacement character for each half of a character, which no store takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
