"""What each address answers: lists, single records, writes, deleted records and deltas.

Everything here is a function of the simulator and a request; faults and quotas come before, in
`app.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from membrane_sync.testing.simulator.content import custom_field, custom_values, id_of
from membrane_sync.testing.simulator.listing import BadRequest
from membrane_sync.testing.simulator.paging import Asked, listed
from membrane_sync.testing.simulator.simulator import Simulator
from membrane_sync.testing.simulator.table import Table


@dataclass(frozen=True)
class Received:
    """One request, read."""

    method: str
    path: str
    url: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    account: str = ""
    number: int = 0
    duplicate: bool = False

    def json(self) -> Any:
        """The body as JSON; raises BadRequest."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise BadRequest("the body is no JSON") from None


@dataclass(frozen=True)
class Reply:
    """One answer, JSON unless its headers say otherwise."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def reply(status: int, value: Any) -> Reply:
    """An answer with this value as JSON."""
    return Reply(status, json.dumps(value, ensure_ascii=False).encode())


def route(simulator: Simulator, request: Received) -> Reply:
    """The app's answer on a good day."""
    parts = request.path.strip("/").split("/")
    try:
        return _routed(simulator, request, parts)
    except BadRequest as error:
        return reply(400, {"error": "bad_request", "message": str(error)})


