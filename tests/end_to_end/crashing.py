"""Reading in a process that kills itself at a boundary of its work with the app or its files.

The boundaries are wrapped around the product's own methods here, and nowhere in the product. They
are counted each for itself, so that `("send", "after", 2)` is the same place in every run, however
the thread that reads and the one that stores are interleaved.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.stores import record_writer
from membrane_sync.stores.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake_file import LakeFile
from membrane_sync.stores.page_log import FilePageLog
from membrane_sync.stores.record_writer import RecordWriter
from membrane_sync.sync import read as read_verb
from membrane_sync.sync import store as store_verb
from membrane_sync.sync.run import Parties, new_report, pull_and_store
from membrane_sync.testing import MemoryDestination
from membrane_sync.testing.simulator.project import KEY
from tests.sync.parts import resolved

PATIENCE = 60.0

Place = tuple[str, str, int]
"""A boundary: what is done, `before` or `after` it, and the how many'th time."""

BOUNDARIES: dict[str, tuple[type | ModuleType, str]] = {
    "send": (HttpApi, "send"),
    "begin": (FilePageLog, "begin"),
    "keep": (FilePageLog, "keep"),
    "write": (RecordWriter, "_write_records"),
    "seen": (record_writer, "mark_seen"),
    "finish": (DuckDbLake, "finish_scan"),
    "note": (DuckDbLake, "note_scan"),
    "clear": (FilePageLog, "clear"),
}

INNER = ("write", "seen")
"""Steps within a transaction, whose end is the next one's beginning."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Work:
    """One sync's reading: of what, from where, and into which lake."""

    collection: DataCollection
    lake: Path
    url: str
    now: datetime | None = None
    """What the clock shows when a reading begins; None for the machine's."""
    flush_rows: int = 1
    """After so many records the lake commits."""
    project: Path | None = None
    """The simulator's project that has the collections above this one, if it's below others."""

    def into(self, lake: Path) -> Work:
        """The same into another lake."""
        return replace(self, lake=lake)


class Nursery:
    """Forks a process for each run, from one that has everything imported and no threads."""

    def __init__(self) -> None:
        self._channel, theirs = _context.Pipe()
        self._process = _context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, work: Work, kill_at: Place | None = None) -> Counter[Place]:
        """Read in a process of its own; gives the boundaries it passed, none if it was killed."""
        self._channel.send((work, kill_at))
        assert self._channel.poll(PATIENCE), "the process says nothing"
        passed, status = self._channel.recv()
        assert status == (signal.SIGKILL if kill_at else 0), (status, kill_at)
        return Counter(passed)

    def close(self) -> None:
        """End it."""
        self._channel.send(None)
        self._process.join(PATIENCE)
        self._channel.close()


def _serve(channel: Any) -> None:
    while (asked := channel.recv()) is not None:
        answers, theirs = _context.Pipe(duplex=False)
        pid = os.fork()
        if not pid:
            try:
                theirs.send(_run(*asked))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        theirs.close()
        try:
            passed = answers.recv()
        except EOFError:
            passed = {}
        answers.close()
        channel.send((passed, os.waitpid(pid, 0)[1]))


def _run(work: Work, kill_at: Place | None) -> dict[Place, int]:
    passed: Counter[Place] = Counter()
    times: Counter[tuple[str, str]] = Counter()

    def at(name: str, when: str) -> None:
        times[name, when] += 1
        place = (name, when, times[name, when])
        passed[place] += 1
        if place == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for name, (kind, method) in BOUNDARIES.items():
        _around(kind, method, name, at)
    _around_commit(at)
    store_verb.FLUSH_ROWS = work.flush_rows
    if work.now is not None:
        read_verb.datetime = _clock(work.now)
    read_into_lake(work)
    return dict(passed)


def read_into_lake(work: Work) -> None:
    """Read what a sync of the collection would."""
    connector = Connector.model_validate({"key": "app", "base_url": work.url})
    connection = ConnectionRecord("acme_app", "app", "acme")
    api, lake = HttpApi(connector, connection), DuckDbLake(work.lake)
    sync = resolved(work.collection)
    if work.project is not None:
        sync = replace(sync, names=Project.load(work.project).names(KEY))
    parties = Parties(connection, api, lake, MemoryDestination())
    try:
        pull_and_store(sync, parties, new_report(sync, parties))
    finally:
        lake.close()
        api.close()


def _around(
    kind: type | ModuleType, method: str, name: str, at: Callable[[str, str], None]
) -> None:
    original = getattr(kind, method)

    def wrapped(*args: Any, **named: Any) -> Any:
        at(name, "before")
        done = original(*args, **named)
        if name not in INNER:
            at(name, "after")
        return done

    setattr(kind, method, wrapped)


def _around_commit(at: Callable[[str, str], None]) -> None:
    """`before` stands between a transaction's last write and its commit."""
    original: Callable[[LakeFile], AbstractContextManager[None]] = LakeFile._all_or_nothing

    @contextmanager
    def wrapped(self: LakeFile) -> Iterator[None]:
        with original(self):
            yield
            at("commit", "before")
        at("commit", "after")

    setattr(LakeFile, "_all_or_nothing", wrapped)  # noqa: B010


def _clock(now: datetime) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now.astimezone(tz)

    return Clock
