"""Raw records by the column are the same as one at a time, and reach Arrow without a copy each."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from membrane_sync.arrow import text_array, without
from membrane_sync.records import RawRecord, RawRecords, Texts

RECORDS = [RawRecord("a", '{"n":"ü"}'), RawRecord("b", "{}", True), RawRecord("c", "[]")]


def test_records_by_the_column_read_as_one_at_a_time() -> None:
    found = RawRecords.of(RECORDS)
    assert [*found] == RECORDS
    assert (found[1], found[-1], [*found[1:]]) == (RECORDS[1], RECORDS[2], RECORDS[1:])
    assert RawRecords.of(found) is found
    with pytest.raises(IndexError):
        found[3]


def test_chosen_records_keep_what_is_deleted() -> None:
    assert [*RawRecords.of(RECORDS).at([2, 1, 0])] == [*reversed(RECORDS)]


def test_texts_may_lie_end_to_end() -> None:
    texts = Texts.packed(memoryview("ü{}".encode()), array("q", [0, 2, 2, 4]))
    assert ([*texts], texts[-1], [*texts[1:]]) == (["ü", "", "{}"], "{}", ["", "{}"])
    assert (len(texts), texts.size) == (3, 4)
    assert text_array(texts).to_pylist() == [*texts]
    assert [*Texts.packed(memoryview(b""), array("q", [0]))] == []


def test_texts_are_decoded_when_asked_for() -> None:
    pieces = msgspec.json.decode('["ü",{"a":1}]'.encode(), type=list[msgspec.Raw])
    texts = Texts([*pieces, "plain"])
    assert [*texts] == ['"ü"', '{"a":1}', "plain"]
    assert [*texts[1:]] == ['{"a":1}', "plain"]
    assert texts.size == 4 + 7 + 5


@pytest.mark.parametrize("pieces", [[], ["", "ü"], ["ü".encode(), "x", b""]])
def test_an_array_of_texts(pieces: list[str | bytes]) -> None:
    texts = Texts([*pieces])
    array = text_array(texts)
    array.validate(full=True)
    assert array.to_pylist() == [*texts]
    assert text_array([*texts]).to_pylist() == [*texts]


def test_a_text_without_its_pieces() -> None:
    text = b'{"a": [ {"n":1}, {"n":2} ], "b":3}'
    pieces = msgspec.json.decode(text, type=dict[str, msgspec.Raw])["a"]
    records = msgspec.json.decode(pieces, type=list[msgspec.Raw])
    assert without(records, text) == b'{"a": [ null ], "b":3}'
    assert without([], text) == text
    with pytest.raises(ValueError, match="no views"):
        without([b"[]"], text)


def test_half_of_a_character_is_refused() -> None:
    for values in (["\ud83d"], Texts(["\ud83d"])):
        with pytest.raises(UnicodeEncodeError):
            text_array(values)
