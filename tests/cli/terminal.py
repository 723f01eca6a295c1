"""`membrane connect` in a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 60.0


class Terminal:
    """`membrane connect` as a process of its own; `said` is what it has printed for people."""

    def __init__(self, project: Path, *arguments: str) -> None:
        self._log = project / "connect.log"
        environment = {**os.environ, "BROWSER": "true"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "membrane_sync.cli.main", "connect", *arguments],
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self._log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said
            time.sleep(0.05)
        return found[1]

    @property
    def said(self) -> str:
        return self._log.read_text()

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out
