"""Which process a run goes on in, as a tag of the run: so that another can see if it's there yet.

A process is told from a later one of the same number by its birth, and one of another machine, of
a time before a reboot or of another container by where it was born.
"""

import json
import os
from pathlib import Path

from membrane_sync.machine import machine

TAG = ".dagster/membrane_process"
"""Dagster's UI hides tags that begin so."""


def here(run_id: str) -> str:
    """The tag's value for a run that goes on in this process."""
    pid = os.getpid()
    return json.dumps([run_id, pid, _birth(pid), machine()])


def is_alive(run_id: str, told: str | None) -> bool | None:
    """Whether the run's process is there; None if that can't be known from here.

    A run that is tried again inherits the tag of the first one, which says nothing of it.
    """
    of_run, pid, birth, of_machine = json.loads(told) if told else ("", 0, "", "")
    if of_run != run_id or of_machine != machine() or not birth:
        return None
    return _birth(pid) == birth


def _birth(pid: int) -> str:
    """Ticks from the boot to the process's start; empty if it's dead, or there's no `/proc`."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command's name comes first, and may hold anything; field 3, the state, follows it.
    fields = said.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
