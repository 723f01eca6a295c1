"""Every style of pagination, over answers that are given in turn."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from membrane_sync.elements.pagination import Pagination
from membrane_sync.errors import Fatal, UnexpectedAnswer
from membrane_sync.records import Answer, Call
from membrane_sync.sync.collection import listing
from membrane_sync.sync.page import read_page
from membrane_sync.sync.paging import EMPTY_PAGES, SAME_PAGES, next_link, turns
from membrane_sync.sync.source import Source
from membrane_sync.testing import answer
from tests.sync.parts import collection


def calls(pagination: dict[str, Any], answers: Sequence[Answer], **more: Any) -> list[Call]:
    """The calls that read these answers; all of the answers must be asked for."""
    declared = collection(pagination, **more)
    steps = listing(declared, {})
    sent = [next(steps).call]
    for given in answers[:-1]:
        sent.append(steps.send(read_page(Source(declared), given)).call)
    with pytest.raises(StopIteration):
        steps.send(read_page(Source(declared), answers[-1]))
    return sent


def page(*ids: int, **body: Any) -> Answer:
    headers = body.pop("headers", {})
    url = body.pop("url", "https://app.test/v1/contacts")
    return answer({"data": [{"id": i} for i in ids], **body}, headers=headers, url=url)


def queries(sent: Sequence[Call]) -> list[dict[str, Any]]:
    return [dict(call.query) for call in sent]


def test_none_asks_once() -> None:
    assert queries(calls({"type": "none"}, [page(1, 2)])) == [{}]


CURSOR = {"type": "cursor", "parameter": "after", "next": {"$var": "$.body.next"}}


def test_cursor_hands_back_the_token() -> None:
    sent = calls(CURSOR, [page(1, next="t1"), page(next="t2"), page(3, next=None)])
    assert queries(sent) == [{}, {"after": "t1"}, {"after": "t2"}]


@pytest.mark.parametrize("end", ["", None, False])
def test_cursor_ends_without_a_token(end: object) -> None:
    assert len(calls(CURSOR, [page(1, next=end)])) == 1


@pytest.mark.parametrize("more", [True, "true", 1])
def test_more_pages_without_a_token_are_not_lost_in_silence(more: object) -> None:
    said = {**CURSOR, "has_more": {"$var": "$.body.more"}}
    assert len(calls(said, [page(1, next="t1", more=more), page(2, more=False)])) == 2
    with pytest.raises(UnexpectedAnswer, match="more pages, and there is no token"):
        calls(said, [page(1, next=None, more=more)])


def test_an_answer_without_content_has_no_records() -> None:
    nothing = Answer(204, {}, "", "https://app.test/v1/contacts")
    assert len(calls(CURSOR, [nothing])) == 1
    assert len(calls(NUMBERS, [page(1), nothing])) == 2


def test_cursor_ends_where_the_total_is_reached() -> None:
    counted = {**CURSOR, "total_records": {"$var": "$.body.total"}}
    answers = [page(1, 2, next="t1", total=3), page(3, next="t2", total=3)]
    assert len(calls(counted, answers)) == 2


def test_the_same_token_twice_is_a_circle() -> None:
    with pytest.raises(UnexpectedAnswer, match="same next page twice"):
        calls(CURSOR, [page(1, next="t1"), page(2, next="t1"), page(3)])


def test_many_long_tokens_take_little_memory() -> None:
    pager = turns(collection(CURSOR).list_.pagination)
    next(pager)
    tracemalloc.start()
    try:
        for number in range(3_000):
            token = f"{number}" + "x" * 4_000
            pager.send(([], {"body": {"next": token}, "headers": {}, "status": 200}))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000, "of 12 MB"


def test_next_url_is_followed_as_it_is() -> None:
    urls = {"type": "next_url", "next": {"$var": "$.headers.next-page"}}
    sized = {**urls, "page_size": 2, "page_size_parameter": "limit"}
    second = "https://app.test/v1/contacts?token=x%2Cy"
    sent = calls(sized, [page(1, headers={"next-page": second}), page(2)])
    assert queries(sent) == [{"limit": 2}, {}]
    assert [call.url for call in sent] == ["/contacts", second]


@pytest.mark.parametrize(
    ("given", "followed"),
    [
        ("?page=2", "https://app.test/v1/contacts?page=2"),
        ("/v1/contacts?page=2", "https://app.test/v1/contacts?page=2"),
        ("contacts/2", "https://app.test/v1/contacts/2"),
        ("//evil.test/x", "https://evil.test/x"),
    ],
)
def test_a_relative_next_url_is_relative_to_the_answer(given: str, followed: str) -> None:
    urls = {"type": "next_url", "next": {"$var": "$.body.next"}}
    assert calls(urls, [page(1, next=given), page(2)])[1].url == followed


def test_next_url_in_a_circle() -> None:
    urls = {"type": "next_url", "next": {"$var": "$.body.next"}}
    with pytest.raises(UnexpectedAnswer, match="same next page twice"):
        calls(urls, [page(1, next="/a"), page(2, next="/b"), page(1, next="/a"), page(1)])


def test_link_header_is_followed() -> None:
    links = {"link": '<https://app.test/c?p=0>; rel="prev", <https://app.test/c?p=2>; rel="next"'}
    sent = calls({"type": "link_header"}, [page(1, headers=links), page(2)])
    assert sent[1].url == "https://app.test/c?p=2"
    with pytest.raises(UnexpectedAnswer, match="twice"):
        calls({"type": "link_header"}, [page(1, headers=links), page(2, headers=links), page(3)])


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ("", None),
        ("<u>", None),
        ('<u>; rel="prev"', None),
        ('<u>; rel="next"', "u"),
        ("<u>; rel=next", "u"),
        ("<u>;rel=next;type=x", "u"),
        ('<u> ; REL = "Next"', "u"),
        ('<u>; rel="last next"', "u"),
        ('<u>; rel="nextish"', None),
        ('<u>; title="next, please; rel=next"; rel="prev"', None),
        ('<u>; title="a, b"; rel="next"', "u"),
        ('<a>; rel="first", <b,c;d>; rel="next", <e>; rel="last"', "b,c;d"),
        ('<a>; rel="prev",<b>;rel="next"', "b"),
        ('<a>; crossorigin; rel="next"', "a"),
        ("<u>; rel='next'", "u"),
        ("<u>; title='a \", b'; rel='prev next'", "u"),
        (r'<u>; title="a \"b\", <c>; rel=\"prev\""; rel="next"', "u"),
        ("<u>; title*=UTF-8''x%20y; rel=next", "u"),
        ('< u >;; rel="next";', "u"),
        ('<u>; rel="prev"; rel="next"', None),
        ('<u>; rel=""; title="next"', None),
    ],
)
def test_link_headers_in_all_notations(header: str, target: str | None) -> None:
    assert next_link(header) == target


NUMBERS = {"type": "page", "parameter": "page"}


def test_page_ends_at_an_empty_page_and_not_at_a_short_one() -> None:
    sized = {**NUMBERS, "page_size": 100, "page_size_parameter": "size"}
    sent = calls(sized, [page(1, 2), page(3), page(4, 5), page()])
    assert queries(sent) == [{"size": 100, "page": number} for number in (1, 2, 3, 4)]


def test_page_starts_where_the_app_starts() -> None:
    sent = calls({**NUMBERS, "first_page": 0}, [page(1), page()])
    assert queries(sent) == [{"page": 0}, {"page": 1}]


@pytest.mark.parametrize(
    ("end", "answers"),
    [
        ({"total_pages": {"$var": "$.body.n"}}, [page(1, n=2), page(2, n=2)]),
        ({"total_pages": {"$var": "$.body.n"}, "first_page": 0}, [page(1, n="2"), page(2, n="2")]),
        ({"total_records": {"$var": "$.body.n"}}, [page(1, 2, n=3), page(3, n=3)]),
        ({"has_more": {"$var": "$.body.more"}}, [page(1, more=True), page(2, more=False)]),
        ({"has_more": {"$var": "$.body.more"}}, [page(1, more="true"), page(2, more="false")]),
        ({"has_more": {"$var": "$.body.more"}}, [page(1, more=1), page(2)]),
        ({"has_more": {"$var": "$.body.more"}}, [page(1, more=True), page(more=True)]),
    ],
)
def test_page_ends_where_the_app_says_so(end: dict[str, Any], answers: list[Answer]) -> None:
    assert len(calls({**NUMBERS, **end}, answers)) == 2


@pytest.mark.parametrize(
    "said",
    [
        *("many", "1,204", "12.5", "1e3", "10000+", "x" * 5_000, "9" * 5_000),
        *(True, False, 12.5, math.inf, -math.inf, math.nan, [3], {"value": 3}),
    ],
    ids=lambda said: str(said)[:9],
)
@pytest.mark.parametrize("name", ["total_pages", "total_records"])
def test_a_total_that_is_no_number_is_refused(said: object, name: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=rf"`pagination\.{name}` is .*, not a whole") as told:
        calls({**NUMBERS, name: {"$var": "$.body.n"}}, [page(1, n=said)])
    assert len(told.value.message) < 130


@pytest.mark.parametrize("said", [3, 3.0, "3", " 3 ", "3.0", "3.", "03"])
def test_a_total_may_be_written_in_many_ways(said: object) -> None:
    counted = {**NUMBERS, "total_records": {"$var": "$.body.n"}}
    assert len(calls(counted, [page(1, 2, n=said), page(3, n=said)])) == 2


COUNTED: dict[str, dict[str, Any]] = {
    "page": {**NUMBERS, "total_records": {"$var": "$.body.n"}},
    "pages": {**NUMBERS, "total_pages": {"$var": "$.body.n"}},
    "offset": {"type": "offset", "parameter": "skip", "total_records": {"$var": "$.body.n"}},
    "cursor": {**CURSOR, "total_records": {"$var": "$.body.n"}},
}


@pytest.mark.parametrize("said", [-1, -7, "-1", 0, "0", 1, "", None])
@pytest.mark.parametrize("style", sorted(COUNTED))
def test_a_total_that_cannot_be_true_ends_nothing(style: str, said: object) -> None:
    # Two records are there before the total is looked at; two pages, where those are counted.
    first = [] if style != "pages" else [page(0, n=None, next="t0")]
    answers = [*first, page(1, 2, n=said, next="t1"), page(3, n=said, next="t2"), page(n=said)]
    assert len(calls(COUNTED[style], answers)) == len(answers)


@pytest.mark.parametrize("style", ["page", "offset", "cursor"])
def test_a_round_total_after_a_full_page_may_be_as_far_as_the_app_counts(style: str) -> None:
    full = [page(*range(n, n + 500), n=1000, next=f"t{n}") for n in (0, 500, 1000)]
    assert len(calls(COUNTED[style], [*full, page(7, n=1000, next="t7"), page(n=1000)])) == 5
    short = page(*range(500), *range(501, 900), n=1000, next="t1")
    rest = page(*range(900, 1001), n=1000, next="t2")
    assert len(calls(COUNTED[style], [short, rest])) == 2, "a short page says that it's the last"
    odd = [page(*range(n, n + 501), n=1002, next=f"t{n}") for n in (0, 501)]
    assert len(calls(COUNTED[style], odd)) == 2


def test_has_more_is_asked_before_the_token_is_looked_at() -> None:
    said = {**CURSOR, "has_more": {"$var": "$.body.more"}}
    answers = [page(1, next="t1", more=True), page(2, next="t1", more=False)]
    assert len(calls(said, answers)) == 2
    counted = {**CURSOR, "total_records": {"$var": "$.body.n"}}
    assert len(calls(counted, [page(1, next="t1", n=2), page(2, next="t1", n=2)])) == 2
    with pytest.raises(UnexpectedAnswer, match="same next page twice"):
        calls(said, [page(1, next="t1", more=True), page(2, next="t1", more=True), page(3)])


def test_an_empty_page_with_the_token_that_asked_for_it_is_the_end() -> None:
    assert len(calls(CURSOR, [page(1, next="t1"), page(next="t1")])) == 2
    for more in ({"has_more": {"$var": "$.body.more"}}, {"total_records": {"$var": "$.body.n"}}):
        answers = [page(1, next="t1", more=True, n=3), page(next="t1", more=True, n=3), page()]
        with pytest.raises(UnexpectedAnswer, match="same next page twice"):
            calls({**CURSOR, **more}, answers)


@pytest.mark.parametrize("no", [False, None, 0, "", "false", "False", "no", "0"])
def test_no_may_be_written_in_many_ways(no: object) -> None:
    said = {**CURSOR, "has_more": {"$var": "$.body.more"}}
    assert len(calls(said, [page(1, next="t1", more=no)])) == 1
    pager = turns(Pagination.model_validate(GRAPHQL))
    next(pager)
    with pytest.raises(StopIteration):
        pager.send(([1], {"body": {"info": {"hasNextPage": no, "endCursor": "t1"}}}))


GRAPHQL = {"type": "graphql", "parameter": "after", "page_info": "$.body.info"}
EVER_NEW: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "cursor": (CURSOR, lambda n: {"next": f"t{n}"}),
    "next_url": (
        {"type": "next_url", "next": {"$var": "$.body.next"}},
        lambda n: {"next": f"/c?at={n}"},
    ),
    "link_header": (
        {"type": "link_header"},
        lambda n: {"headers": {"link": f'</c?at={n}>; rel="next"'}},
    ),
    "graphql": (
        GRAPHQL,
        lambda n: {"info": {"hasNextPage": True, "endCursor": f"t{n}"}},
    ),
}


@pytest.mark.parametrize("style", sorted(EVER_NEW))
def test_an_app_that_names_a_next_page_for_ever_is_left(style: str) -> None:
    pagination, named = EVER_NEW[style]

    def asked(records: list[int], most: int) -> int:
        pager = turns(Pagination.model_validate(pagination))
        next(pager)
        for number in range(most):
            body = named(number)
            pager.send((records, {"body": body, "headers": body.get("headers", {})}))
        return most

    with pytest.raises(UnexpectedAnswer, match="same page 5 times"):
        asked([1, 2], SAME_PAGES)
    with pytest.raises(UnexpectedAnswer, match="20,000 pages in a row had no record"):
        asked([], EMPTY_PAGES)
    assert asked([1, 2], SAME_PAGES - 1) and asked([], EMPTY_PAGES - 1)


@pytest.mark.parametrize(
    "pagination",
    [
        NUMBERS,
        {"type": "offset", "parameter": "skip"},
        {"type": "keyset", "parameter": "after"},
    ],
)
def test_the_same_page_over_and_over_means_the_parameter_is_ignored(
    pagination: dict[str, Any],
) -> None:
    with pytest.raises(UnexpectedAnswer, match=f"5 times.*ignore '{pagination['parameter']}'"):
        calls(pagination, [page(1, 2)] * 5)
    assert len(calls(pagination, [page(1, 2), page(1, 2), page(3), page()])) == 4


def test_records_of_which_nothing_is_read_are_not_taken_for_the_same() -> None:
    """They are dead letters, and say what's wrong."""

    def cut(**body: Any) -> Answer:
        return Answer(200, {}, content=json.dumps(body).encode(), read=json.loads)

    pages = [cut(data=[{"uid": n}], next=f"t{n}") for n in range(20)]
    assert len(calls(CURSOR, [*pages, cut(data=[{"uid": 20}])])) == 21
    with pytest.raises(UnexpectedAnswer, match="same page 1000 times"):
        calls(NUMBERS, [cut(data=[{"uid": 1}])] * 1000)


