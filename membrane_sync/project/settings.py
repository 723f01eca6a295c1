"""Where a project keeps its data: `[tool.membrane_sync]` in pyproject.toml, or the environment.

`${NAME}` in a value takes an environment variable. The environment wins over the file:
`MEMBRANE_DATA_DIR`, `MEMBRANE_LEDGER_URL`, `MEMBRANE_SECRET_KEY`, `MEMBRANE_DATABASE_<NAME>`,
`MEMBRANE_LOCK_WAIT_SECONDS`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from membrane_sync.errors import Problem, ProjectError

_KNOWN = ("data_dir", "ledger_url", "databases", "lock_wait_seconds")


@dataclass(frozen=True)
class Settings:
    """What differs from machine to machine; `databases` are SQLAlchemy URLs by name."""

    data_dir: Path
    ledger_url: str
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    lock_wait_seconds: float = 60.0


def load_settings(root: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the project at `root`; raises ProjectError for an unknown or empty one."""
    environment = os.environ if environ is None else environ
    table = _table(root)
    data_dir = root / _text(
        environment.get("MEMBRANE_DATA_DIR") or table.get("data_dir", ""), environment
    )
    if data_dir == root:
        data_dir = root / ".membrane"
    ledger = environment.get("MEMBRANE_LEDGER_URL") or table.get("ledger_url", "")
    return Settings(
        data_dir=data_dir,
        ledger_url=_text(ledger, environment) or f"sqlite:///{data_dir / 'ledger.db'}",
        databases=_databases(root, data_dir, table.get("databases", {}), environment),
        secret_key=environment.get("MEMBRANE_SECRET_KEY"),
        lock_wait_seconds=float(
            environment.get("MEMBRANE_LOCK_WAIT_SECONDS") or table.get("lock_wait_seconds", 60)
        ),
    )


def _table(root: Path) -> dict[str, object]:  # type: ignore[type-arg,unused-ignore]
    path = root / "pyproject.toml"
    if not path.exists():
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ProjectError([Problem(f"not TOML: {error}", "pyproject.toml", 1)]) from None
    table = document.get("tool", {}).get("membrane_sync", {})
    unknown = [name for name in table if name not in _KNOWN]
    if unknown:
        near = get_close_matches(unknown[0], _KNOWN, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_KNOWN)}"
        message = f"[tool.membrane_sync] has the unknown key {unknown[0]!r}{hint}"
        raise ProjectError([Problem(message, "pyproject.toml", _line_of(path, unknown[0]))])
    return dict(table)


def _line_of(path: Path, key: str) -> int:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip().startswith(key):
            return number
    return 1


def _databases(
    root: Path, data_dir: Path, declared: object, environment: Mapping[str, str]
) -> dict[str, str]:
    urls = dict(declared) if isinstance(declared, dict) else {}
    for name, value in environment.items():
        if name.startswith("MEMBRANE_DATABASE_") and value:
            urls[name.removeprefix("MEMBRANE_DATABASE_").lower()] = value
    resolved = {name: _text(url, environment) for name, url in urls.items()}
    resolved.setdefault("app", f"sqlite:///{data_dir / 'app.db'}")
    return {name: _absolute(root, url) for name, url in resolved.items()}


def _absolute(root: Path, url: str) -> str:
    """SQLite paths are relative to the project, not to whoever runs the process."""
    match = re.fullmatch(r"(sqlite(?:\+\w+)?:///)(?!/)([^?]+)(.*)", url)
    return f"{match[1]}{root.resolve() / match[2]}{match[3]}" if match else url


def _text(value: object, environment: Mapping[str, str]) -> str:
    def variable(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environment:
            message = f"[tool.membrane_sync] uses ${{{name}}}, which is not set in the environment"
            raise ProjectError([Problem(message, "pyproject.toml", 1)])
        return environment[name]

    return re.sub(r"\$\{(\w+)\}", variable, str(value))
