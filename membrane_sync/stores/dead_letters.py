"""Dead letters in the lake: what of the records that were handled couldn't be taken."""

from __future__ import annotations

from collections.abc import Sequence

from membrane_sync.records import DeadLetter
from membrane_sync.stores.feeds import now
from membrane_sync.stores.lake_file import LakeFile
from membrane_sync.stores.typed_table import Misfit


def replace_dead_letters(
    file: LakeFile, verb: str, element: str, handled: str, letters: Sequence[DeadLetter]
) -> None:
    """A record's old dead letters go when it's handled again, and its new ones come."""
    if not letters:
        _drop(file, verb, element, handled)
        return
    file.stage(
        "letters",
        {
            name: [getattr(letter, name) for letter in letters]
            for name in ("external_id", "field", "reason", "value", "formula")
        },
    )
    _drop(file, verb, element, f"{handled} UNION ALL SELECT external_id FROM letters")
    file.execute(
        "INSERT INTO lake.dead_letters SELECT ?, ?, external_id, field, reason, value, "
        "formula, ? FROM letters ORDER BY position",
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
            reason=f"the value is no {misfit.type}, as fields_schema says it is",
            value=misfit.value,
        )
        for misfit in misfits
    ]
