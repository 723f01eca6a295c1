"""Pull: what becomes a record, and how far the cursor may move with each page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import AppUnavailable, UnexpectedAnswer
from membrane_sync.records import Answer, Call, DeadLetter, RawRecord
from membrane_sync.sync.pull import Pulled, Reading, pull
from membrane_sync.testing import FakeApi, answer
from tests.sync.parts import PAGES, App, collection

TOMBSTONE = {"deletes": {"tombstone": {"$var": "$.deleted"}}}


def read(of: DataCollection, *pages: list[Any], **reading: Any) -> list[Pulled]:
    """Pull these pages one after another; then comes an empty one."""
    waiting = list(pages)

    def respond(call: Call) -> Answer:
        return answer({"data": waiting.pop(0) if waiting else []})

    return list(pull(Reading(of, "contacts", **reading), FakeApi(respond)))


def records(pulled: list[Pulled]) -> list[RawRecord]:
    return [record for page in pulled for record in page.batch.records]


def dead(pulled: list[Pulled]) -> list[DeadLetter]:
    return [letter for page in pulled for letter in page.batch.dead_letters]


def cursors(pulled: list[Pulled]) -> list[Any]:
    return [page.batch.cursor for page in pulled]


def at(*values: Any) -> list[dict[str, Any]]:
    return [{"id": f"{value}-{i}", "at": value} for i, value in enumerate(values)]


# --- records -------------------------------------------------------------------------------------


def test_a_record_keeps_all_that_came() -> None:
    record = {"id": 7, "name": "Zoë 😀", "big": 2**80, "nested": {"a": [None]}}
    (raw,) = records(read(collection(), [record]))
    assert raw.external_id == "7" and not raw.deleted
    assert json.loads(raw.payload) == record


def test_bad_records_are_dead_letters_and_the_rest_goes_on() -> None:
    bad = [
        "text",
        None,
        5,
        {},
        {"id": ""},
        {"id": None},
        {"id": True},
        {"id": {"a": 1}},
        {"id": 1.5},
    ]
    pulled = read(collection(), [{"id": "a"}, *bad, {"id": "b"}])
    assert [raw.external_id for raw in records(pulled)] == ["a", "b"]
    letters = dead(pulled)
    assert [json.loads(letter.value) for letter in letters] == bad
    assert {(x.verb, x.element, x.field) for x in letters} == {("pull", "contacts", "id")}
    assert len({letter.external_id for letter in letters}) == len(bad)
    assert pulled[0].received == len(bad) + 2
    assert not all(page.named for page in pulled)


def test_numbers_that_json_cannot_hold_are_dead_letters() -> None:
    page = [{"id": "a", "x": float("nan")}, {"id": "b", "x": [float("inf")]}, {"id": "c"}]
    pulled = read(collection(), page)
    assert [raw.external_id for raw in records(pulled)] == ["c"]
    assert [letter.external_id for letter in dead(pulled)] == ["a", "b"]
    assert "NaN or infinite" in dead(pulled)[0].reason
    assert pulled[0].named


def test_what_is_nested_too_deep_is_a_dead_letter() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    pulled = read(collection(), [{"id": "a", "x": deep}, {"id": "b"}])
    assert [raw.external_id for raw in records(pulled)] == ["b"]
    assert [(x.external_id, x.value) for x in dead(pulled)] == [("a", "")]
    assert "nested too deep" in dead(pulled)[0].reason


def test_half_a_character_is_replaced() -> None:
    (raw,) = records(read(collection(), [{"id": "a\ud83d", "name": "\ude00b 😀"}]))
    assert (raw.external_id, json.loads(raw.payload)["name"]) == ("a\ufffd", "\ufffdb 😀")
    assert dead(read(collection(), [{"name": "\ud83d"}]))[0].value == '{"name": "\ufffd"}'


def test_tombstones() -> None:
    page = [{"id": 1, "deleted": True}, {"id": 2, "deleted": False}, {"id": 3}]
    assert [raw.deleted for raw in records(read(collection(**TOMBSTONE), [*page]))] == [
        True,
        False,
        False,
    ]


def test_a_tombstone_that_cannot_be_read_harms_only_its_own_record() -> None:
    formula = {"$eval": {"$extractDate": {"$var": "$.gone"}}, "isNotEmpty": True}
    of = collection(deletes={"tombstone": formula})
    pulled = read(of, [{"id": 1, "gone": "never"}, {"id": 2}, {"id": 3, "gone": "2026-01-02"}])
    assert [(raw.external_id, raw.deleted) for raw in records(pulled)] == [
        ("2", False),
        ("3", True),
    ]
    (letter,) = dead(pulled)
    assert letter.external_id == "1" and "tombstone can't be read" in letter.reason


def test_the_boundary_that_comes_twice_is_dropped() -> None:
    of = collection(PAGES, {})
    boundary = {"id": "b", "at": 2}
    changed = {"id": "b", "at": 2, "x": 1}
    first, second, *_ = read(of, [{"id": "a", "at": 1}, boundary], [boundary, {"id": "c", "at": 3}])
    assert [raw.external_id for raw in second.batch.records] == ["c"]
    assert (first.received, second.received) == (2, 1)
    _, second, *_ = read(of, [boundary], [changed])
    assert [raw.external_id for raw in second.batch.records] == ["b"]


# --- the cursor ----------------------------------------------------------------------------------


def test_each_page_of_a_sorted_listing_carries_its_cursor() -> None:
    assert cursors(read(collection(PAGES, {}), at(1, 2), at(3), cursor=0)) == [2, 3, None]


def test_an_unsorted_listing_moves_at_its_end() -> None:
    of = collection(PAGES, {"sorted": "none"})
    assert cursors(read(of, at(5, 1), at(3))) == [None, None, 5]


@pytest.mark.parametrize("sorted_", ["none", "descending"])
def test_an_unsorted_listing_moves_no_further_than_its_first_answer(sorted_: str) -> None:
    """What is newer may have changed while it was read, as may others that came before."""
    of = collection(PAGES, {"sorted": sorted_})
    assert cursors(read(of, at(3, 1), at(9), at(2))) == [None, None, None, 3]
    assert cursors(read(of, at(None), at(9))) == [None] * 3
    timed = collection(PAGES, {"sorted": sorted_, "type": "timestamp"})
    soon = datetime.now(UTC).isoformat()
    pages = [at("2001-01-01"), at("2026-01-01T00:00:00Z", soon), at("2003-01-01")]
    assert cursors(read(timed, *pages))[-1] == "2026-01-01T00:00:00Z"


def test_a_value_the_cursor_cannot_move_to_is_a_dead_letter_of_a_kept_record() -> None:
    of = collection(PAGES, {"type": "timestamp"})
    first = at("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon", 5)
    pulled = read(of, first, at("2026-01-02T00:00:00Z"))
    assert len(records(pulled)) == 5
    assert cursors(pulled) == ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", None]
    letters = dead(pulled)
    assert [(x.external_id, x.field, x.value) for x in letters] == [
        ("2999-01-01T00:00:00Z-1", "at", "2999-01-01T00:00:00Z"),
        ("soon-2", "at", "soon"),
        ("5-3", "at", "5"),
    ]
    assert "more than a day ahead" in letters[0].reason
    assert "should be a timestamp" in letters[1].reason
    assert pulled[0].received == 4


def test_the_cursor_never_moves_backwards() -> None:
    assert (
        cursors(read(collection(PAGES, {"sorted": "none"}), at(3), at(4), cursor=9)) == [None] * 3
    )
    assert cursors(read(collection(), at(3), cursor=9)) == [None]


def test_the_request_asks_from_the_stored_cursor() -> None:
    api = FakeApi(lambda call: answer({"data": []}))
    lagging = collection(cursor={"lag_seconds": 5, "granularity": "second"})
    list(pull(Reading(lagging, "contacts", cursor=100), api))
    assert api.calls[0].query == {"since": 95}
    list(pull(Reading(collection(cursor={}), "contacts", cursor=None), api))
    list(pull(Reading(collection(cursor={}), "contacts", cursor=100, full=True), api))
    assert [dict(call.query) for call in api.calls[1:]] == [{}, {}]


def test_records_without_a_cursor_value() -> None:
    page = [{"id": "a", "at": 1}, {"id": "b"}, {"id": "c", "at": None}]
    kept = read(collection(cursor={"nulls": "include"}), page)
    assert len(records(kept)) == 3 and cursors(kept) == [1]
    excluding = collection(cursor={"nulls": "exclude"})
    assert len(records(read(excluding, page))) == 1 and dead(read(excluding, page)) == []
    scanned = read(excluding, page, full=True, scan="s")
    assert [raw.external_id for raw in records(scanned)] == ["a"]
    assert [(x.external_id, x.field) for x in dead(scanned)] == [("b", "at"), ("c", "at")]
    with pytest.raises(UnexpectedAnswer, match=r"a record has no \$\.at"):
        read(collection(cursor={"nulls": "fail"}), page)


def test_a_full_reading_does_not_skip_tombstones_it_was_not_shown() -> None:
    of = collection(cursor={}, **TOMBSTONE)
    assert cursors(read(of, at(7, 9), cursor=5, full=True)) == [None]
    assert cursors(read(of, at(7, 9), cursor=5, full=True, scan="s")) == [None]
    assert cursors(read(of, at(7, 9), full=True)) == [9], "the first reading sets it"
    assert cursors(read(collection(cursor={}), at(7, 9), cursor=5, full=True)) == [9]


def test_a_failure_leaves_the_pages_before_it() -> None:
    app = App(page_size=1)
    for name in "abc":
        app.put(name)
    api = FakeApi(app.respond, fail_at=3)
    pages = pull(Reading(collection(PAGES, {}), "contacts", run_id="r", scan="s"), api)
    first = next(pages)
    assert (first.batch.cursor, first.batch.run_id, first.batch.scan) == (1, "r", "s")
    next(pages)
    with pytest.raises(AppUnavailable):
        next(pages)


# --- lists that shift while they're read ---------------------------------------------------------


def test_records_that_change_while_being_read_push_no_others_out() -> None:
    app = App(page_size=3)
    for number in range(12):
        app.put(f"r{number}")
    asked = 0

    def between() -> None:
        nonlocal asked
        asked += 1
        if 1 < asked < 8:
            app.put(f"r{asked - 2}", changed=True)

    app.between = between
    pulled = list(pull(Reading(collection(PAGES, {}), "contacts"), FakeApi(app.respond)))
    latest = {raw.external_id: json.loads(raw.payload) for raw in records(pulled)}
    assert latest == app.records
    assert cursors(pulled)[-1] in (None, app.now)


@pytest.mark.parametrize("ties", [3, 4, 7, 12])
def test_ties_larger_than_a_page_are_drained(ties: int) -> None:
    app = App(page_size=3)
    app.put("first")
    for number in range(ties):
        app.put(f"t{number}", tick=0 if number else 1)
    app.put("last")
    pulled = list(pull(Reading(collection(PAGES, {}), "contacts"), FakeApi(app.respond)))
    assert {raw.external_id for raw in records(pulled)} == set(app.records)
    committed = [cursor for cursor in cursors(pulled) if cursor is not None]
    assert committed == sorted(committed) and committed[-1] == app.now


@pytest.mark.parametrize("moment", range(2, 9))
def test_ties_that_change_while_being_read_push_no_others_out(moment: int) -> None:
    app = App(page_size=3)
    for number in range(8):
        app.put(f"t{number}", tick=0 if number else 1)
    app.put("last")
    asked = 0

    def between() -> None:
        nonlocal asked
        asked += 1
        if asked == moment:
            app.put("t0", changed=True)

    app.between = between
    seen: set[str] = set()
    for page in pull(Reading(collection(PAGES, {}), "contacts"), FakeApi(app.respond)):
        seen |= {raw.external_id for raw in page.batch.records}
        if page.batch.cursor is not None and page.batch.cursor > 1:
            assert seen == set(app.records), "the cursor moved past a record that wasn't read"
    assert seen == set(app.records)


def test_ties_that_never_come_the_same_are_given_up_without_moving_on() -> None:
    app = App(page_size=2)
    for number in range(4):
        app.put(f"t{number}", tick=0 if number else 1)
    app.put("last")
    shown = 0

    def reshuffled(call: Call) -> Answer:
        nonlocal shown
        shown += 1
        page = app.respond(call)
        ties = [record for record in page.body["data"] if record["at"] == 1]
        return answer(
            {"data": [{**record, "id": f"{shown}"} for record in ties]}
            if len(ties) == 2
            else page.body
        )

    committed: list[Any] = []
    with pytest.raises(AppUnavailable, match="share one cursor value came differently"):
        for page in pull(Reading(collection(PAGES, {}), "contacts"), FakeApi(reshuffled)):
            committed.append(page.batch.cursor)
    assert max(cursor for cursor in committed if cursor is not None) == 1


def test_a_skipped_answer_has_no_records_and_makes_no_scan_whole() -> None:
    skipped = Answer(404, {}, None, skipped=True)
    api = FakeApi(lambda _: skipped)
    (page,) = pull(Reading(collection(PAGES), "contacts", full=True, scan="s1"), api)
    assert (page.received, list(page.batch.records), page.named) == (0, [], False)
