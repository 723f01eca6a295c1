"""kill -9 at every boundary of reading: the lake is as without, and one page at most comes again.

A process reads from the simulator, which this process serves, and kills itself before or after a
request, keeping an answer, a write, a commit, the end of a scan. Another process then syncs.

Of the boundaries that are passed again and again, each kind of reading takes one, and of their
kinds every second one, the next kind the others. `CRASH_MATRIX=full` takes all of them besides: a
process is stopped at each, and another one goes on with a copy of its files as they were then.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Collection as Many
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.testing.simulator import Access, Collection, Simulator, running
from membrane_sync.testing.simulator.project import CONNECTOR
from tests.end_to_end.crashing import BOUNDARIES, Nursery, Place, Work, left_behind

Change = Callable[[Simulator, str], None]

LOGICAL = (
    "SELECT _external_id, _payload, _hash, _deleted_at IS NULL AS alive FROM records.contacts "
    "ORDER BY _external_id",
    "SELECT external_id, kind FROM changes ORDER BY seq",
    "SELECT stream, cursor FROM cursors ORDER BY stream",
    "SELECT verb, external_id, field, reason FROM dead_letters ORDER BY ALL",
    "SELECT stream, external_id FROM scans ORDER BY ALL",
    "SELECT stream, count(*) AS finished FROM finished_scans GROUP BY ALL",
    "SELECT stream, external_id FROM tombstones ORDER BY ALL",
)
"""All that a sync leaves in the lake, but when and by which run."""

PAGE = 50


def some_changes(simulator: Simulator, key: str) -> None:
    """Enough for several pages, ties among it, and each kind of change."""
    simulator.edit(key, 90)
    simulator.delete(key, 25)
    simulator.edit(key, 15, together=True)
    simulator.create(key, 20)


def many_deletions(simulator: Simulator, key: str) -> None:
    """More than a page of them, and some that are there again."""
    gone = simulator.delete(key, 120)
    simulator.undelete(key, gone[:10])
    simulator.edit(key, 5)


@dataclass(frozen=True)
class Kind:
    """A way of reading: a collection of the packaged connector, and what happened before."""

    name: str
    key: str
    changes: Change | None = None
    """What was changed since a first sync; None for the first sync itself."""
    scan_due: bool = False
    switches: dict[str, Any] = field(default_factory=dict)
    pagination: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, Any] = field(default_factory=dict)
    cursor: bool = True
    records: int = 130
    days: int | None = None
    """Days from the beginning of the app to now, where the reading needs a clock."""
    first_days: int | None = None
    """The same at the first sync."""
    flush_rows: int = 1

    def collection(self) -> DataCollection:
        """The packaged declaration with small pages."""
        path = CONNECTOR / "data_collections" / f"{self.key}.yaml"
        text: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        text = {"key": "contacts", **text, **self.declared}
        text["list"]["pagination"] |= {"page_size": PAGE, **self.pagination}
        if not self.cursor:
            del text["list"]["cursor"], text["list"]["query"]
        return DataCollection.model_validate(text)


def after(days: int | None) -> datetime | None:
    """So many days after the beginning of the app."""
    return None if days is None else datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)


TOMBSTONES = {"switches": {"deletes": "tombstone"}}
BY_TOKEN = {"deletes": "tombstone", "delta_changes": 10_000}
BY_WINDOW = {
    "switches": {"deletes": "tombstone", "window": "required", "step_ms": 40_000_000},
    "declared": {"deletes": {"tombstone": {"$var": "$.deleted"}}},
    "days": 140,
    "first_days": 65,
}

KINDS = [
    Kind("first", "contacts", **TOMBSTONES),
    Kind("incremental", "contacts", some_changes, **TOMBSTONES, flush_rows=PAGE + 10),
    Kind("first by window", "windowed", **BY_WINDOW),
    Kind("incremental by window", "windowed", some_changes, **BY_WINDOW),
    Kind("scan by page", "by_page", some_changes, True, {"pagination": "page"}),
    Kind("scan by token", "silent", some_changes, True, flush_rows=PAGE + 10),
    Kind("scan by offset", "by_offset", some_changes, True, {"pagination": "offset"}),
    Kind("scan without cursor", "silent", some_changes, cursor=False),
    Kind(
        "beyond a cap",
        "capped",
        switches={"pagination": "page", "result_cap": 30, "per_moment": 35},
        pagination={"result_cap": 30, "page_size": 15},
        records=50,
    ),
    Kind("first by delta token", "delta", switches=BY_TOKEN),
    Kind("delta token", "delta", some_changes, switches=BY_TOKEN),
    Kind(
        "list of deletions",
        "deleted_endpoint",
        many_deletions,
        switches={"deletes": "endpoint", "page_size": PAGE},
        records=200,
    ),
]
"""Each of them is killed everywhere; a new way of reading is a new line here."""


class Scene:
    """An app, and the lake as it is before the sync that will be killed."""

    def __init__(
        self, kind: Kind, root: Path, url: str, simulator: Simulator, nursery: Nursery
    ) -> None:
        self.kind, self.root, self.simulator = kind, root, simulator
        self.nursery, self.run = nursery, nursery.run
        lake, now = root / "before.duckdb", after(kind.days)
        self.work = Work(kind.collection(), lake, url, now, kind.flush_rows)
        self._copies = 0
        if kind.changes is not None:
            self.run(replace(self.work, now=after(kind.first_days)))
            kind.changes(simulator, kind.key)
        if kind.scan_due:
            with duckdb.connect(str(self.work.lake)) as lake:
                lake.execute("UPDATE finished_scans SET finished_at = TIMESTAMP '2020-01-01'")

    def copy(self) -> Work:
        """The same work into a lake of its own."""
        self._copies += 1
        lake = self.root / str(self._copies) / "acme.duckdb"
        lake.parent.mkdir()
        if self.work.lake.exists():
            shutil.copy(self.work.lake, lake)
        return self.work.into(lake)

    def requests(self, *runs: Callable[[], object]) -> Counter[str]:
        """What the app was asked meanwhile."""
        self.forget()
        for each in runs:
            each()
        return self.asked()

    def asked(self) -> Counter[str]:
        return Counter(f"{e.method} {e.path}?{e.query}" for e in self.simulator.log.entries)

    def forget(self) -> None:
        self.simulator.log.entries.clear()


@contextmanager
def scene_of(kind: Kind, root: Path, nursery: Nursery) -> Iterator[Scene]:
    spec = Collection(key=kind.key, records=kind.records, **kind.switches)
    simulator = Simulator(seed=3, collections=[spec], access=Access(kind="none"))
    with running(simulator) as url:
        yield Scene(kind, root, url, simulator, nursery)


def state(work: Work) -> list[list[dict[str, Any]]]:
    """All that is in the lake."""
    with duckdb.connect(str(work.lake), read_only=True) as lake:
        return [lake.sql(sql).to_arrow_table().to_pylist() for sql in LOGICAL]


def alive(found: list[list[dict[str, Any]]]) -> set[str]:
    return {row["_external_id"] for row in found[0] if row["alive"]}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


PASSED = [(name, when) for name in (*BOUNDARIES, "commit") for when in ("before", "after")]


def places(passed: Many[Place], row: int) -> list[Place]:
    """Those to be killed at, of those that a kind of reading passes; `row` is its number."""
    found = []
    for column, (name, when) in enumerate(PASSED):
        times = sum(place[:2] == (name, when) for place in passed)
        if times and (row + column) % 2 == 0:
            found.append((name, when, 1 + (row + column) // 2 % times))
    return found


def test_every_boundary_of_the_matrix_is_taken_by_several_kinds() -> None:
    all_of_them = {(name, when, n) for name, when in PASSED for n in range(1, 5)}
    taken = [place for row in range(len(KINDS)) for place in places(all_of_them, row)]
    kinds = Counter((name, when) for name, when, _ in taken)
    assert set(kinds) == set(PASSED) and min(kinds.values()) >= len(KINDS) // 2
    assert {times for *_, times in taken} == {1, 2, 3, 4}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_killed_anywhere_it_ends_as_uninterrupted(
    kind: Kind, tmp_path: Path, nursery: Nursery
) -> None:
    with scene_of(kind, tmp_path, nursery) as scene:
        reference = scene.copy()
        passed: Counter[Place] = Counter()
        once = scene.requests(lambda: passed.update(scene.run(reference)))
        expected = state(reference)
        assert alive(expected) == set(scene.simulator.truth(kind.key))
        assert passed["send", "after", 3] and passed["commit", "after", 2]
        quiet = scene.requests(lambda: scene.run(reference))
        assert state(reference) == expected

        for left in left_behind(scene, places(passed, KINDS.index(kind)), passed):
            over = not kind.cursor and state(left.work) == expected
            asked = scene.requests(lambda: scene.run(left.work))  # noqa: B023
            assert state(left.work) == expected, f"killed {[*left.places]}"
            assert not list(left.work.lake.parent.glob("*.pages*")), f"killed {[*left.places]}"
            # What changed since is asked for, too; without a cursor that is the next sync's.
            allowed = once + (quiet if kind.cursor or over else Counter())
            for place, before in left.places.items():
                again = before + asked - allowed
                assert again.total() <= 1, f"killed {place}: asked again for {again}"
                assert once - before - asked == Counter(), f"killed {place}"


SECOND = [
    ("send", "after", 1),
    ("keep", "before", 1),
    ("commit", "before", 1),
    ("clear", "before", 1),
]


@pytest.mark.parametrize("kind", [KINDS[1], KINDS[4]], ids=lambda kind: kind.name)
def test_killed_again_while_it_goes_on(kind: Kind, tmp_path: Path, nursery: Nursery) -> None:
    with scene_of(kind, tmp_path, nursery) as scene:
        reference = scene.copy()
        once = scene.requests(lambda: scene.run(reference))
        expected = state(reference)
        quiet = scene.requests(lambda: scene.run(reference))
        for second in SECOND:
            work = scene.copy()
            runs = [("send", "after", 2), second, None]
            asked = scene.requests(*[lambda at=at: scene.run(work, at) for at in runs])  # noqa: B023
            assert state(work) == expected, f"killed {second}"
            again = asked - once - quiet - quiet
            assert again.total() <= 2, f"killed {second}: asked again for {again}"
