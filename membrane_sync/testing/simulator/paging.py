"""A list request in the words of HTTP: its parameters read, its page answered, by every style."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from membrane_sync.testing.simulator.content import custom_values, number_of
from membrane_sync.testing.simulator.listing import BadRequest, Query, View
from membrane_sync.testing.simulator.switches import Collection
from membrane_sync.testing.simulator.table import Table

CUT = {"cursor", "link", "next_url", "body", "graphql"}
"""Styles whose next page is named by a token of the app's own making."""

MOST_COUNTED = 1000
"""As far as an app counts whose `total` is `capped`."""


@dataclass(frozen=True)
class Listed:
    """One answer: its body, and the headers that belong to it."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A list request: its parameters, wherever they were, and where the list is."""

    parameters: Mapping[str, Any]
    url: str = ""
    parent: int | None = None
    salt: int = 0
    account: str = ""
    custom_fields: int = 0
    duplicate: bool = False


def query_of(spec: Collection, table: Table, asked: Asked) -> Query:
    """What the parameters ask for; raises BadRequest."""
    since = _time(table, asked, "updated_from")
    until = _time(table, asked, "updated_before")
    moment = _time(table, asked, "updated_at")
    if spec.window == "required" and (since is None or until is None):
        raise BadRequest("updated_from and updated_before are required")
    if spec.filter == "none":
        since = until = None
    elif spec.filter == "exclusive" and since is not None:
        since += table.clock.unit
    if moment is not None:
        since, until = moment, moment + table.clock.unit
    after_id = asked.parameters.get("after_id")
    return Query(
        since=since,
        until=until,
        after_id=None if after_id is None else str(after_id),
        sort=_sort(spec, asked),
        parent=asked.parent,
        salt=asked.salt,
    )


def listed(spec: Collection, table: Table, asked: Asked) -> Listed:
    """The page that the request asks for; raises BadRequest."""
    query = query_of(spec, table, asked)
    view = View(table, query)
    size = _size(spec, asked)
    position = _position(spec, view, asked, size)
    end = len(view) if spec.result_cap is None else min(len(view), spec.result_cap)
    if position >= end and position > 0 and end < len(view) and spec.beyond_cap == "error":
        raise BadRequest(f"no more than {spec.result_cap} records can be listed by one query")
    if spec.pagination == "none":
        size = end
    numbers = view.page(position, min(size, max(0, end - position)))
    following = position + len(numbers)
    more = following < len(view) if spec.beyond_cap == "error" else following < end
    token = _token(spec, table, query, numbers, following) if more and numbers else None
    return _answer(spec, asked, _texts(spec, table, asked, numbers), token, len(view), more, size)


