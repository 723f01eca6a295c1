"""Result caps: what lies beyond is read from the cursor on, and ties by their ids."""

from __future__ import annotations

import json
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.elements.data_collection import DataCollection, Pagination
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.records import Answer, Call
from membrane_sync.sync.pull import Pulled, Reading, pull
from membrane_sync.sync.windows import Bounds
from membrane_sync.testing import FakeApi, answer

TIE = {"query": {"at": {"$var": "$.tie.value"}, "after": {"$var": "$.tie.after"}}}


class Capped:
    """Sorted by time, ties as they come; no more than `cap` results to one query.

    Beyond the cap it answers an error, or nothing, as if there were no more.
    """

    def __init__(self, times: list[int], *, cap: int, page_size: int, silent: bool) -> None:
        records = [{"id": f"{i * 7919 % len(times):06d}", "at": at} for i, at in enumerate(times)]
        self.records = sorted(records, key=lambda record: record["at"])
        self.times = [record["at"] for record in self.records]
        self.cap, self.page_size, self.silent = cap, page_size, silent

    def respond(self, call: Call) -> Answer:
        query = call.query
        if "at" in query:
            return self.tied(query["at"], query.get("after", ""))
        since = query.get("since")
        first = 0 if since is None else bisect_left(self.times, since)
        start = query.get("offset", 0)
        if start + self.page_size > self.cap and not self.silent:
            raise UnexpectedAnswer("400: the result window is too large")
        end = min(start + self.page_size, self.cap)
        return answer({"data": self.records[first + start : first + end]})

    def tied(self, at: int, after: str) -> Answer:
        tie = [r for r in self.records if r["at"] == at and r["id"] > after]
        tie.sort(key=lambda record: record["id"])
        return answer({"data": tie[: self.page_size]})


def capped(cap: int, size: int, tie_break: dict[str, Any] | None = None) -> DataCollection:
    pagination: dict[str, Any] = {"type": "offset", "parameter": "offset", "result_cap": cap}
    pagination |= {"page_size": size, "page_size_parameter": "limit"}
    if tie_break is not None:
        pagination["tie_break"] = tie_break
    method = {
        "path": "/contacts",
        "query": {"since": {"$var": "$.cursor"}},
        "records": "$.body.data",
        "pagination": pagination,
        "cursor": {
            "field": "$.at",
            "type": "integer",
            "granularity": "millisecond",
            "inclusive": True,
            "sorted": "ascending",
        },
    }
    return DataCollection.model_validate({"key": "contacts", "list": method})


def read(of: DataCollection, app: Any, **reading: Any) -> list[Pulled]:
    return list(pull(Reading(of, "contacts", **reading), FakeApi(app.respond)))


def ids(pulled: list[Pulled]) -> list[str]:
    return [record.external_id for page in pulled for record in page.batch.records]


@pytest.mark.parametrize("silent", [False, True], ids=["error", "silent"])
def test_25_000_records_of_one_millisecond_behind_a_cap_of_10_000(silent: bool) -> None:
    times = [1] * 40 + [2] * 25_000 + [3] * 40
    app = Capped(times, cap=10_000, page_size=1_000, silent=silent)
    api = FakeApi(app.respond)
    pages = list(pull(Reading(capped(10_000, 1_000, TIE), "contacts"), api))
    found = ids(pages)
    assert len(found) == len(set(found)) == len(times)
    assert pages[-1].batch.cursor == 3 or 3 in [page.batch.cursor for page in pages]
    assert api.requests < 40


@pytest.mark.parametrize("silent", [False, True], ids=["error", "silent"])
def test_a_tie_beyond_the_cap_without_a_way_to_read_it_is_an_error(silent: bool) -> None:
    app = Capped([1, *[2] * 40, 3], cap=20, page_size=5, silent=silent)
    with pytest.raises(UnexpectedAnswer, match="20 records or more share one cursor value"):
        read(capped(20, 5), app)


def test_a_way_that_does_not_go_on_is_an_error() -> None:
    app = Capped([2] * 40, cap=20, page_size=5, silent=False)
    stuck = {"query": {"at": {"$var": "$.tie.value"}}}
    with pytest.raises(UnexpectedAnswer, match="don't go on after the last id"):
        read(capped(20, 5, stuck), app)


