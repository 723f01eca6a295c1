"""How the lake keeps one stream, as its collection and data source declare it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.data_source import Contract, DataSource
from membrane_sync.formulas.locators import steps_of


@dataclass(frozen=True)
class StreamRules:
    """What happens to undeclared fields, to old versions and to deleted records.

    `is_open`: undeclared fields become columns. `id_field` counts as declared; empty if the id is
    no field of the record itself. `history` keeps versions, `hard_deletes` no deleted record.
    """

    contract: Contract = "evolve"
    is_open: bool = False
    id_field: str = ""
    history: bool = False
    hard_deletes: bool = False


def rules_of(collection: DataCollection, sources: Iterable[DataSource]) -> StreamRules:
    """The rules of a stream; where several sources read it, the strictest contract holds."""
    sources = list(sources)
    declared = {source.contract for source in sources}
    strictest: Iterator[Contract] = (kind for kind in _STRICTEST_FIRST if kind in declared)
    contract = next(strictest, _STRICTEST_FIRST[-1])
    schema = collection.fields_schema
    steps = steps_of(collection.id)
    return StreamRules(
        contract=contract,
        is_open=contract == "evolve"
        and (not schema.get("properties") or schema.get("additionalProperties") is True),
        id_field=str(steps[0]) if steps else "",
        history=any(source.history for source in sources),
        hard_deletes=collection.deletes.mode == "hard",
    )


_STRICTEST_FIRST: list[Contract] = ["freeze", "discard", "evolve"]
