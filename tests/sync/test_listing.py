"""Lists of all kinds: GraphQL, tokens, windows, trailing cursors, our own filter, functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import AppUnavailable, Fatal, ProjectError, UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Answer, Call
from membrane_sync.sync.checkpoint import Checkpoints
from membrane_sync.sync.collection import (
    Bounds,
    TokenExpired,
    deleted_collection,
    deleted_listing,
    listing,
)
from membrane_sync.sync.page import read_page
from membrane_sync.sync.paging import EMPTY_PAGES
from membrane_sync.sync.pull import Pulled, Reading, pull
from membrane_sync.sync.run import run_sync
from membrane_sync.sync.source import Source, formulas_of
from membrane_sync.sync.watch import OLD_PAGES
from membrane_sync.testing import FakeApi, MemoryDestination, MemoryLake, answer
from tests.sync.parts import parties, resolved


def declared(method: dict[str, Any], **more: Any) -> DataCollection:
    whole = {"path": "/contacts", "records": "$.body.data", **method}
    if "graphql" in method or "function" in method:
        del whole["path"]
    return DataCollection.model_validate({"key": "contacts", "list": whole, **more})


def read(
    of: DataCollection, respond: Callable[[Call], Answer], **reading: Any
) -> tuple[list[Pulled], list[Call]]:
    api = FakeApi(respond)
    return list(pull(Reading(of, "contacts", **reading), api)), api.calls


def ids(pulled: list[Pulled]) -> list[str]:
    return [record.external_id for page in pulled for record in page.batch.records]


def cursors(pulled: list[Pulled]) -> list[Any]:
    return [page.batch.cursor for page in pulled if page.batch.cursor is not None]


# --- requests ------------------------------------------------------------------------------------

GRAPHQL = {
    "graphql": "query($first: Int, $after: String, $since: Int) { contacts { edges { node } } }",
    "variables": {"since": {"$var": "$.cursor"}},
    "records": "$.body.data.contacts.edges",
    "node": "$.node",
    "pagination": {
        "type": "graphql",
        "parameter": "after",
        "page_size_parameter": "first",
        "page_size": 2,
        "page_info": "$.body.data.contacts.pageInfo",
    },
}


def graph(call: Call) -> Answer:
    assert (call.method, call.url, set(call.body)) == ("POST", "", {"query", "variables"})
    variables = call.body["variables"]
    start = int(variables.get("after", 0))
    ids = list(range(variables.get("since") or 0, 5))[start : start + variables["first"]]
    end = start + len(ids)
    info = {"hasNextPage": end < 5, "endCursor": str(end)}
    edges = [{"cursor": str(i), "node": {"id": i, "at": i}} for i in ids]
    return answer({"data": {"contacts": {"edges": edges, "pageInfo": info}}})


def test_graphql_connections_are_read_to_their_end() -> None:
    pages, calls = read(declared(GRAPHQL), graph)
    assert ids(pages) == ["0", "1", "2", "3", "4"]
    assert [call.body["variables"] for call in calls] == [
        {"first": 2},
        {"first": 2, "after": "2"},
        {"first": 2, "after": "4"},
    ]


@pytest.mark.parametrize(
    ("errors", "says"),
    [
        ([{"message": "Field 'emial' doesn't exist"}], "Field 'emial' doesn't exist"),
        ("no such field", "no such field"),
        ([{}], "it didn't say why"),
    ],
)
def test_errors_of_a_good_graphql_answer_are_errors(errors: Any, says: str) -> None:
    def respond(_: Call) -> Answer:
        return answer({"data": None, "errors": errors})

    with pytest.raises(UnexpectedAnswer, match=says):
        read(declared(GRAPHQL), respond)


def test_a_connection_without_page_info_is_unexpected() -> None:
    def respond(_: Call) -> Answer:
        return answer({"data": {"contacts": {"edges": [{"node": {"id": 1}}]}}})

    with pytest.raises(UnexpectedAnswer, match="no pageInfo at"):
        read(declared(GRAPHQL), respond)


def test_a_connection_in_a_circle_is_refused() -> None:
    def respond(_: Call) -> Answer:
        info = {"hasNextPage": True, "endCursor": "x"}
        return answer({"data": {"contacts": {"edges": [], "pageInfo": info}}})

    with pytest.raises(UnexpectedAnswer, match="same next page twice"):
        read(declared(GRAPHQL), respond)


def test_a_connection_that_goes_on_without_a_cursor_is_refused() -> None:
    def respond(_: Call) -> Answer:
        info = {"hasNextPage": True, "endCursor": None}
        edges = [{"node": {"id": 1}}]
        return answer({"data": {"contacts": {"edges": edges, "pageInfo": info}}})

    with pytest.raises(UnexpectedAnswer, match="more pages, and pageInfo has no endCursor"):
        read(declared(GRAPHQL), respond)


def test_names_lead_into_the_body() -> None:
    method = {
        "method": "POST",
        "body": {"page": {"sort": "at"}, "filter": []},
        "pagination": {
            "type": "cursor",
            "location": "body",
            "parameter": "page.after",
            "next": {"$var": "$.body.next"},
            "page_size_parameter": "page.limits.size",
            "page_size": 5,
        },
    }
    tokens = iter(["t", None])
    _, calls = read(declared(method), lambda _: answer({"data": [], "next": next(tokens)}))
    first = {"page": {"sort": "at", "limits": {"size": 5}}, "filter": []}
    second = {"page": {"sort": "at", "limits": {"size": 5}, "after": "t"}, "filter": []}
    assert [call.body for call in calls] == [first, second]


def test_a_page_may_be_asked_for_by_a_header() -> None:
    pagination = {"type": "page", "location": "header", "parameter": "X-Page"}
    pages = iter([[{"id": 1}], []])
    _, calls = read(
        declared({"headers": {"X-A": "1"}, "pagination": pagination}),
        lambda _: answer({"data": next(pages)}),
    )
    assert [call.headers for call in calls] == [{"X-A": "1", "X-Page": n} for n in ("1", "2")]


def test_a_function_may_return_the_call() -> None:
    def contacts(scope: dict[str, Any]) -> dict[str, Any]:
        return {"path": f"/of/{scope['input']['who']}", "query": {"deep": True}}

    of = declared({"pagination": {"type": "page", "parameter": "page"}, "function": "contacts"})
    pages = iter([[{"id": 1}], []])
    pulled, calls = read(
        of,
        lambda _: answer({"data": next(pages)}),
        scope={"input": {"who": "me"}},
        functions={"contacts": contacts},
    )
    assert ids(pulled) == ["1"]
    assert [(call.url, call.query["page"]) for call in calls] == [("/of/me", 1), ("/of/me", 2)]


def test_a_function_may_yield_calls() -> None:
    def contacts(scope: dict[str, Any]) -> Iterator[Any]:
        found = yield {"path": "/ids"}
        for number in found.body["more"]:
            yield Call("GET", f"/contacts/{number}")

    def respond(call: Call) -> Answer:
        return answer({"data": [{"id": call.url}], "more": [1, 2]})

    pulled, _ = read(declared({"function": "contacts"}), respond, functions={"contacts": contacts})
    assert ids(pulled) == ["/ids", "/contacts/1", "/contacts/2"]


def at_once(scope: dict[str, Any]) -> dict[str, Any]:
    return {"path": scope["input"]["secret"]}


def after_a_page(_: dict[str, Any]) -> Iterator[Any]:
    found = yield {"path": "/contacts"}
    yield {"path": found.body["secret"]}


@pytest.mark.parametrize("function", [at_once, after_a_page])
def test_a_function_that_fails_is_told_by_its_place(function: Any) -> None:
    with pytest.raises(ProjectError) as caught:
        read(
            declared({"function": "contacts"}),
            lambda _: answer({"data": []}),
            scope={"input": {}},
            functions={"contacts": function},
        )
    [problem] = caught.value.problems
    line = function.__code__.co_firstlineno + (1 if function is at_once else 2)
    assert (problem.file, problem.line) == ("test_listing.py", line)
    assert problem.message == f"{function.__name__} raised KeyError"


def test_a_function_that_never_ends_is_stopped() -> None:
    def contacts(_: dict[str, Any]) -> Iterator[Any]:
        while True:
            yield {"path": "/contacts"}

    def stopped(respond: Callable[[int], list[Any]]) -> int:
        asked = 0

        def app(_: Call) -> Answer:
            nonlocal asked
            asked += 1
            return answer({"data": respond(asked)})

        with pytest.raises(Fatal, match="'contacts' of hooks.py doesn't come to an end"):
            read(declared({"function": "contacts"}), app, functions={"contacts": contacts})
        return asked

    assert stopped(lambda _: []) == EMPTY_PAGES
    assert stopped(lambda _: [{"id": 1}, {"id": 2}]) == 1 + OLD_PAGES
    assert stopped(lambda asked: [{"id": asked % 3}]) == 3 + OLD_PAGES
    assert stopped(lambda asked: [{"id": min(asked, 7)}] if asked % 2 else []) == 7 + 2 * OLD_PAGES


def test_a_function_may_wait_and_look_again() -> None:
    """As for an export that's made: it's asked for over and over, and much comes then."""

    def contacts(_: dict[str, Any]) -> Iterator[Any]:
        found = yield {"path": "/export"}
        while not found.body["data"] or found.body["more"]:
            found = yield {"path": "/export"}

    asked = iter(range(6_000))

    def respond(_: Call) -> Answer:
        number = next(asked)
        data = [] if number < 2_000 else [{"id": number // 2}]
        return answer({"data": data, "more": number < 5_999})

    pulled, _ = read(declared({"function": "contacts"}), respond, functions={"contacts": contacts})
    assert len(set(ids(pulled))) == 2_000


def test_a_function_may_say_itself_what_is_wrong() -> None:
    def contacts(_: dict[str, Any]) -> Iterator[Any]:
        yield {"path": "/contacts"}
        raise AppUnavailable("the export isn't ready")

    with pytest.raises(AppUnavailable, match="the export isn't ready"):
        read(
            declared({"function": "contacts"}),
            lambda _: answer({"data": []}),
            functions={"contacts": contacts},
        )


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ({}, "no function 'contacts'"),
        ({"contacts": lambda _: 7}, "gave int, not a call"),
        ({"contacts": lambda _: {"path": "/x", "boddy": 1}}, "gave dict, not a call"),
    ],
)
def test_a_function_that_makes_no_call_is_an_error(functions: Any, says: str) -> None:
    with pytest.raises(Fatal, match=says):
        read(declared({"function": "contacts"}), lambda _: answer({}), functions=functions)


# --- delta tokens --------------------------------------------------------------------------------


class Delta:
    """Answers all, and a token; to those with a token what changed since, if it still knows it."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, bool]] = []
        self.oldest = 0

    def put(self, *names: str, gone: bool = False) -> None:
        self.changes += [(name, gone) for name in names]

    def respond(self, call: Call) -> Answer:
        token = call.query.get("token")
        if token is not None and int(token) < self.oldest:
            assert any(410 in rule.status for rule in call.errors), "it would be raised"
            return Answer(410, {}, {"error": "gone"}, "")
        since = 0 if token is None else int(token)
        latest = dict(self.changes[since:])
        shown = [{"id": i, "gone": gone} for i, gone in latest.items() if token or not gone]
        start = int(call.query.get("page", 0))
        body: dict[str, Any] = {"data": shown[start : start + 2]}
        if start + 2 < len(shown):
            return answer({**body, "next": start + 2})
        return answer({**body, "delta": str(len(self.changes))})