@settings(max_examples=150, deadline=None)
@given(
    times=st.lists(st.integers(0, 12), max_size=80),
    page_size=st.integers(1, 7),
    pages=st.integers(2, 4),
    rest=st.integers(0, 2),
    silent=st.booleans(),
    start=st.one_of(st.none(), st.integers(0, 12)),
)
def test_whatever_the_ties_all_is_read_once(
    times: list[int], page_size: int, pages: int, rest: int, silent: bool, start: int | None
) -> None:
    app = Capped(times, cap=page_size * pages + rest, page_size=page_size, silent=silent)
    of = capped(page_size * pages + rest, page_size, TIE)
    found = ids(read(of, app, cursor=start))
    truth = [r["id"] for r in app.records if start is None or r["at"] >= start]
    assert sorted(found) == sorted(truth)


@pytest.mark.parametrize("ties", [False, True])
def test_an_app_that_gives_no_next_page_at_its_cap_has_not_come_to_its_end(ties: bool) -> None:
    app = Capped([2] * 11 + [3] * (0 if ties else 5), cap=4, page_size=2, silent=True)

    def respond(call: Call) -> Answer:
        offset = int(call.query.get("token", 0))
        query = {name: v for name, v in call.query.items() if name != "token"}
        found = app.respond(Call("GET", call.url, {**query, "offset": offset})).body["data"]
        further = offset + 2 < min(app.cap, len(app.records))
        return answer({"data": found, "next": offset + 2 if further else None})

    of = capped(4, 2, TIE)
    assert of.list_ is not None
    token = {"type": "cursor", "parameter": "token", "next": {"$var": "$.body.next"}}
    kept = of.list_.pagination.model_dump(include={"result_cap", "tie_break"})
    for tie_break in (kept["tie_break"], None):
        pagination = Pagination.model_validate({**token, **kept, "tie_break": tie_break})
        by_token = of.list_.model_copy(update={"pagination": pagination})
        reading = Reading(of.model_copy(update={"list_": by_token}), "contacts")
        if tie_break is None:
            with pytest.raises(UnexpectedAnswer, match="4 records or more share"):
                list(pull(reading, FakeApi(respond)))
        else:
            assert sorted(ids(list(pull(reading, FakeApi(respond))))) == sorted(
                record["id"] for record in app.records
            )


def test_the_cursor_moves_with_the_pages_of_a_capped_list() -> None:
    app = Capped([1, 1, 2, 2, 3, 3, 4], cap=4, page_size=2, silent=False)
    cursors = [page.batch.cursor for page in read(capped(4, 2, TIE), app)]
    assert [c for c in cursors if c is not None] == [1, 2, 3, 4]


def windowed(cap: int, size: int) -> DataCollection:
    window = {"seconds": 8, "start": "1970-01-01"}
    method = {
        "path": "/contacts",
        "query": {"from": {"$var": "$.window.from"}, "to": {"$var": "$.window.to"}},
        "records": "$.body.data",
        "pagination": {"type": "offset", "parameter": "offset", "result_cap": cap}
        | {"page_size": size, "page_size_parameter": "limit"},
        "cursor": {"field": "$.at", "type": "integer", "granularity": "second"}
        | {"inclusive": True, "window": window},
    }
    return DataCollection.model_validate({"key": "contacts", "list": method})


class Unsorted:
    """Sorted by id, filtered by a time from and a time before, and capped."""

    def __init__(self, times: list[int], cap: int, page_size: int) -> None:
        self.records = [{"id": f"{i:03d}", "at": at} for i, at in enumerate(times)]
        self.cap, self.page_size = cap, page_size

    def respond(self, call: Call) -> Answer:
        query = call.query
        found = [r for r in self.records if query["from"] <= r["at"] < query["to"]]
        start = query.get("offset", 0)
        if start + self.page_size > self.cap:
            raise UnexpectedAnswer("400: the result window is too large")
        return answer({"data": found[start : start + self.page_size]})


def test_a_window_that_holds_more_than_the_cap_is_cut() -> None:
    app = Unsorted([*range(32), *range(8, 16), *range(8, 12)], cap=6, page_size=2)
    of = windowed(6, 2)
    pages = _until(of, app, 40)
    found = {json.loads(r.payload)["id"] for page in pages for r in page.batch.records}
    assert found == {record["id"] for record in app.records}


def test_a_window_that_can_not_be_cut_is_an_error() -> None:
    app = Unsorted([*range(32), *[9] * 7], cap=6, page_size=2)
    with pytest.raises(UnexpectedAnswer, match="no more than 6 records to one query"):
        _until(windowed(6, 2), app, 40)


def _until(of: DataCollection, app: Any, second: int) -> list[Pulled]:
    """Read as if now were so many seconds after 1970."""
    until = datetime.fromtimestamp(second, UTC)
    bounds = Bounds(datetime.fromtimestamp(0, UTC), until)
    return list(pull(Reading(of, "contacts", bounds=bounds), FakeApi(app.respond)))
