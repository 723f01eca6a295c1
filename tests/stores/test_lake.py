"""What `ports.Lake` promises, of every lake there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from membrane_sync.errors import Fatal, Retryable
from membrane_sync.ports import Lake
from membrane_sync.records import DeadLetter, Link, LinkKey, MappedCounts, Offset, StoreCounts
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.testing import MemoryLake
from tests.stores.records import batch, mapped_record, raw

KEY = LinkKey("people")


@pytest.fixture(params=["duckdb", "memory"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "memory":
        yield MemoryLake()
        return
    schema = {"properties": {"id": {"type": "string"}, "name": {"type": "string"}}}
    opened = DuckDbLake(tmp_path / "acme.duckdb", schemas={"contacts": schema})
    yield opened
    opened.close()


def letters(lake: Lake) -> list[tuple[str, str, str, str, str]]:
    """Verb, element, external id, field and value of all dead letters."""
    if isinstance(lake, MemoryLake):
        found = [(x.verb, x.element, x.external_id, x.field, x.value) for x in lake.dead_letters]
    else:
        assert isinstance(lake, DuckDbLake)
        rows = lake.select("SELECT verb, element, external_id, field, value FROM dead_letters")
        found = [tuple(row.values()) for row in rows.to_pylist()]
    return sorted(found)


def kinds(lake: Lake, after: int = 0) -> list[tuple[str, str]]:
    return [(c.external_id, c.kind) for c in lake.changes("contacts", after, 1_000)]


def test_an_empty_lake_reads_as_empty(lake: Lake) -> None:
    assert lake.cursor("contacts") is None
    assert lake.changes("contacts", 0, 10) == []
    assert lake.offset("map:contacts") == Offset("map:contacts")
    assert lake.mapped("contacts", 0, 10) == []
    assert lake.links(KEY, ["a"]) == {}
    assert lake.linked_apps(KEY, ["1"]) == {}
    assert lake.finish_scan("contacts", "s", 0.5, "r") == StoreCounts()


def test_store_says_what_changed(lake: Lake) -> None:
    assert lake.store(batch(raw("a", name="A"), raw("b", name="B"))) == StoreCounts(created=2)
    again = batch(raw("a", name="A"), raw("b", name="B2"), raw("c"), raw("d", deleted=True))
    counts = lake.store(again)
    assert counts == StoreCounts(created=1, updated=1, unchanged=2)
    assert lake.store(batch(raw("a", deleted=True))) == StoreCounts(deleted=1)
    assert lake.store(batch(raw("a", deleted=True))) == StoreCounts(unchanged=1)


def test_a_deleted_record_that_comes_back_is_created(lake: Lake) -> None:
    lake.store(batch(raw("a", name="A")))
    lake.store(batch(raw("a", deleted=True)))
    assert lake.store(batch(raw("a", name="A"))) == StoreCounts(created=1)
    assert kinds(lake) == [("a", "created"), ("a", "deleted"), ("a", "created")]
    assert [c.payload for c in lake.changes("contacts", 0, 9)] == [raw("a", name="A").payload] * 3


def test_a_tombstone_of_an_unknown_record_changes_nothing(lake: Lake) -> None:
    assert lake.store(batch(raw("ghost", deleted=True), cursor=1)) == StoreCounts(unchanged=1)
    assert kinds(lake) == []
    assert lake.cursor("contacts") == 1


def test_of_an_id_twice_in_a_batch_the_last_wins(lake: Lake) -> None:
    assert lake.store(batch(raw("a", name="old"), raw("a", name="new"))).created == 1
    changes = lake.changes("contacts", 0, 10)
    assert [json.loads(change.payload or "")["name"] for change in changes] == ["new"]
    lake.store(batch(raw("a", name="newer"), raw("a", deleted=True)))
    assert lake.changes("contacts", 0, 10)[-1].payload is None


@pytest.mark.parametrize("cursor", [7, 7.5, "2026-01-02T03:04:05Z", "ünï"])
def test_the_cursor_comes_back_as_it_went(lake: Lake, cursor: object) -> None:
    lake.store(batch(cursor=cursor))
    assert lake.cursor("contacts") == cursor
    lake.store(batch(raw("a")))
    assert lake.cursor("contacts") == cursor, "a batch without one leaves it"
    assert lake.cursor("deals") is None


def test_a_note_is_kept_replaced_and_dropped(lake: Lake) -> None:
    assert lake.note("contacts", "etag") is None
    for value in ("one", {"two": [2, None]}, None):
        lake.keep_note("contacts", "etag", value)
        assert lake.note("contacts", "etag") == value
        assert lake.note("contacts", "other") is lake.note("notes", "etag") is None


def test_streams_are_apart(lake: Lake) -> None:
    lake.store(batch(raw("a"), cursor=1))
    lake.store(batch(raw("a", name="other"), stream="deals", cursor=2))
    assert (lake.cursor("contacts"), lake.cursor("deals")) == (1, 2)
    assert len(lake.changes("contacts", 0, 10)) == len(lake.changes("deals", 0, 10)) == 1


def test_the_feed_keeps_the_order_and_comes_in_pages(lake: Lake) -> None:
    lake.store(batch(*(raw(f"r{i}") for i in range(5))))
    lake.store(batch(raw("r0", name="x"), raw("r9")))
    read: list[str] = []
    after = 0
    while page := lake.changes("contacts", after, 2):
        assert len(page) <= 2
        assert [change.seq for change in page] == sorted(change.seq for change in page)
        assert page[0].seq > after
        read += [change.external_id for change in page]
        after = page[-1].seq
    assert read == ["r0", "r1", "r2", "r3", "r4", "r0", "r9"]


def test_unchanged_records_make_no_change(lake: Lake) -> None:
    lake.store(batch(raw("a")))
    before = kinds(lake)
    assert lake.store(batch(raw("a"), cursor=5)) == StoreCounts(unchanged=1)
    assert kinds(lake) == before


def test_a_scan_deletes_what_it_did_not_see(lake: Lake) -> None:
    lake.store(batch(*(raw(i) for i in "abcd")))
    lake.store(batch(raw("a"), raw("b"), scan="s1"))
    lake.store(batch(raw("c"), scan="s1"))
    assert lake.finish_scan("contacts", "s1", 0.5, "run") == StoreCounts(deleted=1)
    assert kinds(lake)[-1] == ("d", "deleted")
    assert lake.changes("contacts", 0, 99)[3].payload is None


def test_each_deletion_that_is_told_counts_once_wherever_a_batch_ends(lake: Lake) -> None:
    lake.store(batch(raw("a"), raw("b")))
    first, second = (raw("a", at=at, deleted=True) for at in (1, 2))
    lake.store(batch(first, second, part="/deleted"))
    lake.store(batch(raw("a")))
    for told in (first, second):
        lake.store(batch(told, part="/deleted"))
    assert kinds(lake, 2) == [("a", "deleted"), ("a", "created")]
    lake.store(batch(raw("a", at=3, deleted=True), part="/deleted"))
    assert kinds(lake, 4) == [("a", "deleted")]


def test_only_the_scan_in_question_counts(lake: Lake) -> None:
    lake.store(batch(*(raw(i) for i in "abcd"), scan="broken-off"))
    lake.store(batch(raw("a"), raw("b"), raw("c"), scan="s2"))
    assert lake.finish_scan("contacts", "s2", 0.5, "run").deleted == 1


def test_a_scan_sees_no_tombstones(lake: Lake) -> None:
    lake.store(batch(*(raw(i) for i in "abc")))
    lake.store(batch(raw("a"), raw("b"), raw("c", deleted=True), scan="s"))
    assert lake.finish_scan("contacts", "s", 0.5, "run") == StoreCounts()
    assert kinds(lake)[-1] == ("c", "deleted")


def test_a_scan_that_would_delete_too_much_deletes_nothing(lake: Lake) -> None:
    lake.store(batch(*(raw(i) for i in "abcd")))
    lake.store(batch(raw("a"), scan="s"))
    with pytest.raises(Fatal, match=r"delete 3 of 4 records.*max_share of 50%; nothing was"):
        lake.finish_scan("contacts", "s", 0.5, "run")
    assert all(kind == "created" for _, kind in kinds(lake))
    assert lake.finish_scan("contacts", "s", 0.75, "run").deleted == 3


def test_a_scan_that_saw_less_than_the_app_has_deletes_nothing(lake: Lake) -> None:
    lake.store(batch(raw("a"), raw("b"), raw("c")))
    lake.store(batch(raw("a"), raw("b"), scan="s"))
    with pytest.raises(Retryable, match=r"saw 2 of the 3 records that the app says it has"):
        lake.finish_scan("contacts", "s", 1, "run", expected=3)
    assert [c.kind for c in lake.changes("contacts", 3, 9)] == []
    lake.store(batch(raw("a"), raw("b"), scan="s"))
    assert lake.finish_scan("contacts", "s", 1, "run", expected=2).deleted == 1


def test_an_id_seen_twice_is_one_of_the_expected(lake: Lake) -> None:
    lake.store(batch(raw("a"), raw("b"), raw("c")))
    for _ in range(3):
        lake.store(batch(raw("a"), scan="s"))
    with pytest.raises(Retryable):
        lake.finish_scan("contacts", "s", 1, "run", expected=2)


def test_the_share_of_an_only_record_is_all_of_them(lake: Lake) -> None:
    lake.store(batch(raw("a")))
    with pytest.raises(Fatal, match="delete 1 of 1 records"):
        lake.finish_scan("contacts", "s", 0.5, "run")
    assert lake.finish_scan("contacts", "s", 1, "run").deleted == 1


def test_new_records_do_not_make_up_for_old_ones_that_are_gone(lake: Lake) -> None:
    """As where a connection is to another account now, or an app has given new ids."""
    lake.store(batch(*(raw(f"old{n}") for n in range(4))))
    for scan in ("s1", "s2"):
        lake.store(batch(*(raw(f"new{n}") for n in range(4)), scan=scan))
        lake.store(batch(*(raw(f"new{n}") for n in range(4, 8)), scan=scan))
        with pytest.raises(Fatal, match="delete 4 of 4 records"):
            lake.finish_scan("contacts", scan, 0.5, "run")
    assert lake.finish_scan("contacts", "s2", 1.0, "run").deleted == 4
    lake.store(batch(*(raw(f"new{n}") for n in range(4)), scan="s3"))
    assert lake.finish_scan("contacts", "s3", 0.5, "run").deleted == 4, "they're old ones now"


def test_a_first_scan_that_is_read_anew_may_find_some_of_it_gone(lake: Lake) -> None:
    lake.store(batch(*(raw(f"a{n}") for n in range(4)), scan="cut off"))
    lake.store(batch(*(raw(f"a{n}") for n in range(3)), scan="anew"))
    assert lake.finish_scan("contacts", "anew", 0.5, "run").deleted == 1


def test_exactly_the_share_may_go(lake: Lake) -> None:
    lake.store(batch(*(raw(f"a{n}") for n in range(100))))
    lake.store(batch(*(raw(f"a{n}") for n in range(70)), scan="s"))
    with pytest.raises(Fatal, match="delete 30 of 100"):
        lake.finish_scan("contacts", "s", 0.29, "run")
    lake.store(batch(raw("a70"), scan="s"))
    assert lake.finish_scan("contacts", "s", 0.29, "run").deleted == 29


def test_mapped_records_are_written_where_they_differ(lake: Lake) -> None:
    one = [mapped_record("a", {"n": 1}), mapped_record("b", {"n": 2})]
    offset = Offset("map:people", 2, "v1")
    assert lake.keep_mapped("people", one, [], offset, {}) == MappedCounts(mapped=2)
    assert lake.offset("map:people") == offset
    before = lake.mapped("people", 0, 10)
    assert lake.keep_mapped("people", one, [], offset, {}) == MappedCounts(unchanged=2)
    assert lake.mapped("people", 0, 10) == before
    two = [mapped_record("a", {"n": 1}), mapped_record("b", {"n": 3})]
    counts = lake.keep_mapped("people", two, [], Offset("map:people", 9, "v2"), {})
    assert counts == MappedCounts(mapped=1, unchanged=1)
    assert [r.external_id for r in lake.mapped("people", before[-1].seq, 10)] == ["b"]
    assert lake.offset("map:people") == Offset("map:people", 9, "v2")


def test_deleted_mapped_records_stay_in_the_feed(lake: Lake) -> None:
    offset = Offset("map:people")
    lake.keep_mapped("people", [mapped_record("a", {"n": 1})], [], offset, {})
    gone = [mapped_record("a", None), mapped_record("ghost", None)]
    assert lake.keep_mapped("people", gone, [], offset, {}).deleted == 1
    assert [(r.external_id, r.value) for r in lake.mapped("people", 0, 10)] == [("a", None)]
    assert lake.keep_mapped("people", gone[:1], [], offset, {}) == MappedCounts(unchanged=1)
    back = lake.keep_mapped("people", [mapped_record("a", {"n": 1})], [], offset, {})
    assert back == MappedCounts(mapped=1)


def test_of_a_mapped_id_twice_the_last_wins(lake: Lake) -> None:
    twice = [mapped_record("a", {"n": 1}), mapped_record("a", {"n": 2})]
    assert lake.keep_mapped("people", twice, [], Offset("map:people"), {}).mapped == 1
    (only,) = lake.mapped("people", 0, 10)
    assert json.loads(only.value or "") == {"n": 2}


def test_the_mapped_feed_comes_in_pages(lake: Lake) -> None:
    records = [mapped_record(f"r{i}", {"n": i}) for i in range(5)]
    lake.keep_mapped("people", records, [], Offset("map:people"), {})
    first = lake.mapped("people", 0, 3)
    rest = lake.mapped("people", first[-1].seq, 3)
    assert [r.external_id for r in [*first, *rest]] == ["r0", "r1", "r2", "r3", "r4"]
    assert lake.mapped("people", rest[-1].seq, 3) == []


def test_links_are_kept_replaced_and_removed(lake: Lake) -> None:
    offset = Offset("push:people", 4, "v")
    base = '{"n": 1}'
    kept = [Link("a", "1", "h", "h", base), Link("b", "2")]
    lake.keep_links(KEY, kept, [], [], offset, ["a", "b"])
    assert lake.links(KEY, ["a", "b", "x"]) == {"a": kept[0], "b": kept[1]}
    assert lake.linked_apps(KEY, ["2", "9"]) == {"2": "b"}
    assert lake.offset("push:people") == offset
    lake.keep_links(KEY, [Link("a", "1", "h2")], ["b", "ghost"], [], offset, [])
    assert lake.links(KEY, ["a", "b"]) == {"a": Link("a", "1", "h2")}
    assert lake.links(LinkKey("people", "other"), ["a"]) == {}
    assert lake.links(LinkKey("people", direction="export"), ["a"]) == {}


def test_of_a_link_twice_the_last_wins(lake: Lake) -> None:
    lake.keep_links(KEY, [Link("a", "1"), Link("a", "2")], [], [], Offset("push:people"), [])
    assert lake.links(KEY, ["a"]) == {"a": Link("a", "2")}
    assert lake.linked_apps(KEY, ["1", "2"]) == {"2": "a"}


def test_dead_letters_go_when_their_record_is_handled_again(lake: Lake) -> None:
    bad = DeadLetter("pull", "contacts", "a", "name", "no", "'v'")
    assert lake.store(batch(raw("b"), dead_letters=[bad])).failed == 1
    assert letters(lake) == [("pull", "contacts", "a", "name", "'v'")]
    lake.store(batch(raw("c")))
    assert len(letters(lake)) == 1, "another record doesn't touch it"
    lake.store(batch(raw("a")))
    assert letters(lake) == []


def test_an_unchanged_record_is_handled_too(lake: Lake) -> None:
    lake.store(batch(raw("a")))
    lake.store(batch(dead_letters=[DeadLetter("pull", "contacts", "a", "", "NaN in it")]))
    assert lake.store(batch(raw("a"))) == StoreCounts(unchanged=1)
    assert letters(lake) == []


def test_each_verb_has_its_own_dead_letters(lake: Lake) -> None:
    lake.store(batch(dead_letters=[DeadLetter("pull", "contacts", "a", "", "p")]))
    mapping = DeadLetter("map", "people", "a", "email", "m", '"x"', '{"$var": "$.x"}')
    lake.keep_mapped("people", [], [mapping], Offset("map:people"), {})
    pushing = [
        DeadLetter("link", "people", "a", "", "l"),
        DeadLetter("push", "people", "b", "", ""),
    ]
    lake.keep_links(KEY, [], [], pushing, Offset("push:people"), ["a", "b"])
    found = [("link", "a"), ("map", "a"), ("pull", "a"), ("push", "b")]
    assert [(verb, i) for verb, _, i, _, _ in letters(lake)] == found
    lake.keep_mapped("people", [mapped_record("a", {"n": 1})], [], Offset("map:people"), {})
    lake.keep_links(KEY, [], [], [], Offset("push:people"), ["b"])
    assert [verb for verb, *_ in letters(lake)] == ["link", "pull"]


def test_refused_records_are_found_by_their_dead_letters(lake: Lake) -> None:
    assert lake.refused("people", 9) == []
    records = [mapped_record(i, {"n": 1}) for i in "abcd"]
    lake.keep_mapped("people", records, [], Offset("map:people"), {})
    refusals = [DeadLetter("push", "people", i, "", "no") for i in "cb"]
    refusals += [DeadLetter("link", "people", "d", "", "no")]
    lake.keep_links(KEY, [], [], refusals, Offset("push:people"), list("abcd"))
    assert [record.external_id for record in lake.refused("people", 9)] == ["b", "c", "d"]
    assert len(lake.refused("people", 2)) == 2
    assert lake.refused("others", 9) == []
    lake.keep_links(KEY, [], [], [], Offset("push:people"), list("bcd"))
    assert lake.refused("people", 9) == []


def test_a_record_that_fails_again_has_one_dead_letter(lake: Lake) -> None:
    for value in ("1", "2"):
        letter = DeadLetter("map", "people", "a", "email", "m", value)
        lake.keep_mapped("people", [], [letter], Offset("map:people"), {})
    assert letters(lake) == [("map", "people", "a", "email", "2")]


def test_all_that_json_can_hold_comes_back(lake: Lake) -> None:
    odd = {
        "name": "Zoë 😀 'quoted' \"double\" \\ \u0000 \u2028",
        "big": 2**80,
        "nested": {"a": [1, {"b": None}], 'x"y': True},
        "huge": "x" * 1_000_000,
        "_hash": 1,
        "order": 2,
        "": 3,
    }
    lake.store(batch(raw("ö/'\"", **odd)))
    (change,) = lake.changes("contacts", 0, 10)
    assert change.external_id == "ö/'\""
    assert json.loads(change.payload or "") == {"id": "ö/'\"", **odd}
