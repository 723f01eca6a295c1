"""dlt in an environment of its own, made once and kept: it needs other versions than ours."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path


def environment() -> Path | None:
    """The Python that has dlt; None where it can't be installed. `PEER` names another folder."""
    home = Path(os.environ.get("PEER", Path.home() / ".cache" / "membrane_sync" / "dlt"))
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    try:
        if not (home / "has_parquet").exists():
            venv.create(home, clear=True, with_pip=True)
            answer_of(python, "-m", "pip", "install", "--quiet", "dlt[duckdb,parquet]")
            (home / "has_parquet").touch()
    except (OSError, subprocess.SubprocessError):
        return None
    return python


def answer_of(*command: str | Path) -> str:
    """What a program prints; it sees nothing of this one's modules, and reports to nobody."""
    settings = {**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false"}
    settings.pop("PYTHONPATH", None)
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings)
    return run.stdout
