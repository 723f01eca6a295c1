"""An app with accounts, projects below them and tasks below those, and its collections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.errors import UnexpectedAnswer
from membrane_sync.project.resolved_sync import Names, ResolvedSync
from membrane_sync.records import Answer, Call
from membrane_sync.testing import answer
from tests.sync.parts import CURSOR, PAGES, resolved

TOMBSTONE = {"tombstone": {"$var": "$.deleted"}}
BELOW = {
    "accounts": {"path": "/accounts"},
    "projects": {
        "path": "/accounts/{account}/projects",
        "path_parameters": {"account": {"$var": "$.parent.id"}},
        "parent": {"collection": "accounts"},
    },
    "tasks": {
        "path": "/accounts/{account}/projects/{project}/tasks",
        "path_parameters": {
            "account": {"$var": "$.ancestors.accounts.id"},
            "project": {"$var": "$.parent.id"},
        },
        "parent": {"collection": "projects"},
    },
}


def declared(key: str, *, cursor: Any = CURSOR, **more: Any) -> DataCollection:
    """One of the app's collections; `parent` adds to how it's below another one."""
    listing: dict[str, Any] = {**BELOW[key], "records": "$.body.data", "pagination": PAGES}
    if cursor:
        listing |= {"cursor": cursor, "query": {"since": {"$var": "$.cursor"}}}
    if "parent" in more:
        listing["parent"] = {**listing["parent"], **more.pop("parent")}
    deletes = more.pop("deletes", TOMBSTONE)
    return DataCollection.model_validate({"key": key, "list": listing, "deletes": deletes, **more})


def family_sync(*collections: DataCollection) -> ResolvedSync:
    """The sync of the last of the collections; the others are those above it."""
    known = {found.key: found for found in collections}
    return replace(resolved(collections[-1]), names=Names(collection=known.get))


@dataclass
class FamilyApp:
    """Each list is sorted by the time of change, and pages by number."""

    page_size: int = 2
    exclusive: bool = False
    touches: bool = False
    """A change below a parent is a change of the parent."""
    lists: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    """Paths whose lists are refused with 404."""
    now: int = 0

    def put(self, path: str, external_id: str, **fields: Any) -> None:
        self.now += 1
        self.lists.setdefault(path, {})[external_id] = {"id": external_id, "at": self.now, **fields}
        self._touch(path)

    def delete(self, path: str, external_id: str, *, trace: bool = True) -> None:
        if trace:
            self.put(path, external_id, deleted=True)
        else:
            self.now += 1
            del self.lists[path][external_id]
            self._touch(path)

    def _touch(self, path: str) -> None:
        steps = path.strip("/").split("/")
        if self.touches and len(steps) >= 3:
            above, parent = "/" + "/".join(steps[:-2]), steps[-2]
            if parent in self.lists.get(above, {}):
                fields = {k: v for k, v in self.lists[above][parent].items() if k != "at"}
                self.put(above, parent, **{k: v for k, v in fields.items() if k != "id"})

    def respond(self, call: Call) -> Answer:
        path, since = call.url, call.query.get("since")
        if path in self.closed:
            rules = [rule for rule in call.errors if 404 in rule.status]
            if rules and rules[0].action == "skip":
                return Answer(404, {}, {}, skipped=True)
            raise UnexpectedAnswer("the app answered 404")
        shown = list(self.lists.get(path, {}).values())
        if since is not None:
            shown = [r for r in shown if r["at"] >= since + self.exclusive]
        shown.sort(key=lambda record: (record["at"], record["id"]))
        start = (call.query.get("page", 1) - 1) * self.page_size
        return answer({"data": shown[start : start + self.page_size]})

    def below(self, level: int, *, composite: bool = False) -> Mapping[str, dict[str, Any]]:
        """What exists at a level, by id, of parents that exist."""
        found: dict[str, dict[str, Any]] = {}
        for path, records in self.lists.items():
            steps = path.strip("/").split("/")
            if len(steps) == 2 * level + 1 and self._exists(steps):
                prefix = "".join(f"{parent}/" for parent in steps[1::2]) if composite else ""
                alive = {i: r for i, r in records.items() if not r.get("deleted")}
                found |= {prefix + i: r for i, r in alive.items()}
        return found

    def _exists(self, steps: list[str]) -> bool:
        for i in range(1, len(steps) - 1, 2):
            record = self.lists.get("/" + "/".join(steps[:i]), {}).get(steps[i])
            if record is None or record.get("deleted"):
                return False
        return True
