"""Dead letters in the lake: what of the records that were handled couldn't be taken."""

from __future__ import annotations

from collections.abc import Sequence

from membrane_sync.records import DeadLetter
from membrane_sync.stores.lake.feeds import now
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.typed_table import Misfit


def replace_dead_letters(
    file: LakeFile, verb: str, element: str, handled: str, letters: Sequence[DeadLetter]
) -> None:
    """A record's old dead letters go when it's handled again, and its new ones come."""
    if not letters:
        _drop(file, verb, element, handled)
        return
    _stage(file, letters)
    _drop(file, verb, element, f"{handled} UNION ALL SELECT external_id FROM letters")
    _insert(file, verb, element)


def replace_misfits(file: LakeFile, stream: str, table: str, misfits: Sequence[Misfit]) -> None:
    """Once the columns of `table` are filled anew: what didn't fit them before, and doesn't now.

    Other dead letters stay, as of a cursor that can't move, or of what a contract refused.
    """
    file.execute(_DROP_MISFITS.format(table=table), [stream, _MISFIT.format(type="%")])
    if misfits:
        _stage(file, misfit_letters(stream, misfits))
        alive = f"SELECT _external_id FROM {table} WHERE _deleted_at IS NULL"
        _insert(file, "pull", stream, where=f"external_id IN ({alive})")


_WORDS = {
    "BIGINT": "integer",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "VARCHAR": "string",
    "TIMESTAMP": "date-time",
    "DATE": "date",
}
"""Types of columns in the words of fields_schema."""


def _word(type: str) -> str:
    return "array" if type.endswith("[]") else _WORDS.get(type, "object")


_MISFIT = "the value is no {type}, as fields_schema says it is"

# What was refused for the same reason is another value than the one that the lake has.
_DROP_MISFITS = """
DELETE FROM lake.dead_letters WHERE rowid IN (
    SELECT d.rowid FROM lake.dead_letters d JOIN {table} r ON r._external_id = d.external_id
    WHERE d.verb = 'pull' AND d.element = ? AND d.reason LIKE ? AND d.value IS NOT DISTINCT FROM
    json_extract_string(r._payload, '/' || replace(replace(d.field, '~', '~0'), '/', '~1')))
"""


def _stage(file: LakeFile, letters: Sequence[DeadLetter]) -> None:
    file.stage(
        "letters",
        {
            name: [getattr(letter, name) for letter in letters]
            for name in ("external_id", "field", "reason", "value", "formula")
        },
    )


def _insert(file: LakeFile, verb: str, element: str, *, where: str = "true") -> None:
    file.execute(
        "INSERT INTO lake.dead_letters SELECT ?, ?, external_id, field, reason, value, "
        f"formula, ? FROM letters WHERE {where} ORDER BY position",
        [verb, element, now()],
    )


def _drop(file: LakeFile, verb: str, element: str, ids: str) -> None:
    file.execute(
        f"DELETE FROM lake.dead_letters WHERE verb = ? AND element = ? AND external_id IN ({ids})",
        [verb, element],
    )


def misfit_letters(stream: str, misfits: Sequence[Misfit]) -> list[DeadLetter]:
    """A dead letter for each value that doesn't fit its column."""
    return [
        DeadLetter(
            verb="pull",
            element=stream,
            external_id=misfit.external_id,
            field=misfit.field,
            reason=_MISFIT.format(type=_word(misfit.type)),
            value=misfit.value,
        )
        for misfit in misfits
    ]
