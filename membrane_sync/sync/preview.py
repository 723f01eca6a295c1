"""Run a mapper on lines of JSON: what a sync would make of each record, without a lake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from membrane_sync.formulas import MISSING, FieldError
from membrane_sync.sync.mapper import Mapped, Mapper, map_values

BATCH_LINES = 1_000
BATCH_BYTES = 8_000_000
"""What is held at a time, whichever comes first; a single line may be larger."""


@dataclass(frozen=True)
class Answer:
    """What one line becomes: a line of JSON without its end."""

    line: bytes
    dropped: frozenset[str] = frozenset()
    unreadable: bool = False


def preview(mapper: Mapper, lines: Iterable[bytes]) -> Iterator[Answer]:
    """One answer for each line, in their order.

    A record that fails becomes `{"error": …}`, and so does a line that is no JSON; a result that's
    undefined becomes `null`.
    """
    for batch in _batches(lines):
        parsed = [_parsed(line) for line in batch]
        mapped = map_values(mapper, [found for found in parsed if not isinstance(found, Answer)])
        for found in parsed:
            yield found if isinstance(found, Answer) else _answer(next(mapped))


def _batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    waiting: list[bytes] = []
    size = 0
    for number, line in enumerate(lines):
        waiting.append(line if number else line.removeprefix(b"\xef\xbb\xbf"))
        size += len(line)
        if len(waiting) >= BATCH_LINES or size >= BATCH_BYTES:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return _unreadable(error)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unreadable(error: ValueError | RecursionError) -> Answer:
    if isinstance(error, json.JSONDecodeError):
        why = f"{error.msg} at character {error.pos + 1}"
    elif isinstance(error, UnicodeDecodeError):
        why = f"no UTF-8 at byte {error.start + 1}"
    else:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Answer(_line({"error": {"reason": f"the line is no JSON: {why}"}}), unreadable=True)


def _answer(mapped: Mapped) -> Answer:
    if mapped.errors:
        first, *others = [_said(error) for error in mapped.errors]
        more = {"also": others} if others else {}
        return Answer(_line({"error": {**first, **more}}), mapped.dropped)
    text = "null" if mapped.text is None else mapped.text
    return Answer(text.encode(), mapped.dropped)


def _said(error: FieldError) -> dict[str, Any]:
    said = {"field": error.field, "reason": error.reason, "formula": error.formula}
    parts = said if error.value is MISSING else {**said, "value": error.value}
    return {name: part for name, part in parts.items() if name == "reason" or _is_json(part)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _line(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