DELTA = declared(
    {
        "query": {"token": {"$var": "$.delta_token"}},
        "pagination": {"type": "cursor", "parameter": "page", "next": {"$var": "$.body.next"}},
        "cursor": {"type": "delta_token", "delta_token": {"$var": "$.body.delta"}},
    },
    deletes={"tombstone": {"$var": "$.gone"}, "full_scan": True},
)


def test_a_delta_token_asks_for_what_changed_since() -> None:
    app, lake = Delta(), MemoryLake()
    api = FakeApi(app.respond)
    all_ = parties(api, lake, MemoryDestination())
    app.put("a", "b", "c", "d", "e")
    run_sync(resolved(DELTA), all_)
    before = api.requests
    app.put("b")
    app.put("c", gone=True)
    run_sync(resolved(DELTA), all_)
    assert api.requests == before + 1
    assert set(lake.records("contacts")) == {"a", "b", "d", "e"}


def test_an_expired_token_means_a_full_scan_and_a_new_token() -> None:
    app, lake = Delta(), MemoryLake()
    api = FakeApi(app.respond)
    all_ = parties(api, lake, MemoryDestination())
    app.put("a", "b", "c")
    run_sync(resolved(DELTA), all_)
    app.put("b", gone=True)
    app.put("d")
    app.oldest = len(app.changes)
    run_sync(resolved(DELTA), all_)
    assert set(lake.records("contacts")) == {"a", "c", "d"}
    app.put("e")
    before = api.requests
    run_sync(resolved(DELTA), all_)
    assert api.requests == before + 1
    assert set(lake.records("contacts")) == {"a", "c", "d", "e"}


