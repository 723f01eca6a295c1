"""Where a project keeps its data: `[tool.membrane_sync]` in pyproject.toml, or the environment.

`${NAME}` in the file takes an environment variable. The environment wins over the file:
`MEMBRANE_DATA_DIR`, `MEMBRANE_LEDGER_URL`, `MEMBRANE_SECRET_KEY`, `MEMBRANE_SECRET_KEYS_OLD`,
`MEMBRANE_VAULT`, `MEMBRANE_VAULT_TOKEN`, `MEMBRANE_DATABASE_<NAME>`,
`MEMBRANE_LOCK_WAIT_SECONDS`, `MEMBRANE_QUOTA_WAIT_SECONDS`, `MEMBRANE_LEASE_SECONDS`,
`MEMBRANE_KEEP_CHANGES_DAYS`, `MEMBRANE_KEEP_HISTORY_DAYS`, `MEMBRANE_KEEP_EVENTS_DAYS`,
`MEMBRANE_EVENT_ATTEMPTS`. Relative paths, in SQLite URLs too, are below the project.
`server_settings` and `connect_settings` have those of the HTTP API and of the connect page.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from membrane_sync.errors import Problem, ProjectError
from membrane_sync.project.connect_settings import ConnectSettings, ConnectTable, connect_settings
from membrane_sync.project.environment import expanded, unset
from membrane_sync.project.located import Block, Mark, Steps, problem_at
from membrane_sync.project.server_settings import ServerSettings, ServerTable, server_settings
from membrane_sync.project.validation import validated_as

FILE = "pyproject.toml"
_TABLE = "tool.membrane_sync"


@dataclass(frozen=True)
class Settings:
    """What differs from machine to machine; `databases` are SQLAlchemy URLs by name."""

    data_dir: Path
    ledger_url: str = field(repr=False)
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    secret_keys_old: Sequence[str] = field(default=(), repr=False)
    vault: str = field(default="", repr=False)
    vault_token: str = field(default="", repr=False)
    lock_wait_seconds: float = 60.0
    keep_changes_days: int | None = None
    keep_history_days: int | None = None
    keep_events_days: int = 30
    quota_wait_seconds: float = 300.0
    lease_seconds: float = 30.0
    event_attempts: int = 10
    event_claim_seconds: float = 15.0
    connect: ConnectSettings = field(default_factory=ConnectSettings)
    server: ServerSettings = field(default_factory=ServerSettings)


class _Table(BaseModel):
    """What `[tool.membrane_sync]` may say."""

    model_config = ConfigDict(strict=True, extra="forbid")

    data_dir: str = ".membrane"
    ledger_url: str = ""
    vault: str = ""
    databases: dict[str, str] = Field(default_factory=dict)
    lock_wait_seconds: float = Field(default=60.0, ge=0)
    keep_changes_days: int | None = Field(default=None, ge=1)
    keep_history_days: int | None = Field(default=None, ge=1)
    keep_events_days: int = Field(default=30, ge=1)
    quota_wait_seconds: float = Field(default=300.0, ge=0)
    lease_seconds: float = Field(default=30.0, gt=0)
    event_attempts: int = Field(default=10, ge=1)
    event_claim_seconds: float = Field(default=15.0, gt=0)
    connect: ConnectTable = Field(default_factory=ConnectTable)
    server: ServerTable = Field(default_factory=ServerTable)


def load_settings(root: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the project at `root`; raises ProjectError with all that's wrong in them."""
    settings, problems = read_settings(root, environ)
    if problems:
        raise ProjectError(problems)
    return settings


def read_settings(
    root: Path, environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[Problem]]:
    """The settings as far as they can be read, and all that's wrong in them."""
    environment = os.environ if environ is None else environ
    problems: list[Problem] = []
    try:
        block = _document(root)
        problems += [
            problem_at(block, path, message, "settings")
            for path, message in unset(block, environment)
            if not environment.get(_variable(path))
        ]
        table = validated_as(_Table, expanded(block, environment), "settings")
        settings = _settings(root.resolve(), table, environment)
    except ProjectError as error:
        problems += error.problems
        settings = _settings(root.resolve(), _Table(), {})
    return settings, problems


