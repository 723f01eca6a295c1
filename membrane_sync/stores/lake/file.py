"""The file of one lake: locked, attached, written in one transaction, and detached.

No process keeps the file open. Work is staged in an in-memory DuckDB; then, under a lock file, the
file is attached for as short as can be (measured under a millisecond). Reading attaches it read
only, and a lake that isn't there yet is an empty one: only writing makes the file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from membrane_sync.arrow import text_array
from membrane_sync.errors import Fatal, Fenced, LockTimeout
from membrane_sync.stores.file_lock import held
from membrane_sync.stores.lake.columns import literal
from membrane_sync.stores.lake.layout import FORMAT, LAYOUT, UPGRADES

MEMORY_MB = 256
"""What DuckDB may hold of a lake at once; what is more, it keeps in files beside the lake."""

LARGE_BYTES, SCAN_BYTES = 64 * 2**20, 64 * 2**20
"""Of a file larger than the one, a scan of ids may hold the other; it has as many as rows."""

WIDE_COLUMNS, WIDE_MB, WIDE_MB_PER_COLUMN = 200, 400, 0.2
"""A table of so many columns needs more: each takes a vector in each thread."""

SMALL_BYTES = 16 * 2**20
"""In a larger file a checkpoint doesn't join the row groups of the last commits, to write them all
again: measured 3 µs a row instead of 12. Room of deleted rows is given back by `compact`."""

ROW_GROUP_ROWS = 30_720
"""A quarter of DuckDB's own: what is left over of a commit is less, and so is what it holds."""

_ROW_GROUPS = f"ROW_GROUP_SIZE {ROW_GROUP_ROWS}"

_FEW = 2_000

Memory = duckdb.DuckDBPyConnection

Column: TypeAlias = Sequence[str | None] | pa.Array
"""Texts, or an array of anything."""


def new_memory(spill: Path, threads: int = 2) -> Memory:
    """A DuckDB in memory, which several lakes may use one after another; `spill` takes the rest."""
    memory = duckdb.connect(":memory:")
    memory.execute(f"SET TimeZone = 'UTC'; SET threads = {threads}")
    memory.execute(f"SET memory_limit = '{MEMORY_MB}MiB'")
    memory.execute("SET write_buffer_row_group_count = 1")
    memory.execute(f"SET temp_directory = {literal(str(spill))}")
    # Else a query could name Python variables as if they were tables.
    memory.execute("SET python_enable_replacements = false")
    return memory


