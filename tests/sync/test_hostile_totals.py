"""Whatever an app says of its length, all of the list is read, and each record once."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import httpx
import pytest

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.ports import ConnectionRecord
from membrane_sync.sync.pull import Reading, pull
from membrane_sync.testing import FakeApi
from membrane_sync.testing.simulator import Collection, Simulator
from tests.sync.simulated import answering

TOTAL, PAGES = {"$var": "$.body.total"}, {"$var": "$.body.pages"}
STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "records of pages": ("page", {"type": "page", "parameter": "page", "total_records": TOTAL}),
    "pages": ("page", {"type": "page", "parameter": "page", "total_pages": PAGES}),
    "offset": ("offset", {"type": "offset", "parameter": "offset", "total_records": TOTAL}),
    "cursor": (
        "cursor",
        {
            "type": "cursor",
            "parameter": "after",
            "next": {"$var": "$.body.next"},
            "total_records": TOTAL,
        },
    ),
}
KINDS = get_args(Collection.model_fields["total"].annotation)


def requests_of(style: str, total: str, records: int, size: int) -> int:
    kind, pagination = STYLES[style]
    spec = Collection(key="people", pagination=kind, total=total, page_size=size, records=records)
    app = Simulator(collections=[spec])
    sized = {**pagination, "page_size_parameter": "limit", "page_size": size}
    method = {"path": "/people", "records": "$.body.items", "pagination": sized}
    of = DataCollection.model_validate({"key": "people", "list": method})
    api = FakeApi(answering(app))
    read = [r.external_id for page in pull(Reading(of, "people"), api) for r in page.batch.records]
    assert len(read) == records and set(read) == set(app.truth("people"))
    return api.requests


LOOKS_RIGHT = [("pages", "short"), ("pages", "capped")]
"""By these, the last page but one looks like the last: nobody could tell."""


@pytest.mark.parametrize(("style", "total"), sorted({*product(STYLES, KINDS)} - {*LOOKS_RIGHT}))
def test_no_total_ends_a_list_before_its_end(style: str, total: str) -> None:
    for records in (0, 1, 9, 10, 11, 20, 25, 30, 1000, 1300):
        requests_of(style, total, records, 10 if records < 1000 else 500)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_right_total_spares_the_request_that_would_find_nothing(style: str) -> None:
    assert requests_of(style, "right", 30, 10) == requests_of(style, "right", 25, 10) == 3


@pytest.mark.parametrize("records", ["$.body.items", "$.body"])
@pytest.mark.parametrize("status", [404, 416])
def test_behind_a_round_total_a_page_that_is_not_there_is_the_end(
    records: str, status: int
) -> None:
    assert read_of(records, status) == 1000


def test_behind_a_round_total_what_is_refused_otherwise_is_an_error() -> None:
    with pytest.raises(UnexpectedAnswer, match="answered 400"):
        read_of("$.body.items", 400)


def read_of(records: str, behind: int) -> int:
    """How many records come of an app that has 1,000, and answers so behind the last page."""

    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        if page > 2:
            return httpx.Response(behind, json={"detail": "Invalid page."})
        items = [{"id": f"{page}-{n}"} for n in range(500)]
        body = {"items": items} if records.endswith("items") else items
        return httpx.Response(200, json=body, headers={"x-total": "1000"})

    connector = Connector.model_validate({"key": "app", "base_url": "http://app.test"})
    pagination = {
        "type": "page",
        "parameter": "page",
        "total_records": {"$var": "$.headers.x-total"},
    }
    method = {"path": "/people", "records": records, "pagination": pagination}
    of = DataCollection.model_validate({"key": "people", "list": method})
    connection = ConnectionRecord("acme_app", "app", "acme")
    api = HttpApi(connector, connection, transport=httpx.MockTransport(answer))
    return sum(page.received for page in pull(Reading(of, "people"), api))
