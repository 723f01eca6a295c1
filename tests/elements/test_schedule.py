"""Cron expressions and time zones are checked before anything is scheduled."""

from __future__ import annotations

import pytest

from membrane_sync.elements.cycles import cycles
from membrane_sync.elements.schedule import cron_expression, timezone_name

RIGHT = [
    "* * * * *",
    "*/15 * * * *",
    "0 6 * * mon-fri",
    "0 6 * * MON,WED",
    "0 0 1 jan,jul *",
    "5-50/5 0-6,22-23 * * *",
    "0 22-2 * * sat-mon",
    "0 0 29 2 *",
    "0 0 * * 7",
    "@daily",
]
WRONG = {
    "": "0 fields",
    "* * * *": "4 fields",
    "* * * * * *": "6 fields",
    "60 * * * *": "'60' is no minute",
    "* 24 * * *": "'24' is no hour",
    "* * 0 * *": "'0' is no day of month",
    "* * * 13 *": "'13' is no month",
    "* * * * 8": "'8' is no day of week",
    "* * * * mo": "'mo' is no day of week",
    "*/0 * * * *": "is no minute",
    "1- * * * *": "is no minute",
    ", * * * *": "is no minute",
    "-1 * * * *": "is no minute",
    "²  * * * *": "is no minute",
    "0 0 30 feb *": "none of its months",
    "0 0 31 4,6,9,11 *": "none of its months",
    "@often": "unknown cron shorthand",
}


@pytest.mark.parametrize("text", RIGHT)
def test_cron_expressions(text: str) -> None:
    assert cron_expression(text) == text


@pytest.mark.parametrize(("text", "says"), WRONG.items())
def test_no_cron_expressions(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cron_expression(text)


@pytest.mark.parametrize("text", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_time_zones(text: str) -> None:
    assert timezone_name(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("", "write it as Europe/Berlin"),
        ("../etc/passwd", "unknown time zone"),
    ],
)
def test_no_time_zones(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        timezone_name(text)
    assert says in str(caught.value)


def test_cycles_start_where_the_graph_does() -> None:
    graph = {"a": ["b", "d"], "b": ["c"], "c": ["a"], "d": ["d"], "e": ["a", "nowhere"]}
    assert sorted(cycles(graph)) == [["a", "b", "c", "a"], ["d", "d"]]


def test_no_cycle() -> None:
    assert list(cycles({"a": ["b", "c"], "b": ["c"], "c": []})) == []
