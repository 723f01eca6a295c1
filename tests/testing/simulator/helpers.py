"""A client that reads the simulator as its own answers say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from membrane_sync.testing.simulator import Simulator, running

TOKEN = {"Authorization": "Bearer token-acme"}


@contextmanager
def client_of(simulator: Simulator) -> Iterator[httpx.Client]:
    with running(simulator) as url, httpx.Client(base_url=url, headers=TOKEN) as client:
        yield client


def read_all(client: httpx.Client, path: str, style: str, **query: Any) -> list[dict[str, Any]]:
    """Every record of a list, by its style of pagination."""
    records: list[dict[str, Any]] = []
    url, turn, page = path, dict(query), 1
    while True:
        answer = _ask(client, url, style, turn)
        answer.raise_for_status()
        body = answer.json()
        if style == "graphql":
            body = body["data"][path.strip("/")]
            found, more = body["nodes"], body["pageInfo"]["hasNextPage"]
            turn = {**query, "after": body["pageInfo"]["endCursor"]}
        elif style == "link":
            found, more = body, "next" in answer.links
            url, turn = answer.links.get("next", {}).get("url", ""), {}
        else:
            found, more = body["items"], body["has_more"]
        records += found
        if style in ("cursor", "body"):
            turn = {**query, "after": body["next"]}
        elif style == "next_url" and more:
            url, turn = body["next"], {}
        elif style == "page":
            page += 1
            turn = {**query, "page": page}
        elif style == "offset":
            turn = {**query, "offset": len(records)}
        elif style == "keyset" and found:
            turn = {**query, "starting_after": found[-1]["id"]}
        if not more:
            return records


def _ask(client: httpx.Client, url: str, style: str, turn: dict[str, Any]) -> httpx.Response:
    if style == "body":
        return client.post(f"{url}/search", json=turn)
    if style == "graphql":
        names = {"limit": "first", "after": "after", "updated_from": "updatedFrom"}
        variables = {names[name]: value for name, value in turn.items()}
        query = f"query {{ {url.strip('/')}(first: $first) {{ nodes pageInfo }} }}"
        return client.post("/graphql", json={"query": query, "variables": variables})
    return client.get(url, params=turn or None)
