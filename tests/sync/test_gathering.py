"""Gathering: pages become one batch, whose memory the next one takes unless it's still held."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from membrane_sync.records import Batch, RawRecord, RawRecords, Texts
from membrane_sync.sync.gathering import Gathering
from membrane_sync.sync.pull import Pulled

PAGES = [
    [RawRecord("a", '{"n":"ü"}'), RawRecord("b", "{}", True)],
    [],
    [RawRecord("c", "[1]"), RawRecord("a", '{"n":2}')],
]


def pulled(records: Any, *, named: bool = True, stored: bool = False) -> Pulled:
    return Pulled(len(records), Batch("contacts", records, cursor=1), named, stored)


def cut(records: list[RawRecord]) -> RawRecords:
    """As they come out of an answer: views of it."""
    content = f"[{', '.join(payload for _, payload, _ in records)}]".encode()
    pieces = msgspec.json.decode(content, type=list[msgspec.Raw])
    gone = [at for at, record in enumerate(records) if record.deleted]
    return RawRecords([record.external_id for record in records], Texts([*pieces]), gone)


@pytest.mark.parametrize("shaped", [list, RawRecords.of, cut])
def test_a_batch_has_the_records_of_all_pages(shaped: Any) -> None:
    gathering = Gathering()
    for records in PAGES:
        gathering.add(pulled(shaped(records)))
    batch = gathering.batch()
    assert batch is not None
    assert [*batch.records] == [record for records in PAGES for record in records]
    assert (gathering.rows, gathering.size, gathering.received) == (4, 10 + 2 + 3 + 7, 4)


def test_texts_and_views_may_follow_one_another() -> None:
    gathering = Gathering()
    mixed = RawRecords(["a", "b"], Texts([b"{}", '"ü"']))
    for records in (PAGES[0], mixed, cut(PAGES[2])):
        gathering.add(pulled(records))
    batch = gathering.batch()
    assert batch is not None
    assert [*batch.records] == [*PAGES[0], *mixed, *PAGES[2]]


def test_what_is_stored_already_is_no_part_of_it() -> None:
    gathering = Gathering()
    gathering.add(pulled(PAGES[0], named=False, stored=True))
    assert (gathering.batch(), gathering.rows, gathering.is_named) == (None, 0, False)


def test_the_next_batch_takes_the_memory_of_the_last() -> None:
    gathering = Gathering()
    places = []
    for records in PAGES[0], PAGES[2]:
        gathering.add(pulled(records))
        places.append(_place(gathering.batch()))
        gathering.clear()
    assert places[0] == places[1]
    assert (gathering.batch(), gathering.rows, gathering.size) == (None, 0, 0)


def _place(batch: Batch | None) -> int:
    assert batch is not None
    payloads = RawRecords.of(batch.records).payloads
    assert payloads.end_to_end is not None
    return int(pa.py_buffer(payloads.end_to_end[0]).address)


def test_a_batch_that_is_still_held_stays_as_it_was() -> None:
    gathering = Gathering()
    gathering.add(pulled(PAGES[0]))
    held = gathering.batch()
    gathering.clear()
    gathering.add(pulled(PAGES[2]))
    assert held is not None
    assert [*held.records] == PAGES[0]
