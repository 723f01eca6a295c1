"""A record's versions, whatever comes in whatever order: one after another, and nothing lost.

Hypothesis chooses what each page has, when the lake is compacted, its history dropped or turned
off, its declaration changed, and what the clock shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from membrane_sync.stores.lake import history
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.retention import Retention
from membrane_sync.stores.lake.stream_rules import StreamRules
from tests.stores.records import batch, raw

IDS = st.sampled_from("abcd")
STATES = st.tuples(IDS, st.none() | st.integers(0, 2))
"""A record and its value, or that it's deleted."""
SCHEMAS: list[dict[str, Any]] = [{"n": {"type": "integer"}}, {"n": {"type": "string"}}, {}]


class Clock(datetime):
    """What the history takes for now."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + cls.ahead


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(history, "datetime", Clock)
    yield
    Clock.ahead = timedelta(0)


class Versions(RuleBasedStateMachine):
    """One stream, and what its history must have: of each record its values, and how they ended.

    `next` if another version followed at once, `gone` if none did, None while it's valid.
    """

    hard = False

    def __init__(self) -> None:
        super().__init__()
        Clock.ahead = timedelta(0)
        self.folder = TemporaryDirectory()
        self.alive: dict[str, int] = {}
        self.kept: dict[str, list[tuple[int, str | None]]] = {}
        self.is_on, self.was_on, self.is_open, self.fields = True, False, False, SCHEMAS[0]
        self.scan = 0
        self.seen: list[tuple[datetime, dict[str, int]]] = []
        self.open()

    def open(self) -> None:
        rules = StreamRules(
            is_open=self.is_open, history=self.is_on, hard_deletes=self.hard, id_field="id"
        )
        self.lake = DuckDbLake(
            Path(self.folder.name) / "acme.duckdb",
            schemas={"contacts": {"properties": self.fields}},
            rules={"contacts": rules},
            retention=Retention(history_days=0),
        )

    @rule(page=st.lists(STATES, min_size=1, max_size=6), scan=st.booleans())
    def store(self, page: list[tuple[str, int | None]], scan: bool) -> None:
        """Records may come several times in one page: the last one counts."""
        self.begin_or_end()
        records = [raw(key, n=value, deleted=value is None) for key, value in page]
        self.lake.store(batch(*records, scan="s" if scan else ""))
        for key, value in dict(page).items():
            self.change(key, value)

    @rule(ids=st.lists(IDS, min_size=1, max_size=2, unique=True))
    def tell_deleted(self, ids: list[str]) -> None:
        """By the app's list of deleted records, each time anew."""
        self.begin_or_end()
        self.scan += 1
        records = [raw(key, at=self.scan, deleted=True) for key in ids]
        self.lake.store(batch(*records, part="/deleted"))
        for key in ids:
            self.change(key, None)

    @rule(ids=st.lists(IDS, max_size=3, unique=True))
    def scan_to_the_end(self, ids: list[str]) -> None:
        """Of those that are there, some are still seen."""
        seen = [key for key in ids if key in self.alive]
        self.scan += 1
        name = f"scan{self.scan}"
        if seen:
            self.begin_or_end()
            records = [raw(key, n=self.alive[key]) for key in seen]
            self.lake.store(batch(*records, scan=name))
        gone = [key for key in self.alive if key not in seen]
        if gone:
            self.begin_or_end()
        assert self.lake.finish_scan("contacts", name, 1, "run").deleted == len(gone)
        for key in gone:
            self.change(key, None)

    @rule(hours=st.sampled_from([-30, -1, 0, 0, 2]))
    def the_clock_jumps(self, hours: int) -> None:
        Clock.ahead = timedelta(hours=hours)
        self.seen = []

    @rule()
    def compact(self) -> None:
        """What ended is dropped, unless a clock that's ahead has it end later."""
        self.lake.compact()
        self.seen = []
        now = datetime.now(UTC).replace(tzinfo=None)
        for key, versions in self.kept.items():
            found = self.rows(key)
            ended = len(versions) - sum(how is None for _, how in versions)
            left = sum(row["_valid_to"] is not None for row in found)
            assert all(row["_valid_to"] is None or row["_valid_to"] >= now for row in found)
            self.kept[key] = versions[ended - left :]

    @rule(fields=st.sampled_from(SCHEMAS), is_on=st.booleans(), is_open=st.booleans())
    def declare_anew(self, fields: dict[str, Any], is_on: bool, is_open: bool) -> None:
        """What is declared takes effect with the next that is written."""
        self.lake.close()
        self.fields, self.is_on, self.is_open = fields, is_on, is_open
        self.open()

    @invariant()
    def versions_follow_one_another(self) -> None:
        for key in "abcd":
            found = self.rows(key)
            assert [json.loads(r["_payload"])["n"] for r in found] == [
                value for value, _ in self.kept.get(key, [])
            ]
            following = [*found[1:], None][: len(found)]
            for row, after, (_, how) in zip(found, following, self.kept.get(key, []), strict=True):
                assert (row["_valid_to"] is None) is (how is None)
                assert row["_valid_to"] is None or row["_valid_from"] <= row["_valid_to"]
                if how == "next":
                    assert after is not None and after["_valid_from"] == row["_valid_to"]
                elif after is not None:
                    assert after["_valid_from"] >= row["_valid_to"]

    @invariant()
    def the_lake_is_as_of_each_commit_what_it_held_then(self) -> None:
        if not (self.is_on and self.was_on):
            self.seen = []
            return
        if not Clock.ahead:
            self.seen.append((datetime.now(UTC), dict(self.alive)))
        for at, then in self.seen:
            if not self.is_ahead():
                found = self.lake.as_of("contacts", at, 99).to_pylist()
                assert {r["_external_id"]: json.loads(r["_payload"])["n"] for r in found} == then

    def is_ahead(self) -> bool:
        """Whether a clock that was ahead has written times that haven't come yet."""
        newest = self.lake.select(
            "SELECT max(greatest(_valid_from, coalesce(_valid_to, _valid_from))) AS m "
            "FROM history.contacts"
        ).to_pylist()[0]["m"]
        return newest is not None and newest > datetime.now(UTC).replace(tzinfo=None)

    def rows(self, key: str) -> list[dict[str, Any]]:
        if not self.was_on and not self.kept:
            return []
        found: list[dict[str, Any]] = self.lake.versions("contacts", key, 99).to_pylist()
        return found

    def begin_or_end(self) -> None:
        """Before a write the history is turned on or off, as it's declared."""
        if self.is_on and not self.was_on:
            for key, value in self.alive.items():
                self.kept.setdefault(key, []).append((value, None))
        elif self.was_on and not self.is_on:
            for key in self.alive:
                self.end(key, "gone")
        self.was_on = self.is_on

    def change(self, key: str, value: int | None) -> None:
        before = self.alive.get(key)
        if value == before:
            return
        if value is None:
            del self.alive[key]
        else:
            self.alive[key] = value
        if value is None and self.hard:
            self.kept.pop(key, None)
            for _, then in self.seen:
                then.pop(key, None)
            return
        if not self.was_on:
            return
        if before is not None:
            self.end(key, "gone" if value is None else "next")
        if value is not None:
            self.kept.setdefault(key, []).append((value, None))

    def end(self, key: str, how: str) -> None:
        versions = self.kept.get(key, [])
        assert versions and versions[-1][1] is None
        versions[-1] = (versions[-1][0], how)

    def teardown(self) -> None:
        self.lake.close()
        self.folder.cleanup()


@pytest.mark.parametrize("hard", [False, True])
def test_versions_follow_one_another(hard: bool) -> None:
    machine = type("Versions_", (Versions,), {"hard": hard}).TestCase
    machine.settings = settings(
        max_examples=8,
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine("runTest").runTest()