def _settings(root: Path, table: _Table, environ: Mapping[str, str]) -> Settings:
    data_dir = root / (environ.get("MEMBRANE_DATA_DIR") or table.data_dir or ".membrane")
    ledger = environ.get("MEMBRANE_LEDGER_URL") or table.ledger_url
    databases = {"app": f"sqlite:///{data_dir / 'app.db'}", **table.databases}
    for name, url in environ.items():
        if name.startswith("MEMBRANE_DATABASE_") and url:
            databases[name.removeprefix("MEMBRANE_DATABASE_").lower()] = url
    return Settings(
        data_dir=data_dir,
        ledger_url=_absolute(root, ledger or f"sqlite:///{data_dir / 'ledger.db'}"),
        databases={name: _absolute(root, url) for name, url in databases.items()},
        secret_key=environ.get("MEMBRANE_SECRET_KEY"),
        secret_keys_old=_listed(environ.get("MEMBRANE_SECRET_KEYS_OLD", "")),
        vault=environ.get("MEMBRANE_VAULT") or table.vault,
        vault_token=environ.get("MEMBRANE_VAULT_TOKEN", ""),
        lock_wait_seconds=_seconds(environ, "lock_wait_seconds", table.lock_wait_seconds),
        quota_wait_seconds=_seconds(environ, "quota_wait_seconds", table.quota_wait_seconds),
        lease_seconds=_seconds(environ, "lease_seconds", table.lease_seconds),
        event_attempts=_whole(environ, "event_attempts", table.event_attempts),
        event_claim_seconds=_seconds(environ, "event_claim_seconds", table.event_claim_seconds),
        keep_changes_days=_days(environ, "keep_changes_days", table.keep_changes_days),
        keep_history_days=_days(environ, "keep_history_days", table.keep_history_days),
        keep_events_days=_days(environ, "keep_events_days", None) or table.keep_events_days,
        connect=connect_settings(table.connect, environ),
        server=server_settings(root, table.server, environ),
    )


def _listed(text: str) -> tuple[str, ...]:
    """The items between the commas."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _variable(path: Steps) -> str:
    """The environment variable that wins over this place in the file."""
    names = ("database", *path[1:]) if path[0] == "databases" else path
    names = names[1:] if names[0] == "server" else names
    return "_".join(("MEMBRANE", *names)).upper()


def _days(environ: Mapping[str, str], key: str, declared: int | None) -> int | None:
    given = environ.get(_variable((key,)))
    return _counted(key, given, "a number of days") if given else declared


def _whole(environ: Mapping[str, str], key: str, declared: int) -> int:
    given = environ.get(_variable((key,)))
    return _counted(key, given, "a whole number from 1 on") if given else declared


def _counted(key: str, given: str, what: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        name = _variable((key,))
        message = f"the environment variable {name} must be {what}, is {given!r}"
        raise ProjectError([Problem(message)])
    return int(given)


def _seconds(environ: Mapping[str, str], key: str, declared: float) -> float:
    name = _variable((key,))
    try:
        return float(environ.get(name) or declared)
    except ValueError:
        message = f"the environment variable {name} must be a number, is {environ[name]!r}"
        raise ProjectError([Problem(message)]) from None


def _absolute(root: Path, url: str) -> str:
    """SQLite paths are relative to the project, not to whoever runs the process."""
    match = re.fullmatch(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)(.*)", url)
    return f"{match[1]}{root / match[2]}{match[3]}" if match else url


def _document(root: Path) -> Block:
    """The table of the file with the line of each key; empty if there's none."""
    path = root / FILE
    if not path.exists():
        return Block(Mark(FILE, 1))
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text).get("tool", {}).get("membrane_sync", {})
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        problem = Problem(f"not TOML: {error}", FILE, int(line[1]) if line else 1)
        raise ProjectError([problem]) from None
    except UnicodeDecodeError as error:
        raise ProjectError([Problem(f"not UTF-8 text: {error.reason}", FILE, 1)]) from None
    return _marked(table, text, (_TABLE,))


def _marked(table: Mapping[str, Any], text: str, path: tuple[str, ...]) -> Block:
    lines = _key_lines(text)
    block = Block(Mark(FILE, lines.get(path, 1)))
    for key, value in table.items():
        here = (*path, key)
        inner = _marked(value, text, here) if isinstance(value, dict) else value
        block.put(key, inner, Mark(FILE, lines.get(here, block.mark.line)))
    return block


def _key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Line of each table and key below ours; TOML's parser keeps none."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        key = re.match(r"\s*([\w\"'-]+)\s*=", line)
        if header:
            ours = f"{header[1]}.".startswith(f"{_TABLE}.")
            inner = header[1].removeprefix(_TABLE).strip(".")
            table = (_TABLE, *([inner] if inner else [])) if ours else ()
            lines.setdefault(table, number)
        elif key and table:
            lines.setdefault((*table, key[1].strip("\"'")), number)
    return lines
