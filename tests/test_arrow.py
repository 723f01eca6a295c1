"""Bytes and texts on their way into DuckDB."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from membrane_sync.arrow import is_utf8, json_array
from membrane_sync.records import Texts


@given(st.text().map(str.encode) | st.binary(), st.binary(max_size=3))
def test_utf8_is_what_python_takes_for_it(before: bytes, after: bytes) -> None:
    content = before + after
    try:
        content.decode()
    except UnicodeDecodeError:
        assert not is_utf8(content)
    else:
        assert is_utf8(content)


def test_texts_may_be_bytes_already_or_not() -> None:
    for pieces in (['"é"', b"1"], [b'"\xc3\xa9"', b"1"], ['"é"', "1"]):
        assert json_array(Texts(pieces)).to_pylist() == ['"é"', "1"]
