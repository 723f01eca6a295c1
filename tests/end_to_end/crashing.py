"""Reading in a process that kills itself at a boundary of its work with the app or its files.

The boundaries are wrapped around the product's own methods here, and nowhere in the product. They
are counted each for itself, so that `("send", "after", 2)` is the same place in every run, however
the thread that reads and the one that stores are interleaved.

What a killed process leaves is its files as they were at that moment. So one process that stands
still at each boundary, while its files are copied, leaves what one killed process for each would.
Copies that are alike, byte for byte, are one: whoever goes on from there knows nothing else.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from membrane_sync.clients.api import HttpApi
from membrane_sync.clients.transport import tls
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.data_collection import DataCollection
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project.project import Project
from membrane_sync.stores.lake import record_writer
from membrane_sync.stores.lake.duckdb_lake import DuckDbLake
from membrane_sync.stores.lake.file import LakeFile
from membrane_sync.stores.lake.page_log import FilePageLog
from membrane_sync.stores.lake.record_writer import RecordWriter
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
        self._channel.send((work, kill_at, False))
        passed, status = self._said()
        assert status == (signal.SIGKILL if kill_at else 0), (status, kill_at)
        return Counter(passed)

    def stops(self, work: Work) -> Iterator[Place]:
        """Each boundary of a run, whose process stands still until the next one is asked for."""
        self._channel.send((work, None, True))
        while True:
            said, status = self._said()
            if status is not None:
                assert status == 0, status
                return
            yield said
            self._channel.send("go on")

    def _said(self) -> Any:
        assert self._channel.poll(PATIENCE), "the process says nothing"
        return self._channel.recv()

    def close(self) -> None:
        """End it."""
        self._channel.send(None)
        self._process.join(PATIENCE)
        self._channel.close()


def _serve(channel: Any) -> None:
    tls()  # to read its certificates takes a tenth of a second, in each process that hasn't
    while (asked := channel.recv()) is not None:
        mine, theirs = _context.Pipe()
        pid = os.fork()
        if not pid:
            try:
                theirs.send(_run(*asked, theirs))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        theirs.close()
        try:
            while isinstance(said := mine.recv(), tuple):
                _stop(pid, lambda said=said: (channel.send((said, None)), channel.recv()))
                mine.send("go on")
        except (EOFError, ConnectionResetError):
            said = {}
        mine.close()
        channel.send((said, os.waitpid(pid, 0)[1]))


def _stop(pid: int, meanwhile: Callable[[], object]) -> None:
    """All threads of the process stand still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    meanwhile()
    os.kill(pid, signal.SIGCONT)


def _run(work: Work, kill_at: Place | None, stops: bool, channel: Any) -> dict[Place, int]:
    passed: Counter[Place] = Counter()
    times: Counter[tuple[str, str]] = Counter()
    one_stop = threading.Lock()

    def at(name: str, when: str) -> None:
        times[name, when] += 1
        place = (name, when, times[name, when])
        passed[place] += 1
        if place == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if stops:
            with one_stop:
                channel.send(place)
                channel.recv()

    for name, (kind, method) in BOUNDARIES.items():
        _around(kind, method, name, at)
    _around_commit(at)
    store_verb.FLUSH_ROWS = work.flush_rows
    if work.now is not None:
        read_verb.datetime = _clock(work.now)
    read_into_lake(work)
    return dict(passed)


class Stage(Protocol):
    """An app, and copies of the lake as it is before the sync that will be killed."""

    nursery: Nursery

    def copy(self) -> Work:
        """The same work into a lake of its own."""

    def asked(self) -> Counter[str]:
        """What the app was asked so far."""

    def forget(self) -> None:
        """Begin to count what it's asked."""


@dataclass
class Left:
    """What a process leaves that is killed at any of these places, each with what it had asked."""

    work: Work
    places: dict[Place, Counter[str]] = field(default_factory=dict)


def left_behind(stage: Stage, sample: Iterable[Place], passed: Iterable[Place]) -> Iterator[Left]:
    """What is left by processes killed at the sample, or with `CRASH_MATRIX=full` at all places."""
    for place in sorted(sample):
        work = stage.copy()
        stage.forget()
        stage.nursery.run(work, place)
        yield Left(work, {place: stage.asked()})
    if os.environ.get("CRASH_MATRIX") == "full":
        everywhere = _stopped_everywhere(stage)
        assert {place for left in everywhere for place in left.places} == {*passed}
        yield from everywhere


def _stopped_everywhere(stage: Stage) -> list[Left]:
    """Every state that a process could leave which is killed at a boundary, each of them once."""
    work, found = stage.copy(), dict[str, Left]()
    stage.forget()
    for place in stage.nursery.stops(work):
        state = _bytes_of(work.lake.parent)
        if state not in found:
            folder = work.lake.parent.with_name(f"{work.lake.parent.name}.{len(found)}")
            shutil.copytree(work.lake.parent, folder)
            found[state] = Left(work.into(folder / work.lake.name))
        found[state].places[place] = stage.asked()
    return [*found.values()]


def _bytes_of(folder: Path) -> str:
    """A hash of the files; what a lock says of its holder is for people."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name
    )
    return repr([(path.name, hashlib.blake2b(path.read_bytes()).digest()) for path in files])


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
