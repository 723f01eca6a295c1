"""Programs in processes of their own, forked from a server that has imported what they need.

Of a command that takes two seconds, one and a half are imports: so many commands take much less.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LOUD = """
import logging, runpy, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in ("httpx", "httpcore", "hpack", "membrane_sync", "sqlalchemy.engine"):
    logging.getLogger(name).setLevel(logging.DEBUG)
sys.argv = sys.argv[1:]
sys.modules.pop(sys.argv[0], None)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs the module that its first argument names, and logs all that any library has to say."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["membrane_sync.cli.main", "tests.end_to_end.processes"])


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    out: Path,
    err: Path,
    seconds: float,
) -> int:
    """Run a module as a program, as `LOUD` does; gives its exit code."""
    process = _context.Process(
        target=_run, args=(module, [*arguments], folder, dict(environment), out, err)
    )
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{module} {' '.join(arguments)} didn't end in {seconds:g} s")
    return process.exitcode


def _run(
    module: str,
    arguments: list[str],
    folder: Path,
    environment: dict[str, str],
    out: Path,
    err: Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        stream.flush()
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = ["-c", module, *arguments]
    exec(LOUD, {"__name__": "__main__"})