def _answer(
    spec: Collection,
    asked: Asked,
    texts: list[str],
    token: str | None,
    count: int,
    more: bool,
    size: int,
) -> Listed:
    records = ",".join(texts)
    total = _total(spec, count)
    if spec.pagination == "link":
        headers = {} if token is None else {"Link": f'<{_next_url(asked, token)}>; rel="next"'}
        if spec.total != "absent":
            headers["X-Total-Count"] = str(total)
        return Listed(f"[{records}]".encode(), headers)
    extra: dict[str, Any] = {"has_more": more}
    if spec.total != "absent":
        extra["total"] = total
    if spec.pagination == "page" and spec.total != "absent":
        extra["pages"] = total if total < 0 else -(-total // size)
    if spec.pagination in ("cursor", "body"):
        extra["next"] = token
    elif spec.pagination == "next_url":
        extra["next"] = None if token is None else _next_url(asked, token)
    elif spec.pagination == "graphql":
        return _graphql(spec, texts, token, extra)
    return Listed(f'{{"items":[{records}],{json.dumps(extra)[1:]}'.encode())


def _total(spec: Collection, count: int) -> int:
    said = {
        "wrong": count + 10,
        "short": max(0, count - 3),
        "unknown": -1,
        "zero": 0,
        "capped": min(count, MOST_COUNTED),
    }
    return said.get(spec.total, count)


def _graphql(
    spec: Collection, texts: list[str], token: str | None, extra: Mapping[str, Any]
) -> Listed:
    page = json.dumps({"hasNextPage": extra["has_more"], "endCursor": token})
    count = f',"totalCount":{extra["total"]}' if "total" in extra else ""
    nodes = ",".join(texts)
    edges = ",".join(f'{{"node":{text}}}' for text in texts)
    body = f'"nodes":[{nodes}],"edges":[{edges}],"pageInfo":{page}{count}'
    return Listed(f'{{"data":{{{json.dumps(spec.key)}:{{{body}}}}}}}'.encode())


def _texts(spec: Collection, table: Table, asked: Asked, numbers: list[int]) -> list[str]:
    if spec.summary:
        texts = [_summary(table.text(number)) for number in numbers]
    elif asked.custom_fields:
        count = asked.custom_fields
        texts = [
            table.text(number)[:-1] + custom_values(asked.account, count, number) + "}"
            for number in numbers
        ]
    else:
        texts = [table.text(number) for number in numbers]
    return [*texts, texts[-1]] if asked.duplicate and texts else texts


def _summary(text: str) -> str:
    record = json.loads(text)
    kept = {name: record[name] for name in ("id", "updated_at", "deleted") if name in record}
    return json.dumps(kept)


def _sort(spec: Collection, asked: Asked) -> str:
    named = {"updated_at": "ascending", "-updated_at": "descending", "id": "id"}
    wish = asked.parameters.get("sort")
    if wish is None or not spec.sortable:
        return spec.sort
    if wish not in named:
        raise BadRequest("sort is one of updated_at, -updated_at, id")
    return named[str(wish)]


def _size(spec: Collection, asked: Asked) -> int:
    size = _whole(asked, "limit", spec.page_size)
    if size > spec.max_page_size:
        if spec.oversize == "error":
            raise BadRequest(f"limit is {spec.max_page_size} at most")
        return spec.max_page_size
    return max(1, size)


def _position(spec: Collection, view: View, asked: Asked, size: int) -> int:
    if spec.pagination == "page":
        return (max(1, _whole(asked, "page", 1)) - 1) * size
    if spec.pagination == "offset":
        return max(0, _whole(asked, "offset", 0))
    if spec.pagination == "keyset":
        after = asked.parameters.get("starting_after")
        number = number_of(spec.key, str(after)) if after is not None else -1
        if number is None:
            raise BadRequest("starting_after is no id of this collection")
        return view.after(None, number)
    token = asked.parameters.get("after")
    if token is None or spec.pagination == "none":
        return 0
    place = _opened(str(token))
    if isinstance(place, int):
        return place
    return view.after(place[0], place[1])


def _token(
    spec: Collection, table: Table, query: Query, numbers: list[int], following: int
) -> str | None:
    if spec.pagination not in CUT:
        return None
    ordered = query.sort != "none" and spec.ties == "by_id"
    place: Any = following
    if spec.token == "keyset" and ordered:  # noqa: S105 - a kind of token, not one
        place = [table.row(numbers[-1]).updated, numbers[-1]]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _opened(token: str) -> Any:
    try:
        place = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        raise BadRequest("after is no token of ours") from None
    if not isinstance(place, int) and not (isinstance(place, list) and len(place) == 2):
        raise BadRequest("after is no token of ours")
    return place


def _next_url(asked: Asked, token: str) -> str:
    return f"{asked.url}?{urlencode({**asked.parameters, 'after': token})}"


def _time(table: Table, asked: Asked, name: str) -> int | None:
    text = asked.parameters.get(name)
    if text is None or text == "":
        return None
    try:
        return table.clock.read(str(text))
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is no time as this app writes it") from None


def _whole(asked: Asked, name: str, default: int) -> int:
    try:
        return int(asked.parameters.get(name, default))
    except (TypeError, ValueError):
        raise BadRequest(f"{name} is no whole number") from None
