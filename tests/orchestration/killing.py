"""The processes that events pass through, as users start them; each is killed, and comes again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from membrane_sync.cli.dagster_process import dagster_environment

DAEMON = ("dagster._daemon", "run", "-w", "workspace.yaml")
MEMBRANE = "membrane_sync.cli.main"
CODE_SERVER, RUN = "dagster api grpc", "--multiprocessing-fork"
"""What the command lines have of those that the daemon starts: a code server, and runs of its."""
WORKER = "membrane_sync.orchestration.worker"
"""What `membrane worker` has become."""
LOGGING = "watch_orphans"
"""What the command line has of a run's own child, which is there while the run's step goes on."""

PATIENCE = 300.0


class Part:
    """A process in the project; what it says is in `<name>.log` beside that."""

    def __init__(self, name: str, root: Path, *arguments: str) -> None:
        self._log = root.parent / f"{name}.log"
        self._root = root
        self._command = [sys.executable, "-m", *arguments]
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        """Begin anew."""
        with self._log.open("ab") as log:
            self._process = psutil.Popen(
                self._command,
                cwd=self._root,
                env=dagster_environment(self._root),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """This process alone: what it has started goes on."""
        if self._process is not None:
            assert self._process.poll() is None, self._log.read_text(encoding="utf-8")[-2_000:]
            kill([self._process])
            self._process = None


class Parts:
    """All of a project's parts; `killed` counts how often each was.

    A daemon lives for some seconds, at `longest` so many, before it's its turn.
    """

    def __init__(self, root: Path, port: int, *, longest: float) -> None:
        self._root = root
        self._longest = longest
        self._dice = random.Random(11)
        self.server = Part("server", root, MEMBRANE, "serve", "--port", str(port))
        self.worker = Part("worker", root, MEMBRANE, "worker")
        self.daemon = Part("daemon", root, *DAEMON)
        self.killed: Counter[str] = Counter()

    def kill(self, what: str) -> None:
        """One of them at a random moment; it begins anew at once, but for a run."""
        kinds: dict[str, Callable[[], None]] = {"run": self._kill_run, "daemon": self._kill_daemon}
        kinds.get(what, lambda: self._kill_process(what))()
        self.killed[what] += 1

    def end(self) -> None:
        """All that still goes on in the project."""
        for part in (self.server, self.worker, self.daemon):
            part.kill()
        for words in (CODE_SERVER, RUN, ""):
            kill(running(self._root, words))

    def _kill_process(self, what: str) -> None:
        time.sleep(self._dice.uniform(0.05, 3.0))
        part: Part = getattr(self, what)
        part.kill()
        part.start()

    def _kill_daemon(self) -> None:
        """By itself, or with all that it has started, as a power failure does it."""
        time.sleep(self._dice.uniform(0.5, self._longest))
        self.daemon.kill()
        if self._dice.random() < 0.7:
            for words in (CODE_SERVER, RUN):
                kill(running(self._root, words))
        self.daemon.start()

    def _kill_run(self) -> None:
        """While it loads, or rather while it applies events."""
        word = RUN if self._dice.random() < 0.3 else LOGGING
        found: list[psutil.Process] = []
        while not found:
            until(lambda: running(self._root, word), "to start a run")
            time.sleep(self._dice.uniform(0.0, 3.0))
            found = running(self._root, RUN)
        kill([self._dice.choice(found)])


def kill(processes: Sequence[psutil.Process]) -> None:
    """As by the kernel; parents first, since one that lives may start its children again."""
    for process in processes:
        if process.is_running():
            process.kill()
    psutil.wait_procs(processes, timeout=60)


def running(root: Path, words: str = "") -> list[psutil.Process]:
    """Processes in the project with these words in their command line, oldest first."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline", "create_time"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.info["cwd"] == str(root) and words in line:
            found.append(process)
    return sorted(found, key=lambda process: float(process.info["create_time"]))


def until(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for it; fails if it takes too long."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, f"{what} took more than {patience} s"
        time.sleep(0.25)