def _routed(simulator: Simulator, request: Received, parts: list[str]) -> Reply:
    tables = simulator.tables
    if parts == ["me"]:
        return reply(200, {"account": request.account, "now": simulator.now // 1_000_000})
    if parts == ["graphql"]:
        return _graphql(simulator, request)
    if len(parts) == 2 and parts[0] == "fields" and parts[1] in tables:
        return _custom_fields(simulator, request)
    if parts[0] == "webhooks" and len(parts) <= 2:
        return _webhooks(simulator, request, parts[1:])
    table = tables.get(parts[-1] if len(parts) == 3 else parts[0])
    if table is None:
        return _not_found()
    if len(parts) == 3:
        return _below_parent(simulator, table, request, parts)
    if len(parts) == 1:
        return _collection(simulator, table, request)
    special = _SPECIAL.get(parts[1])
    return special(simulator, table, request) if special else _single(simulator, table, request)


def _collection(simulator: Simulator, table: Table, request: Received) -> Reply:
    if request.method == "POST":
        return _create(simulator, table, request)
    if request.method != "GET":
        return reply(405, {"error": "method_not_allowed"})
    if table.spec.parent or table.spec.pagination in ("body", "graphql"):
        return _not_found()
    return _list(simulator, table, request, request.query)


def _below_parent(simulator: Simulator, table: Table, request: Received, parts: list[str]) -> Reply:
    above = simulator.tables.get(parts[0])
    if above is None or table.spec.parent != above.spec.key:
        return _not_found()
    parent = above.find(parts[1])
    if parent is None:
        return _not_found()
    if request.method == "POST":
        return _create(simulator, table, request, parts[1])
    return _list(simulator, table, request, request.query, parent)


def _list(
    simulator: Simulator,
    table: Table,
    request: Received,
    parameters: Mapping[str, Any],
    parent: int | None = None,
) -> Reply:
    simulator.lists += 1
    every = simulator.dice.faults.drift_every
    if every and simulator.lists % every == 0:
        simulator.drift(table.spec.key)
    asked = Asked(
        parameters=parameters,
        url=request.url,
        parent=parent,
        salt=request.number,
        account=request.account,
        custom_fields=simulator.access.custom_fields,
        duplicate=request.duplicate,
    )
    found = listed(table.spec, table, asked)
    return Reply(200, found.body, found.headers)


def _search(simulator: Simulator, table: Table, request: Received) -> Reply:
    """A list by POST with its parameters in the body; by GET, the records that have a text."""
    if request.method == "POST" and table.spec.pagination == "body":
        body = request.json()
        if not isinstance(body, dict):
            raise BadRequest("the body is no object")
        return _list(simulator, table, request, body)
    return _found(table, lambda text: request.query.get("q", "").lower() in text.lower())


def _match(_: Simulator, table: Table, request: Received) -> Reply:
    wanted = json.dumps(request.query.get("email", ""), ensure_ascii=False)
    return _found(table, lambda text: f'"email":{wanted}' in text)


def _found(table: Table, wanted: Callable[[str], bool], most: int = 100) -> Reply:
    texts: list[str] = []
    for number in table.present.walk(0):
        text = table.text(number)
        if wanted(text) and table.alive(number):
            texts.append(text)
        if len(texts) == most:
            break
    return Reply(200, f'{{"items":[{",".join(texts)}]}}'.encode())


def _single(simulator: Simulator, table: Table, request: Received) -> Reply:
    external_id = request.path.strip("/").split("/")[1]
    number = table.find(external_id)
    if number is None or not table.alive(number):
        return _not_found()
    if request.method == "DELETE":
        simulator.delete(table.spec.key, [external_id])
        return Reply(204)
    if request.method in ("PATCH", "PUT"):
        simulator.edit(table.spec.key, [external_id], _fields(request))
    elif request.method != "GET":
        return reply(405, {"error": "method_not_allowed"})
    own = custom_values(request.account, simulator.access.custom_fields, number)
    return Reply(200, f"{table.text(number)[:-1]}{own}}}".encode())


def _create(
    simulator: Simulator, table: Table, request: Received, parent: str | None = None
) -> Reply:
    key = request.headers.get("idempotency-key", "")
    made = simulator.idempotent.get((request.account, key)) if key else None
    if made is None:
        [made] = simulator.create(table.spec.key, [_fields(request)], parent=parent)
        if key:
            simulator.idempotent[request.account, key] = made
    number = table.find(made)
    text = json.dumps({"id": made}) if number is None else table.text(number)
    return Reply(201, text.encode())


def _fields(request: Received) -> dict[str, Any]:
    fields = request.json()
    if not isinstance(fields, dict):
        raise BadRequest("the body is no object")
    return {name: value for name, value in fields.items() if name not in _OURS}


_OURS = ("id", "created_at", "updated_at", "revision", "deleted", "_parent", "parent_id")


def _deleted(_: Simulator, table: Table, request: Received) -> Reply:
    """Ids of deleted records by the time of their deletion, with `>=`."""
    if table.spec.deletes != "endpoint":
        return _not_found()
    since = request.query.get("updated_from")
    try:
        low = table.clock.read(since) if since else 0
        offset = int(request.query.get("after", 0))
    except ValueError:
        raise BadRequest("updated_from or after is not as this app writes it") from None
    found = [(time, number) for time, number in table.deleted if time >= low]
    size = min(int(request.query.get("limit", table.spec.page_size)), table.spec.max_page_size)
    page = found[offset : offset + size]
    following = offset + len(page)
    items = ",".join(
        f'{{"id":"{id_of(table.spec.key, number)}","deleted_at":{table.clock.json(time)}}}'
        for time, number in page
    )
    token = json.dumps(str(following) if following < len(found) else None)
    return Reply(200, f'{{"items":[{items}],"next":{token}}}'.encode())


def _delta(_: Simulator, table: Table, request: Received) -> Reply:
    """All records, and then what has changed since a token that the last page had."""
    if not table.spec.delta_changes:
        return _not_found()
    size = min(int(request.query.get("limit", table.spec.page_size)), table.spec.max_page_size)
    token = request.query.get("token") or f"all.{len(table.changes)}.0"
    pattern = re.fullmatch(r"all\.(\d+)\.(\d+)|since\.(\d+)(?:\.(\d+)\.(\d+))?", token)
    if pattern is None:
        raise BadRequest("token is none of ours")
    if pattern[1] is not None:
        return _snapshot(table, int(pattern[1]), int(pattern[2]), size)
    since, until = int(pattern[3]), int(pattern[4] or len(table.changes))
    if len(table.changes) - since > table.spec.delta_changes:
        return reply(410, {"error": "token_expired", "message": "read everything again"})
    numbers = list(dict.fromkeys(reversed(table.changes[since:until])))[::-1]
    first = int(pattern[5] or 0)
    page = numbers[first : first + size]
    following = first + len(page)
    more = f"since.{since}.{until}.{following}" if following < len(numbers) else None
    return _changes(table, page, more, f"since.{until}")


def _snapshot(table: Table, seq: int, first: int, size: int) -> Reply:
    """A page of everything, after a number, so that nothing moves between two pages."""
    position = table.present.rank(first)
    page = [n for n, _ in zip(table.present.walk(position), range(size), strict=False)]
    more = bool(page) and position + len(page) < len(table.present)
    following = f"all.{seq}.{page[-1] + 1}" if more else None
    return _changes(table, page, following, f"since.{seq}")


def _changes(table: Table, numbers: list[int], following: str | None, delta: str) -> Reply:
    texts = [
        table.text(number)
        if table.alive(number)
        else json.dumps({"id": id_of(table.spec.key, number), "deleted": True})
        for number in numbers
    ]
    last = json.dumps({"next": following, "delta": None if following else delta})
    return Reply(200, f'{{"items":[{",".join(texts)}],{last[1:]}'.encode())


_SPECIAL: dict[str, Callable[[Simulator, Table, Received], Reply]] = {
    "search": _search,
    "match": _match,
    "deleted": _deleted,
    "delta": _delta,
}


def _custom_fields(simulator: Simulator, request: Received) -> Reply:
    names = [
        custom_field(request.account, index) for index in range(simulator.access.custom_fields)
    ]
    fields = [{"name": name, "label": name.capitalize(), "type": "string"} for name in names]
    return reply(200, {"fields": fields})


def _webhooks(simulator: Simulator, request: Received, rest: list[str]) -> Reply:
    """Subscribe, look, renew and unsubscribe; one that has ended isn't there."""
    webhooks = simulator.webhooks
    given = request.json() if request.method in ("POST", "PATCH") else {}
    if not isinstance(given, dict):
        raise BadRequest("the body is no object")
    seconds = given.get("expires_in")
    if not rest and request.method == "POST":
        if given.get("collection") not in simulator.tables or not given.get("url"):
            raise BadRequest("a subscription needs url and collection")
        secret = str(given.get("secret", ""))
        where = (str(given["url"]), given["collection"])
        return reply(201, webhooks.subscribe(*where, secret, request.account, seconds).shown())
    if not rest:
        return reply(200, {"items": [hook.shown() for hook in webhooks.of(request.account)]})
    hook = webhooks.find(rest[0], request.account)
    if hook is None:
        return _not_found()
    if request.method == "PATCH":
        hook = webhooks.renew(hook, seconds)
    if request.method == "DELETE":
        del webhooks.hooks[hook.id]
        return Reply(204)
    return reply(200, hook.shown())


def _graphql(simulator: Simulator, request: Received) -> Reply:
    """One connection field a query; its arguments are variables: first, after, updatedFrom, …"""
    body = request.json()
    text = str(body.get("query", ""))
    named = re.findall(r"\b(\w+)\s*[({]", text)
    keys = [name for name in named if name in simulator.tables]
    if not keys or simulator.tables[keys[0]].spec.pagination != "graphql":
        return reply(200, {"errors": [{"message": "Field doesn't exist on type Query"}]})
    variables = body.get("variables") or {}
    parameters = {
        ours: variables[theirs]
        for theirs, ours in _VARIABLES.items()
        if variables.get(theirs) is not None
    }
    try:
        return _list(simulator, simulator.tables[keys[0]], request, parameters)
    except BadRequest as error:
        return reply(200, {"errors": [{"message": str(error)}]})


_VARIABLES = {
    "first": "limit",
    "after": "after",
    "updatedFrom": "updated_from",
    "updatedBefore": "updated_before",
    "afterId": "after_id",
    "sort": "sort",
}


def _not_found() -> Reply:
    return reply(404, {"error": "not_found", "message": "there is nothing here"})
