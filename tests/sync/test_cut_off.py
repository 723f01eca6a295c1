"""Readings that are cut off before any of their requests: the next one comes to the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import AppUnavailable
from membrane_sync.records import Answer, Call
from membrane_sync.sync.run import run_sync
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake
from tests.sync.parts import parties, resolved
from tests.sync.test_caps import TIE, Capped, capped
from tests.sync.test_listing import DELTA, GRAPHQL, Delta, Timed, declared, graph, windowed
from tests.sync.test_styles import App, collection

Respond = Callable[[Call], Answer]
Case = tuple[DataCollection, Respond, set[str]]


def of_ties() -> Case:
    app = Capped([1, 1, *[2] * 13, 3, 4, 4], cap=6, page_size=3, silent=False)
    return capped(6, 3, TIE), app.respond, {record["id"] for record in app.records}


def of_windows() -> Case:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    app = Timed([start + timedelta(hours=5 * i) for i in range(14)])
    of = windowed(window={"start": start.isoformat()})
    return of, app.respond, {record["id"] for record in app.records}


def of_tokens() -> Case:
    app = Delta()
    app.put(*"abcdefg")
    return DELTA, app.respond, set("abcdefg")


def of_graphql() -> Case:
    return declared(GRAPHQL), graph, {"0", "1", "2", "3", "4"}


def by_headers() -> Case:
    app = App("none", 2, inclusive=True)
    for number in range(7):
        app.put(f"r{number}", 1)
    of = collection("header", "none", inclusive=True, notation="epoch")
    return of, app.respond, set(app.records)


def trailing() -> Case:
    app = App("ascending", 2, inclusive=True)
    for number in range(7):
        app.put(f"r{number}", 1)
    of = collection("page", "ascending", inclusive=True, notation="iso")
    assert of.list_ is not None and of.list_.cursor is not None
    settle: dict[str, Any] = {"settle": {"seconds": 1, "every_seconds": 60}}
    cursor = type(of.list_.cursor).model_validate(
        {**of.list_.cursor.model_dump(exclude_unset=True), **settle}
    )
    method = of.list_.model_copy(update={"cursor": cursor})
    return of.model_copy(update={"list_": method}), app.respond, set(app.records)


CASES = (of_ties, of_windows, of_tokens, of_graphql, by_headers, trailing)


def asked(calls: Sequence[Call]) -> list[Any]:
    """What tells the calls apart; the end of the last window is when it was asked for."""
    return [
        (c.url, {k: v for k, v in c.query.items() if k != "to"}, c.headers, c.body) for c in calls
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_reading_that_was_cut_off_asks_for_no_page_twice(case: Callable[[], Case]) -> None:
    of, respond, truth = case()
    whole = FakeApi(respond)
    run_sync(resolved(of), parties(whole, MemoryLake(), MemoryDestination()))
    assert whole.requests > 2
    for fail_at in range(1, whole.requests + 1):
        api, lake = FakeApi(respond, fail_at=fail_at), MemoryLake()
        all_ = parties(api, lake, MemoryDestination())
        with pytest.raises(AppUnavailable):
            run_sync(resolved(of), all_)
        api.fail_at = None
        run_sync(resolved(of), all_)
        assert set(lake.records("contacts")) == truth, f"cut off before request {fail_at}"
        went_on = api.calls[fail_at : whole.requests + 1]
        assert asked(went_on) == asked(whole.calls[fail_at - 1 :]), "and no page twice"
        writes = lake.writes
        assert run_sync(resolved(of), all_).written == 0 or lake.writes == writes