def test_a_token_may_be_told_expired_by_its_answer() -> None:
    cursor = {"type": "delta_token", "delta_token": {"$var": "$.body.delta"}}
    cursor["delta_expired"] = {"when": {"$eval": {"$var": "$.body.code"}, "is": "expired"}}
    of = declared({"query": {"token": {"$var": "$.delta_token"}}, "cursor": cursor})
    with pytest.raises(TokenExpired):
        read(of, lambda _: answer({"code": "expired"}), cursor="t1")


def test_a_token_that_is_a_url_is_followed() -> None:
    of = declared({"cursor": {"type": "delta_token", "delta_token": {"$var": "$.body.delta"}}})
    url = "https://app.test/contacts?deltatoken=x"
    pulled, calls = read(of, lambda _: answer({"data": [], "delta": url}), cursor=url)
    assert (calls[0].url, calls[0].query, cursors(pulled)) == (url, {}, [url])


def test_a_reading_without_a_token_at_its_end_is_unexpected() -> None:
    with pytest.raises(UnexpectedAnswer, match="no page had a delta token"):
        read(DELTA, lambda _: answer({"data": [{"id": 1}]}))


class Http:
    """The app over HTTP, as a connection reaches it."""

    def __init__(self, respond: Callable[[Call], Answer], **connector: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.respond = respond
        shown = {"key": "app", "base_url": "https://app.test/api", **connector}
        self.api = HttpApi(
            Connector.model_validate(shown),
            ConnectionRecord("acme_app", "app", "acme"),
            transport=httpx.MockTransport(self.serve),
        )

    def serve(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        body = json.loads(request.content) if request.content else None
        rules = [ErrorRule(status=[410], action="ignore")]
        call = Call(request.method, "", dict(request.url.params), body=body, errors=rules)
        given = self.respond(call)
        return httpx.Response(given.status, json=given.body)


def test_over_http_an_expired_token_is_told_by_its_status() -> None:
    app, lake = Delta(), MemoryLake()
    http = Http(app.respond)
    all_ = parties(http.api, lake, MemoryDestination())
    app.put("a", "b", "c")
    run_sync(resolved(DELTA), all_)
    app.put("b", gone=True)
    app.oldest = len(app.changes)
    run_sync(resolved(DELTA), all_)
    assert set(lake.records("contacts")) == {"a", "c"}
    assert dict(http.requests[2].url.params) == {"token": "3"}


def test_over_http_a_graphql_query_goes_to_the_base_url() -> None:
    http = Http(graph)
    pages = list(pull(Reading(declared(GRAPHQL), "contacts"), http.api))
    assert ids(pages) == ["0", "1", "2", "3", "4"]
    assert {(request.method, str(request.url)) for request in http.requests} == {
        ("POST", "https://app.test/api")
    }


def test_over_http_errors_of_a_good_graphql_answer_are_errors() -> None:
    http = Http(lambda _: answer({"data": None, "errors": [{"message": "no field emial"}]}))
    with pytest.raises(UnexpectedAnswer, match="no field emial"):
        list(pull(Reading(declared(GRAPHQL), "contacts"), http.api))


# --- windows -------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def windowed(**more: Any) -> DataCollection:
    window = {"days": 1, "start": "2026-03-01", **more.pop("window", {})}
    cursor = {"field": "$.at", "type": "timestamp", "inclusive": True, "window": window, **more}
    query = {"from": {"$var": "$.window.from"}, "to": {"$var": "$.window.to"}}
    pagination = {"type": "page", "parameter": "page"}
    return declared({"query": query, "cursor": cursor, "pagination": pagination})


def asked(of: DataCollection, cursor: Any = None) -> list[tuple[str, str]]:
    """The windows that are asked for, page 1 alone."""
    steps = listing(of, {"cursor": cursor}, now=NOW)
    found = []
    step = next(steps)
    while True:
        found.append((step.call.query["from"], step.call.query["to"]))
        try:
            step = steps.send(read_page(Source(of), answer({"data": []})))
        except StopIteration:
            return found


def test_the_time_until_now_is_sliced() -> None:
    days = [f"2026-03-0{day}T00:00:00Z" for day in (1, 2, 3, 4)]
    assert asked(windowed()) == list(zip(days, [*days[1:], "2026-03-04T12:00:00Z"], strict=True))
    assert asked(windowed(), "2026-03-04T11:00:00Z") == [
        ("2026-03-04T11:00:00Z", "2026-03-04T12:00:00Z")
    ]


def test_bounds_are_sent_so_that_windows_meet() -> None:
    exclusive = {"inclusive": False, "granularity": "day", "format": "%Y-%m-%d"}
    days = [f"2026-03-0{day}" for day in range(1, 6)]
    assert asked(windowed(**exclusive)) == [
        ("2026-02-28", days[1]),
        (days[0], days[2]),
        (days[1], days[3]),
        (days[2], days[4]),
    ]
    whole = {"granularity": "day", "format": "%Y-%m-%d", "window": {"includes_end": True}}
    assert asked(windowed(**whole)) == [(day, day) for day in days[:4]]


class Timed:
    """Answers what has a time from `from` on and before `to`, sorted by id, two a page."""

    def __init__(self, times: list[datetime]) -> None:
        self.records = [{"id": f"{i}", "at": time.isoformat()} for i, time in enumerate(times)]

    def respond(self, call: Call) -> Answer:
        low, high = (datetime.fromisoformat(call.query[name]) for name in ("from", "to"))
        found = [r for r in self.records if low <= datetime.fromisoformat(r["at"]) < high]
        start = (call.query.get("page", 1) - 1) * 2
        return answer({"data": found[start : start + 2]})


def test_a_finished_window_is_committed_and_the_next_reading_goes_on_there() -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    of = windowed(window={"start": start.isoformat()})
    app = Timed([start + timedelta(hours=5 * i) for i in range(14)])
    pages, _ = read(of, app.respond)
    assert sorted(ids(pages)) == sorted(record["id"] for record in app.records)
    moments = [datetime.fromisoformat(value) for value in cursors(pages)]
    assert moments == sorted(moments)
    assert len(moments) >= 3
    assert timedelta(minutes=4) < datetime.now(UTC) - moments[-1] < timedelta(minutes=6)

    middle = next(i for i, page in enumerate(pages) if page.batch.cursor == cursors(pages)[1])
    kept = {i for page in pages[: middle + 1] for i in ids([page])}
    again, _ = read(of, app.respond, cursor=cursors(pages)[1])
    assert kept | set(ids(again)) == set(ids(pages))
    assert not kept & set(ids(again))


def test_a_window_is_read_without_moving_the_cursor() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    app = Timed([start + timedelta(hours=6 * i) for i in range(40)])
    bounds = Bounds(start + timedelta(days=2), start + timedelta(days=5))
    pages, _ = read(windowed(), app.respond, cursor="2026-02-01T00:00:00Z", bounds=bounds)
    assert sorted(map(int, ids(pages))) == list(range(8, 20))
    assert cursors(pages) == []


# --- bounds, our own filter, descending lists -----------------------------------------------------


class Listed:
    """All records in one order, two a page; `since` is heeded if `filters`."""

    def __init__(
        self, times: list[Any], *, descending: bool = False, filters: bool = False
    ) -> None:
        self.records = [{"id": f"{i}", "at": time} for i, time in enumerate(times)]
        self.descending, self.filters = descending, filters

    def respond(self, call: Call) -> Answer:
        since = call.query.get("since")
        found = [r for r in self.records if not self.filters or since is None or r["at"] >= since]
        found.sort(key=lambda r: (r["at"] or 0, r["id"]), reverse=self.descending)
        start = (call.query.get("page", 1) - 1) * 2
        return answer({"data": found[start : start + 2]})


def numbered(*, filtered_by: str = "client", sorted_: str = "none", lag: int = 0) -> DataCollection:
    cursor = {"field": "$.at", "type": "integer", "granularity": "second", "sorted": sorted_}
    cursor |= {"filtered_by": filtered_by, "lag_seconds": lag, "inclusive": True}
    method: dict[str, Any] = {"pagination": {"type": "page", "parameter": "page"}, "cursor": cursor}
    if filtered_by == "app":
        method["query"] = {"since": {"$var": "$.cursor"}}
    return declared(method)


def test_what_is_older_than_the_cursor_is_left_out_here() -> None:
    app = Listed([1, 2, 3, 4, 5, None])
    pages, calls = read(numbered(), app.respond, cursor=4)
    assert sorted(ids(pages)) == ["3", "4", "5"]
    assert all("since" not in call.query for call in calls)
    assert sorted(ids(read(numbered(lag=1), app.respond, cursor=4)[0])) == ["2", "3", "4", "5"]
    assert len(ids(read(numbered(), app.respond, cursor=4, full=True)[0])) == 6


@pytest.mark.parametrize(
    ("cursor", "lag", "requests", "found"),
    [
        (None, 0, 6, 10),
        (10, 0, 2, 1),
        (9, 0, 2, 2),
        (8, 0, 3, 3),
        (9, 2, 3, 4),
        (0, 0, 6, 10),
    ],
)
def test_a_descending_list_is_read_until_a_page_is_older(
    cursor: int | None, lag: int, requests: int, found: int
) -> None:
    app = Listed(list(range(1, 11)), descending=True)
    of = numbered(sorted_="descending", lag=lag)
    pages, calls = read(of, app.respond, cursor=cursor)
    assert (len(calls), len(ids(pages))) == (requests, found)
    assert cursors(pages) in ([10], []), "only at the end"


def test_a_descending_list_loses_no_record_that_changes_while_it_is_read() -> None:
    app = Listed(list(range(1, 11)), descending=True)
    of = numbered(sorted_="descending")
    asked = 0

    def respond(call: Call) -> Answer:
        nonlocal asked
        asked += 1
        if asked == 2:
            app.records[7]["at"] = 11
        return app.respond(call)

    pages, _ = read(of, respond, cursor=4)
    last = cursors(pages)[-1]
    again, _ = read(of, app.respond, cursor=last)
    seen = {
        r.external_id: json.loads(r.payload)["at"] for p in pages + again for r in p.batch.records
    }
    assert seen == {r["id"]: r["at"] for r in app.records if r["at"] >= 4}


@pytest.mark.parametrize("filtered_by", ["app", "client"])
@pytest.mark.parametrize("sorted_", ["ascending", "descending", "none"])
def test_bounds_of_a_backfill(filtered_by: str, sorted_: str) -> None:
    app = Listed(list(range(30)), descending=sorted_ == "descending", filters=filtered_by == "app")
    bounds = Bounds(datetime.fromtimestamp(10, UTC), datetime.fromtimestamp(14, UTC))
    of = numbered(filtered_by=filtered_by, sorted_=sorted_)
    pages, calls = read(of, app.respond, cursor=25, bounds=bounds)
    assert sorted(ids(pages)) == ["10", "11", "12", "13"]
    assert cursors(pages) == []
    if (filtered_by, sorted_) == ("app", "ascending"):
        assert len(calls) < 8


# --- a cursor that trails ------------------------------------------------------------------------


def test_a_trailing_cursor_finds_what_shows_up_late() -> None:
    settle = {"seconds": 60, "every_seconds": 600}
    cursor = {"field": "$.at", "type": "integer", "granularity": "second", "inclusive": True}
    cursor |= {"sorted": "ascending", "settle": settle}
    of = declared({"query": {"since": {"$var": "$.cursor"}}, "cursor": cursor})
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    epoch = int(begun.timestamp())
    shown = [{"id": "a", "at": epoch}, {"id": "b", "at": epoch + 100}]

    def sync(stored: Any, now: datetime) -> tuple[Any, list[str], Any]:
        checkpoints = Checkpoints(of, cursor=stored, full=False, now=now)
        steps = checkpoints.steps({})
        since = next(steps).call.query.get("since")
        page = [record for record in shown if since is None or record["at"] >= since]
        with pytest.raises(StopIteration):
            steps.send(read_page(Source(of), answer({"data": page})))
        return checkpoints.after(page, None) or stored, [r["id"] for r in page], since

    stored, found, since = sync(None, begun + timedelta(days=3))
    assert (found, since) == (["a", "b"], None)
    shown.append({"id": "late", "at": epoch + 70})
    stored, found, since = sync(stored, begun + timedelta(days=3, seconds=60))
    assert (found, since) == (["b"], epoch + 100), "the fast one misses it"
    stored, found, since = sync(stored, begun + timedelta(days=3, seconds=700))
    assert (found, since) == (["b", "late"], epoch + 40)
    assert stored["settled"] == epoch + 40 and stored["fast"] == epoch + 100
    shown.append({"id": "c", "at": epoch + 500})
    stored, found, _ = sync(stored, begun + timedelta(days=3, seconds=800))
    shown.append({"id": "d", "at": epoch + 900})
    stored, _, since = sync(stored, begun + timedelta(days=3, seconds=1_400))
    assert (since, stored["fast"]) == (epoch + 40, epoch + 900)
    assert stored["settled"] == epoch + 440, "a minute before what was known when it began"


def test_a_cursor_from_before_it_trailed_is_taken_over() -> None:
    cursor = {"field": "$.at", "type": "integer", "granularity": "second", "inclusive": True}
    cursor["settle"] = {"seconds": 60, "every_seconds": 600}
    of = declared({"query": {"since": {"$var": "$.cursor"}}, "cursor": cursor})
    assert Checkpoints(of, cursor=100, full=False).asked_from() is None, "all, for once"


# --- deleted records -----------------------------------------------------------------------------


def test_a_list_of_deleted_records_gives_tombstones() -> None:
    endpoint = {
        "path": "/contacts/deleted",
        "query": {"since": {"$var": "$.cursor"}},
        "records": "$.body.gone",
        "id": "$.contact_id",
        "pagination": {"type": "page", "parameter": "page"},
        "cursor": {"field": "$.deleted_at", "type": "integer", "inclusive": True},
    }
    of = declared({}, deletes={"endpoint": endpoint})
    gone = deleted_collection(of)
    assert next(deleted_listing(of, {"cursor": 7})).call.query == {"since": 7, "page": 1}
    waiting = iter([[{"contact_id": 3, "deleted_at": 8}], []])
    pages, _ = read(gone, lambda _: answer({"gone": next(waiting)}), cursor=7)
    (record,) = [record for page in pages for record in page.batch.records]
    assert (record.external_id, record.deleted, cursors(pages)) == ("3", True, [8])
    with pytest.raises(Fatal, match="no list of deleted records"):
        deleted_listing(declared({}), {}).send(None)


# --- what reading needs of a record --------------------------------------------------------------


def test_the_formulas_of_a_record_are_known() -> None:
    tie = {"after": {"$var": "$.uid"}, "query": {"v": {"$var": "$.tie.value"}}}
    value = {"$firstNotEmpty": [{"$var": "$.b"}, {"$var": "$.a"}]}
    cursor = {"value": value, "type": "integer", "inclusive": True, "sorted": "ascending"}
    pagination = {"type": "page", "parameter": "p", "result_cap": 9, "tie_break": tie}
    of = declared(
        {"query": {"since": {"$var": "$.cursor"}}, "cursor": cursor, "pagination": pagination},
        id="$.key",
        deletes={"tombstone": {"$var": "$.gone"}},
    )
    assert formulas_of(of) == [
        {"$var": "$.key"},
        {"$var": "$.gone"},
        {"$var": "$.uid"},
        value,
    ]
    keyset = declared({"pagination": {"type": "keyset", "parameter": "after"}})
    assert formulas_of(keyset) == [{"$var": "$.id"}, {"$var": "$.id"}]


def test_an_item_without_its_node_is_no_record() -> None:
    of = declared({"node": "$.node"})
    found = read_page(Source(of), answer({"data": [{"node": {"id": 1}}, {}]})).heads
    assert found == [{"id": 1}, None]
