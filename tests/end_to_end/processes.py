"""Syncs in processes of their own, which can be stopped on the way and killed.

They come from a server that has everything imported, so that starting one takes no time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from membrane_sync.errors import MembraneError
from membrane_sync.records import Report
from membrane_sync.stores import sql_destination
from membrane_sync.stores.lake import record_writer
from membrane_sync.sync import map as map_verb
from membrane_sync.sync import push as push_verb
from membrane_sync.sync import store as store_verb
from tests.end_to_end.helpers import Workspace

PATIENCE = 60.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class SyncProcess:
    """One sync of one connection; with `pause` it holds the connection until `go_on`.

    `small_steps` makes it commit every 500 to 1,000 records.
    """

    def __init__(
        self,
        workspace: Workspace,
        connection: str,
        *,
        pause: bool = False,
        small_steps: bool = False,
    ) -> None:
        self._channel, theirs = _context.Pipe()
        self._process = _context.Process(
            target=_sync, args=(workspace.root, connection, theirs, pause, small_steps)
        )
        self._process.start()
        theirs.close()
        self.began: float = self._receive()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_for_steps(self, count: int) -> None:
        """Wait until it has reported progress so often, or ended; after one it has a page."""
        for _ in range(count):
            if self._receive() is not None:
                return

    def go_on(self) -> None:
        self._channel.send("go on")

    def kill(self) -> bool:
        """End it as `kill -9` does; False if it had ended by itself."""
        self._process.kill()
        self._process.join(PATIENCE)
        return self._process.exitcode == -9

    def finish(self) -> tuple[Report, list[float]]:
        """What it reported, and when it surely held the connection: before and after each step."""
        while (done := self._receive()) is None:
            pass
        self._process.join(PATIENCE)
        report, moments = done
        return report, moments

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._channel.close()

    def _receive(self) -> Any:
        assert self._channel.poll(PATIENCE), "the process says nothing"
        return self._channel.recv()


def _sync(root: Path, connection: str, channel: Connection, pause: bool, small_steps: bool) -> None:
    """Say when it begins, None at each step, and at the end the report and all moments."""
    if small_steps:
        store_verb.FLUSH_ROWS, map_verb.BATCH, push_verb.BATCH = 1_000, 1_000, 500
    moments: list[float] = []

    def progress(_verb: str, _report: Report) -> None:
        moments.append(time.monotonic())
        channel.send(None)
        if pause and len(moments) == 1:
            channel.recv()
        moments.append(time.monotonic())

    workspace = Workspace(root)
    channel.send(time.monotonic())
    report = workspace.sync(connection, progress=progress)
    channel.send((report, moments))


class FencedProcess:
    """A sync that stops at a place until it's frozen; then what it wakes up to shows.

    `place` is the verb whose first progress it stops at; `write`, when rows are about to be
    written; `rows` or `transaction`: inside a transaction of the product's database or of the lake.
    """

    def __init__(self, workspace: Workspace, connection: str, place: str) -> None:
        self._channel, theirs = _context.Pipe()
        # It comes from a server that has the environment of the first test that used it.
        settings = {name: v for name, v in os.environ.items() if name.startswith("MEMBRANE_")}
        self._process = _context.Process(
            target=_sync_to, args=(workspace.root, connection, theirs, place, settings)
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def freeze(self) -> None:
        """Freeze it where it stands at the place; it goes on from there once it's woken."""
        assert self._channel.poll(PATIENCE) and self._channel.recv() == "there"
        os.kill(self.pid, signal.SIGSTOP)
        self._channel.send("go on")

    def wake(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def finish(self) -> str:
        """`done`, or the code of the error that it ended with."""
        assert self._channel.poll(PATIENCE), "the process says nothing"
        said = str(self._channel.recv())
        self._process.join(PATIENCE)
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join(PATIENCE)
        self._channel.close()


def _sync_to(
    root: Path, connection: str, channel: Connection, place: str, settings: dict[str, str]
) -> None:
    os.environ.update(settings)
    store_verb.FLUSH_ROWS, map_verb.BATCH, push_verb.BATCH = 1_000, 1_000, 500
    there: list[bool] = []

    def stand() -> None:
        if not there:
            there.append(True)
            channel.send("there")
            channel.poll(PATIENCE)

    def progress(verb: str, _report: Report) -> None:
        if verb == place:
            stand()

    if place == "write":
        _before(sql_destination.SqlDestination, "write", stand)
    if place == "rows":
        _before(sql_destination._Writer, "write", stand)
    if place == "transaction":
        _before(record_writer, "_write_cursor", stand)
    try:
        Workspace(root).sync(connection, progress=progress)
        channel.send("done")
    except MembraneError as error:
        channel.send(error.code)


def _before(owner: type | ModuleType, method: str, stand: Callable[[], None]) -> None:
    original = getattr(owner, method)

    def wrapped(*args: Any, **named: Any) -> Any:
        stand()
        return original(*args, **named)

    setattr(owner, method, wrapped)
