"""Pages that stay text are read by the field, to what reading one record at a time gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.records import Answer, Call, DeadLetter
from membrane_sync.sync.heads import Heads, only_name
from membrane_sync.sync.page import read_page
from membrane_sync.sync.pull import Reading, pull
from membrane_sync.sync.source import Source
from membrane_sync.testing import FakeApi
from tests.sync.parts import collection

TIMES = [
    "2026-01-02T03:04:05Z", "2026-01-02T03:04:06.789Z", "2026-01-02T05:04:05+02:00",
    "2026-01-02 03:04:05", "2999-01-01T00:00:00Z", "yesterday", "", None, 7,
]  # fmt: skip
IDS = ["a", "b", "c", "d", "é", "", None, True, 1, 2, 1.5]

values = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(IDS) | st.integers(0, 9) | st.text("xyz", min_size=1, max_size=2),
        "at": st.sampled_from(TIMES[:2]) | st.sampled_from(TIMES),
        "gone": st.booleans(),
        "more": st.sampled_from(["ü", {"a": [1, None]}, 1.5]),
    },
)
plain = st.fixed_dictionaries(
    {"id": st.text("xyz", min_size=1, max_size=2), "at": st.sampled_from(TIMES[:3])},
    optional={"gone": st.booleans()},
)
pages = st.lists(st.lists(plain, max_size=5) | st.lists(values, max_size=5), max_size=4)

CURSOR = {"field": "$.at", "type": "timestamp"}


def answered(records: list[Any], *, as_text: bool) -> Answer:
    body = {"data": records}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(200, {}, content=text, read=json.loads) if as_text else Answer(200, {}, body)


def pulled(of: DataCollection, lists: list[list[Any]], *, as_text: bool, **reading: Any) -> Any:
    """All that a reading of these pages gives, a page after the other."""
    waiting = [*lists, []]

    def respond(call: Call) -> Answer:
        return answered(waiting.pop(0), as_text=as_text)

    return [
        (
            page.received,
            page.named,
            page.batch.cursor,
            [(raw.external_id, json.loads(raw.payload), raw.deleted) for raw in page.batch.records],
            [told(letter) for letter in page.batch.dead_letters],
            list(page.batch.known),
        )
        for page in pull(Reading(of, "contacts", **reading), FakeApi(respond))
    ]


def told(letter: DeadLetter) -> Any:
    """A record without an id gets one of its text, which is written otherwise each time."""
    if letter.field == "id":
        return letter.field, letter.reason, json.loads(letter.value)
    return letter.external_id, letter.field, letter.reason


@settings(max_examples=150, deadline=None)
@given(
    pages,
    st.sampled_from(["ascending", "none"]),
    st.sampled_from(["include", "exclude"]),
    st.booleans(),
    st.sampled_from(["", "scan"]),
)
def test_what_comes_of_texts_is_what_comes_of_values(
    lists: list[list[Any]], sorted_: str, nulls: str, tombstones: bool, scan: str
) -> None:
    cursor = {**CURSOR, "nulls": nulls, "sorted": sorted_}
    more = {"deletes": {"tombstone": {"$var": "$.gone"}}} if tombstones else {}
    of = collection({"type": "offset", "parameter": "from"}, cursor, **more)
    lists = [page for page in lists if page]
    given_ = {"cursor": "2026-01-02T03:04:05Z", "full": bool(scan), "scan": scan}
    by_field = pulled(of, lists, as_text=True, **given_)
    one_by_one = pulled(of, lists, as_text=False, **given_)
    assert by_field == one_by_one


def test_a_record_that_comes_again_is_told_once() -> None:
    of = collection({"type": "offset", "parameter": "from"})
    first, second = {"id": "a", "n": 1}, {"id": "b", "n": 1}
    lists = [[first, second], [second, {"id": "c"}], [{"id": "c", "n": 2}]]
    found = [[raw[0] for raw in page[3]] for page in pulled(of, lists, as_text=True)]
    assert found == [["a", "b"], ["c"], ["c"], []]


def test_heads_are_made_when_asked_for() -> None:
    records = [{"id": "a", "at": "2026-01-02T03:04:05Z", "x": 1}, {"id": "b"}]
    page = read_page(Source(collection(cursor=CURSOR)), answered(records, as_text=True))
    heads = page.heads
    assert isinstance(heads, Heads)
    assert [*heads] == [{"id": "a", "at": "2026-01-02T03:04:05Z"}, {"id": "b"}]
    assert (len(heads), heads[-1], heads[:1]) == (2, {"id": "b"}, [heads[0]])
    assert heads.column("id") == ["a", "b"] and heads.column("x") is None
    again = read_page(Source(collection(cursor=CURSOR)), answered(records, as_text=True))
    assert heads == again.heads and heads == [*heads] and heads != [{"id": "a"}]


def test_nodes_deep_in_the_answer_leave_the_rest_of_it_to_the_paging() -> None:
    edges = [{"node": {"id": "a", "x": 1}, "cursor": "1"}, {"node": {"id": "b"}, "cursor": "2"}]
    body = {"data": {"people": {"edges": edges, "pageInfo": {"endCursor": "2"}}, "n": [1]}}
    of = collection(
        {"type": "graphql", "page_info": "$.body.data.people.pageInfo"},
        list={
            "graphql": "query { people { edges { node { id } } } }",
            "records": "$.body.data.people.edges",
            "node": "$.node",
        },
    )
    text = json.dumps(body).encode()
    page = read_page(Source(of), Answer(200, {}, content=text, read=json.loads))
    assert page.texts is not None and [*page.texts] == ['{"id": "a", "x": 1}', '{"id": "b"}']
    assert [*page.heads] == [{"id": "a"}, {"id": "b"}]
    body["data"]["people"]["edges"] = page.heads
    assert page.scope["body"] == body


@pytest.mark.parametrize(
    ("locator", "name"),
    [("$.id", "id"), ("id", "id"), ("$.a.b", None), ("$[0]", None), ("$", None)],
)
def test_a_locator_of_one_name(locator: str, name: str | None) -> None:
    assert only_name(locator) == name