def test_offset_moves_by_what_came() -> None:
    clamped = {
        "type": "offset",
        "parameter": "skip",
        "page_size": 100,
        "page_size_parameter": "top",
    }
    sent = calls(clamped, [page(1, 2), page(3, 4), page(5), page()])
    assert [query["skip"] for query in queries(sent)] == [0, 2, 4, 5]
    counted = {**clamped, "total_records": {"$var": "$.body.n"}}
    assert len(calls(counted, [page(1, 2, n=3), page(3, n=3)])) == 2


def test_a_total_of_what_is_left_does_not_end_a_keyset() -> None:
    told = {"type": "keyset", "parameter": "after", "total_records": {"$var": "$.body.total"}}
    pages = [
        answer({"data": [{"id": 1}, {"id": 2}], "total": 3}),
        answer({"data": [{"id": 3}], "total": 1}),
        answer({"data": [], "total": 0}),
    ]
    assert len(calls(told, pages)) == 3


def test_keyset_goes_on_after_the_last_record() -> None:
    sent = calls({"type": "keyset", "parameter": "after"}, [page(1, 5), page(7), page()])
    assert queries(sent) == [{}, {"after": 5}, {"after": 7}]
    by_name = {"type": "keyset", "parameter": "after", "next": {"$var": "$.id"}}
    assert queries(calls(by_name, [page(3), page()])) == [{}, {"after": 3}]
    with pytest.raises(UnexpectedAnswer, match="last record has no id"):
        calls({"type": "keyset", "parameter": "after"}, [answer({"data": [{}]})])


