"""What processes took, and the databases that they're measured with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Of a process so far, by user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int, which: str = "VmRSS") -> float:
    """The memory that a process has now; with `VmHWM`, the most that it had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith(f"{which}:"))
    return int(line.split()[1]) / 1024


@contextmanager
def databases(kinds: Sequence[str], root: Path) -> Iterator[dict[str, str]]:
    """Empty databases by kind; a commit in any of them is durable."""
    from tests.apps.postgresql import postgresql_server

    with ExitStack() as closing:
        urls: dict[str, str] = {}
        if "sqlite" in kinds:
            urls["sqlite"] = f"sqlite:///{root / 'ledger.db'}"
        if "postgresql" in kinds:
            server = postgresql_server(root / "postgresql", durable=True)
            urls["postgresql"] = closing.enter_context(server)
        yield urls