class LakeFile:
    """A lake's file, attached as `lake` to `memory` while one of its blocks runs."""

    def __init__(
        self,
        path: Path,
        wait_seconds: float,
        *,
        epoch: int | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.path = path
        self._wait_seconds = wait_seconds
        self._epoch = epoch
        self._lent = memory
        self._resting: ExitStack | None = None
        self.writes = 0
        """How often it was written, or tried to: what was read before may be otherwise since."""
        self._checked = False

    @cached_property
    def memory(self) -> duckdb.DuckDBPyConnection:
        """The in-memory DuckDB that work is staged in; made on first use, as it takes 25 ms."""
        return self._lent or new_memory(self.path.with_suffix(".spill"))

    @contextmanager
    def reading(self, what: str) -> Iterator[bool]:
        """Attached so that nothing can be written; gives False where there's no lake yet."""
        if not self.path.exists():
            yield False
            return
        if self._lent is None:
            with self._locked(what), self._attached("READ_ONLY"):
                yield True
            return
        if self._resting is None:
            with ExitStack() as opening:
                opening.enter_context(self._locked(what))
                opening.enter_context(self._attached("READ_ONLY"))
                self._resting = opening.pop_all()
        yield True

    def let_go(self) -> None:
        """Detach the file, if it stays attached between reads, as it does with a lent memory.

        To attach it takes longer than most reads. Call it before anything that may take long, so
        that a process which is frozen meanwhile holds nobody up.
        """
        if self._resting is not None:
            resting, self._resting = self._resting, None
            resting.close()

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Attached for a `transaction`; makes the file if it isn't there."""
        self.let_go()
        self.writes += 1
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(what):
            if not self.path.exists():
                self._create()
            # Joining row groups makes small files a quarter as large, and large ones slow to write.
            joins = self.path.stat().st_size < SMALL_BYTES
            self.memory.execute(f"SET max_vacuum_tasks = {100 if joins else 0}")
            with self._attached(""):
                yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or none of it.

        Raises Fenced if a later lease than the one it's written under has written, or read, here.
        """
        with self._all_or_nothing():
            if self._epoch is not None:
                self._refuse_older(self._epoch)
            yield

    def leave_epoch(self) -> None:
        """Leave the lease's epoch in the file, so that older ones can't write any more."""
        if self._epoch is not None and self._refuse_older(self._epoch):
            self.execute("DELETE FROM lake.counters WHERE name = 'epoch'")
            self.execute("INSERT INTO lake.counters VALUES ('epoch', ?)", [self._epoch])

    def copy_to(self, target: Path) -> None:
        """Write all that the file holds into a new file, in one piece, under the lock."""
        self.let_go()
        with self._locked("copy"):
            self._copy(target)

    def compact(self) -> None:
        """Write the file anew without the room that old rows took.

        A crash leaves the former file or the new one, whole. Others wait for the lock meanwhile.
        """
        self.let_go()
        with self._locked("compact"):
            fresh = self.path.with_name(f"{self.path.name}.new")
            try:
                self._copy(fresh)
                put_in_place(fresh, self.path)
            except BaseException:
                # Where the disk is full, half a copy would leave no room for anything else.
                _remove(fresh)
                raise

    def room(self) -> tuple[int, int]:
        """Bytes of the attached file that hold something, and those that are free."""
        row = self.rows(
            "SELECT block_size, used_blocks, free_blocks FROM pragma_database_size() "
            "WHERE database_name = 'lake'"
        )[0]
        return row[0] * row[1], row[0] * row[2]

    def disk_has(self, size: int) -> bool:
        """Whether so many bytes have room on the file's disk."""
        return shutil.disk_usage(self.path.parent).free > size

    def allow(self, columns: int) -> None:
        """Allow the memory that a table of so many columns takes."""
        if columns > WIDE_COLUMNS:
            megabytes = WIDE_MB + int(columns * WIDE_MB_PER_COLUMN)
            self.memory.execute(f"SET memory_limit = '{megabytes}MiB'")

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """Hold little of what is read of a large file meanwhile, and hardly any of it afterwards.

        DuckDB would hold all of it up to its limit, through all the rest of a commit.
        """
        if self.path.stat().st_size < LARGE_BYTES:
            yield
            return
        # A connection of its own takes settings after an error, too.
        with self.memory.cursor() as settings:
            limit = settings.sql("SELECT current_setting('memory_limit')").fetchall()[0][0]
            try:
                settings.execute(f"SET memory_limit = '{_held(settings) + SCAN_BYTES}B'")
                yield
                rest = _held(settings, "WHERE tag <> 'BASE_TABLE'")
                with suppress(duckdb.OutOfMemoryException):
                    settings.execute(f"SET memory_limit = '{rest + SCAN_BYTES // 2}B'")
            finally:
                settings.execute(f"SET memory_limit = '{limit}'")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement."""
        self.memory.execute(sql, list(parameters))

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows that a query answers."""
        return self.memory.execute(sql, list(parameters)).fetchall()

    def number(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """The one number that a query answers."""
        return int(self.rows(sql, parameters)[0][0])

    def stage(self, name: str, columns: Mapping[str, Sequence[str | None]]) -> None:
        """A temporary table of texts, in order of a column `position`."""
        with self.lent("given", columns):
            self.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given")

    @contextmanager
    def lent(self, name: str, columns: Mapping[str, Column]) -> Iterator[None]:
        """A table as `stage` makes it, but not copied: it's there as long as this."""
        self.memory.register(name, _arrow(columns))
        try:
            yield
        finally:
            self.memory.unregister(name)

    def each(self, sql: str) -> Iterator[Any]:
        """The rows that a query answers, a few at a time; nothing else may be run meanwhile."""
        found = self.memory.execute(sql)
        while rows := found.fetchmany(_FEW):
            yield from rows

    def close(self) -> None:
        """Give back memory; the file isn't open any more."""
        self.let_go()
        if "memory" in vars(self) and self._lent is None:
            self.memory.close()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self.memory.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.memory.execute("ROLLBACK")
            raise
        self.memory.execute("COMMIT")

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        with held(self.path.with_name(f"{self.path.name}.lock"), what, self._wait_seconds):
            yield

    @contextmanager
    def _attached(self, mode: str) -> Iterator[None]:
        self._attach(self.path, mode)
        try:
            if not self._checked:
                self._check(mode)
            yield
        finally:
            self.memory.execute("DETACH DATABASE IF EXISTS lake")

    def _copy(self, target: Path) -> None:
        _remove(target)
        with self._attached(""):
            # What a crash left in the file's log must be in the file before that is replaced.
            self.memory.execute("CHECKPOINT lake")
            self.memory.execute(f"ATTACH {literal(str(target))} AS fresh ({_ROW_GROUPS})")
            try:
                self.memory.execute("COPY FROM DATABASE lake TO fresh")
                self.memory.execute("CHECKPOINT fresh")
            finally:
                self.memory.execute("DETACH fresh")

    def _attach(self, path: Path, mode: str) -> None:
        options = [_ROW_GROUPS, *([mode] if mode else [])]
        try:
            self.memory.execute(f"ATTACH {literal(str(path))} AS lake ({', '.join(options)})")
        except duckdb.IOException as error:
            said = str(error).splitlines()[0]
            if "lock" in said:
                raise LockTimeout(
                    f"{path.name} is open in another program: {said}",
                    hint="close it there, and try again",
                ) from None
            raise Fatal(
                f"{path.name} can't be opened: {said}",
                hint="put a backup in its place; or move it away, and the next sync reads all anew",
            ) from None

    def _create(self) -> None:
        """Make the file under another name, so that a crash meanwhile leaves no half of a lake."""
        unfinished = self.path.with_name(f"{self.path.name}.new")
        _remove(unfinished)
        self._attach(unfinished, "")
        try:
            with self._all_or_nothing():
                self.memory.execute(LAYOUT)
        finally:
            self.memory.execute("DETACH lake")
        unfinished.replace(self.path)

    def _refuse_older(self, epoch: int) -> bool:
        """Raise Fenced if a lease that was taken over has left a later epoch; is ours later?"""
        rows = self.rows("SELECT value FROM lake.counters WHERE name = 'epoch'")
        latest = rows[0][0] if rows else 0
        if epoch < latest:
            raise Fenced(
                f"{self.path.name}: another process took the connection over while this one stood "
                "still; nothing of this one's is written",
                hint="the other one goes on from where the lake stands",
            )
        return bool(epoch > latest)

    def _check(self, mode: str) -> None:
        """Bring an older file, which is attached, to this version's layout; refuse a newer one."""
        version = self.number("SELECT version FROM lake.format")
        if version > FORMAT:
            raise Fatal(
                f"{self.path.name} was written by a newer version (layout {version})",
                hint="install the newer membrane-sync",
            )
        if version < FORMAT:
            self.memory.execute("DETACH lake")
            self._attach(self.path, "")
            with self._all_or_nothing():
                for newer in range(version + 1, FORMAT + 1):
                    self.memory.execute(UPGRADES[newer])
                self.memory.execute("UPDATE lake.format SET version = ?", [FORMAT])
            self.memory.execute("DETACH lake")
            self._attach(self.path, mode)
        self._checked = True


def _held(memory: Memory, where: str = "") -> int:
    found = memory.execute(
        f"SELECT sum(memory_usage_bytes) FROM duckdb_memory() {where}"
    ).fetchall()
    return int(found[0][0])


def _arrow(columns: Mapping[str, Column]) -> pa.Table:
    arrays = {
        key: values if isinstance(values, pa.Array) else text_array(values)
        for key, values in columns.items()
    }
    rows = len(next(iter(columns.values())))
    return pa.table({**arrays, "position": pa.arange(0, rows)})


def _remove(file: Path) -> None:
    """Remove a lake file and its log."""
    for path in (file, file.with_name(f"{file.name}.wal")):
        path.unlink(missing_ok=True)


def put_in_place(file: Path, path: Path) -> None:
    """Give a finished file its name; after a power failure, too, it's the one or the other."""
    for place in (file, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == file:
            file.replace(path)