def test_the_place_may_be_the_body() -> None:
    declared = collection({**NUMBERS, "location": "body"})
    assert declared.list_ is not None
    method = declared.list_.model_copy(update={"method": "POST", "body": {"filter": "x"}})
    steps = listing(declared.model_copy(update={"list_": method}), {})
    first = next(steps).call
    second = steps.send(read_page(Source(declared), page(1))).call
    assert (first.body, second.body) == ({"filter": "x", "page": 1}, {"filter": "x", "page": 2})
    assert first.query == second.query == {}


def test_an_answer_without_a_list_is_unexpected() -> None:
    for body in ({}, {"data": None}, {"data": {}}, "text", None):
        with pytest.raises(UnexpectedAnswer, match=r"at \$\.body\.data, not a list"):
            read_page(Source(collection()), answer(body))


def test_a_path_without_its_value_is_refused() -> None:
    method = {
        "path": "/lists/{list}/contacts",
        "path_parameters": {"list": {"$var": "$.input.list"}},
        "records": "$.body",
    }
    declared = collection().model_validate({"key": "contacts", "list": method})
    with pytest.raises(Fatal, match="no value for {list}"):
        next(listing(declared, {"input": {}}))
    call = next(listing(declared, {"input": {"list": "a/b"}})).call
    assert call.url == "/lists/a%2Fb/contacts"
