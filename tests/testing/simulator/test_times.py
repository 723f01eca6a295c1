"""Times are read back as they were written, in every notation and unit."""

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membrane_sync.testing.simulator.switches import Collection, Notation
from membrane_sync.testing.simulator.times import UNITS, Clockface, micros

MOMENT = micros(datetime(2026, 7, 1, 22, 3, 4, 56_789, tzinfo=UTC))


@pytest.mark.parametrize("notation", [n for n in get_args(Notation) if n != "strftime"])
@pytest.mark.parametrize("granularity", UNITS)
@given(us=st.integers(0, 4_000_000_000_000_000))
def test_what_is_written_is_read_back(notation: str, granularity: str, us: int) -> None:
    if notation == "epoch_ms" and granularity == "microsecond":
        return
    clock = Clockface(Collection(key="c", notation=notation, granularity=granularity))
    assert clock.read(clock.json(us).strip('"')) == clock.floor(us)


@pytest.mark.parametrize(
    ("switches", "text"),
    [
        ({}, '"2026-07-01T22:03:04.056Z"'),
        ({"granularity": "microsecond"}, '"2026-07-01T22:03:04.056789Z"'),
        ({"granularity": "second"}, '"2026-07-01T22:03:04Z"'),
        ({"granularity": "day"}, '"2026-07-01"'),
        ({"notation": "iso_offset"}, '"2026-07-02T00:03:04.056+02:00"'),
        ({"notation": "space"}, '"2026-07-01 22:03:04.056"'),
        ({"notation": "epoch_s", "granularity": "second"}, "1782943384"),
        ({"notation": "epoch_s"}, "1782943384.056"),
        ({"notation": "epoch_ms"}, "1782943384056"),
        ({"notation": "strftime", "granularity": "second"}, '"01.07.2026 22:03:04"'),
    ],
)
def test_each_notation(switches: dict, text: str) -> None:
    assert Clockface(Collection(key="c", **switches)).json(MOMENT) == text


def test_an_offset_whose_plus_was_not_encoded_is_understood() -> None:
    clock = Clockface(Collection(key="c", notation="iso_offset"))
    assert clock.read("2026-07-02T00:03:04.056 02:00") == clock.floor(MOMENT)
