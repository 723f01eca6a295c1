"""Run one app as a child process that listens on loopback only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from membrane_sync.apps.calls import AGENT

HOST = "127.0.0.1"
TAIL = 4_000


class AppError(RuntimeError):
    """An app could not be installed, started or used; the message ends with what the app said."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> Callable[[], bool]:
    """A readiness check that holds once `url` gives a 2xx answer; proxies are not consulted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.addheaders = [("User-Agent", AGENT)]

    def check() -> bool:
        try:
            with opener.open(url, timeout=2) as response:
                return bool(200 <= response.status < 300)
        except (urllib.error.URLError, OSError):
            return False

    return check


@dataclass
class AppProcess:
    """A command that runs in `directory`, in a session of its own, until `stop` or the block ends.

    The directory receives `server.log` and `server.pid`. Starting again in the directory of a run
    that crashed stops its left-over process first.
    """

    name: str
    command: Sequence[str]
    directory: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 60.0
    grace: float = 10.0
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def log(self) -> Path:
        """Everything the app printed since it was started."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id while the app runs, else None."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self) -> Self:
        """Start and wait until the app is ready; `AppError` with the tail of its log if not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        stop_leftover(self.directory)
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                list(self.command),
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A process of another user must not keep the groups of this one.
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        _write_pid(self.directory, self._child.pid, self.command)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the app: ask, wait for `grace` seconds, then kill. Harmless when it is down."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(self.stop_signal)
            try:
                self._child.wait(timeout=self.grace)
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, signal.SIGKILL)
                self._child.wait()
        self._child = None
        _pid_file(self.directory).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self if self.pid else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self.pid is None:
                self._give_up("stopped before it was ready")
            if self.ready():
                return
            time.sleep(0.05)
        self._give_up(f"was not ready within {self.patience:g} s")

    def _give_up(self, what: str) -> None:
        raise AppError(f"{self.name} {what}. The end of {self.log}:\n{tail(self.log)}")


def tail(log: Path) -> str:
    """The last few thousand characters of a log, or a word that there is none."""
    text = log.read_text(errors="replace").strip() if log.exists() else ""
    return text[-TAIL:] or "(it printed nothing)"


def stop_leftover(directory: Path) -> bool:
    """Stop the process that a crashed run left behind in `directory`; True if there was one.

    The pid file alone proves nothing, since pids are used again: the process is only touched when
    its command line is still the one that was started here.
    """
    path = _pid_file(directory)
    if not path.exists():
        return False
    first, _, command = path.read_text().partition("\n")
    found = first.isdigit() and _runs(int(first), command)
    if found:
        _end(int(first))
    path.unlink(missing_ok=True)
    return found


def _end(pid: int) -> None:
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _ended(pid):
                return
            time.sleep(0.05)


def _runs(pid: int, command: str) -> bool:
    """Whether `pid` runs `command`; scripts show up with their interpreter in front."""
    return bool(command) and _command_line(pid).endswith(command)


def _command_line(pid: int) -> str:
    if not _has_proc():
        return _ps(pid, "command=")
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return line.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def _ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped: either way its port is free."""
    if not _has_proc():
        return _ps(pid, "stat=")[:1] in ("", "Z")
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
        # Its first thread may end before others, which still hold the port.
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return True
    return state in ("Z", "X") and threads <= 1


def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-ww", "-o", column, "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _pid_file(directory: Path) -> Path:
    return directory / "server.pid"


def _write_pid(directory: Path, pid: int, command: Sequence[str]) -> None:
    _pid_file(directory).write_text(f"{pid}\n{' '.join(command)}")
