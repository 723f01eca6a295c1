"""kill -9 at every boundary of reading lists below parents, as `test_crash_matrix.py` does it.

The parents are read by the same sync, in several pages; of their lists some have several pages,
some nothing new, and some are of parents that came or went.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.testing.simulator import Access, Collection, Simulator, running
from membrane_sync.testing.simulator.project import KEY, write_project
from tests.end_to_end.crashing import Nursery, Place, Work, left_behind
from tests.end_to_end.test_crash_matrix import places

LOGICAL = (
    "SELECT _external_id, _payload, _hash, _deleted_at IS NULL AS alive FROM records.accounts "
    "ORDER BY _external_id",
    "SELECT _external_id, _payload, _hash, _deleted_at IS NULL AS alive FROM records.{key} "
    "ORDER BY _external_id",
    "SELECT stream, external_id, kind FROM changes ORDER BY seq",
    "SELECT stream, cursor FROM cursors ORDER BY stream",
    "SELECT stream, external_id, parent_id FROM children ORDER BY ALL",
    "SELECT stream, parent_id, cursor, done FROM partitions ORDER BY ALL",
    "SELECT verb, external_id, field, reason FROM dead_letters ORDER BY ALL",
    "SELECT stream, external_id FROM scans ORDER BY ALL",
    "SELECT stream, count(*) AS finished FROM finished_scans GROUP BY ALL ORDER BY ALL",
)
"""All that a sync leaves in the lake, but when and by which run."""

ACCOUNTS, ACCOUNTS_PAGE, PAGE = 7, 3, 2


@dataclass(frozen=True)
class Kind:
    """A way of reading lists below accounts; `changed` if there was a sync before."""

    name: str
    key: str
    changed: bool = False
    scan_due: bool = False
    flush_rows: int = 1

    @property
    def by_change(self) -> bool:
        """Whether accounts tell of changes below them; else each sync asks for every list."""
        return self.key == "notes"


KINDS = [
    Kind("first, by change", "notes"),
    Kind("changed, by change", "notes", changed=True, flush_rows=5),
    Kind("first, every list", "tasks", flush_rows=4),
    Kind("changed, every list", "tasks", changed=True),
    Kind("scan of every list", "tasks", changed=True, scan_due=True, flush_rows=3),
]


class Scene:
    """The app, and the lake as it is before the sync that will be killed."""

    def __init__(
        self, kind: Kind, root: Path, url: str, simulator: Simulator, nursery: Nursery
    ) -> None:
        self.kind, self.simulator, self._root = kind, simulator, root
        self.nursery, self.run = nursery, nursery.run
        collection = declared(root / "project", kind.key)
        self.work = Work(
            collection, root / "before.duckdb", url, None, kind.flush_rows, root / "project"
        )
        self._copies = 0
        if kind.changed:
            self.run(self.work)
            change(simulator, kind.key)
        if kind.scan_due:
            with duckdb.connect(str(self.work.lake)) as lake:
                lake.execute("UPDATE finished_scans SET finished_at = TIMESTAMP '2020-01-01'")

    def copy(self) -> Work:
        """The same work into a lake of its own."""
        self._copies += 1
        lake = self._root / str(self._copies) / "acme.duckdb"
        lake.parent.mkdir()
        if self.work.lake.exists():
            shutil.copy(self.work.lake, lake)
        return self.work.into(lake)

    def requests(self, run: Callable[[], object]) -> Counter[str]:
        """What the app was asked meanwhile."""
        self.forget()
        run()
        return self.asked()

    def asked(self) -> Counter[str]:
        return Counter(f"{e.method} {e.path}?{e.query}" for e in self.simulator.log.entries)

    def forget(self) -> None:
        self.simulator.log.entries.clear()

    def state(self, work: Work) -> list[list[dict[str, Any]]]:
        """All that is in the lake."""
        with duckdb.connect(str(work.lake), read_only=True) as lake:
            return [
                lake.sql(sql.format(key=self.kind.key)).to_arrow_table().to_pylist()
                for sql in LOGICAL
            ]


def declared(project: Path, key: str) -> DataCollection:
    """The packaged declarations with small pages: the parents' in the project, the lists' here."""
    write_project(project)
    folder = project / "connectors" / KEY / "data_collections"
    for path in folder.glob("*.yaml"):
        if path.stem not in ("accounts", key):
            path.unlink()  # each process reads all that there are
    for name, page in (("accounts", ACCOUNTS_PAGE), (key, PAGE)):
        path = folder / f"{name}.yaml"
        text: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        text["list"]["pagination"]["page_size"] = page
        path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return DataCollection.model_validate({"key": key, **text})


def change(simulator: Simulator, key: str) -> None:
    """Records below some accounts, a new account with some, and an account that is gone."""
    simulator.edit(key, 6)
    [account] = simulator.create("accounts", 1)
    simulator.create(key, 5, parent=account)
    simulator.delete(key, 2)
    simulator.delete("accounts", 1)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_killed_anywhere_below_parents_it_ends_as_uninterrupted(
    kind: Kind, tmp_path: Path, nursery: Nursery
) -> None:
    specs = [
        Collection(key="accounts", records=ACCOUNTS, deletes="tombstone"),
        Collection(
            key=kind.key,
            parent="accounts",
            touches_parent=kind.by_change,
            pagination="cursor" if kind.by_change else "page",
            deletes="tombstone" if kind.by_change else "silent",
        ),
    ]
    simulator = Simulator(seed=3, collections=specs, access=Access(kind="none"))
    with running(simulator) as url:
        scene = Scene(kind, tmp_path, url, simulator, nursery)
        reference = scene.copy()
        passed: Counter[Place] = Counter()
        once = scene.requests(lambda: passed.update(scene.run(reference)))
        expected = scene.state(reference)
        assert ids(expected[0]) == set(simulator.truth("accounts"))
        if kind.by_change or kind.scan_due or not kind.changed:
            assert ids(expected[1]) == below(simulator, kind.key)
        assert passed["send", "after", 8] and passed["commit", "after", 3]
        quiet = scene.requests(lambda: scene.run(reference))
        assert scene.state(reference) == expected

        for left in left_behind(scene, sample(passed, KINDS.index(kind)), passed):
            over = done(scene, left.work, expected)
            asked = scene.requests(lambda: scene.run(left.work))  # noqa: B023
            assert scene.state(left.work) == expected, f"killed {[*left.places]}"
            assert not list(left.work.lake.parent.glob("*.pages*")), f"killed {[*left.places]}"
            for place, before in left.places.items():
                again = before + asked - once - more(kind, quiet, over=over)
                assert again.total() <= 1, f"killed {place}: asked again for {again}"
                assert once - before - asked == Counter(), f"killed {place}"


def sample(passed: Counter[Place], row: int) -> list[Place]:
    """Half of those that the other matrix would take."""
    return places(passed, row)[row % 2 :: 2]


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["_external_id"] for row in rows if row["alive"]}


def below(simulator: Simulator, key: str) -> set[str]:
    """Records below the accounts that there are."""
    accounts = simulator.truth("accounts")
    return {name for name, row in simulator.truth(key).items() if row["parent_id"] in accounts}


def done(scene: Scene, work: Work, expected: list[list[dict[str, Any]]]) -> bool:
    """Whether the killed sync had nothing more to write: the next one is one of its own."""
    try:
        return scene.state(work) == expected
    except duckdb.Error:
        return False  # it wasn't even begun


def more(kind: Kind, quiet: Counter[str], *, over: bool) -> Counter[str]:
    """What may be asked beyond the sync itself: which accounts changed since they were read.

    Where they don't tell of their lists, these are left to a sync of its own.
    """
    if kind.by_change or over:
        return quiet
    return Counter({asked: times for asked, times in quiet.items() if "/accounts?" in asked})
