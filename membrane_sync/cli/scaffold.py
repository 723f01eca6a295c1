"""The files of a new project: small copies of what this repository itself runs."""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path

from membrane_sync.errors import Fatal

_PYPROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["membrane-sync"]

[tool.membrane_sync]
data_dir = ".membrane"

# The product's own database is SQLite in data_dir, unless said otherwise; ${{NAME}} takes an
# environment variable:
# [tool.membrane_sync.databases]
# app = "${{DATABASE_URL}}"

[tool.dagster]
module_name = "definitions"
code_location_name = "membrane_sync"
"""
_GITIGNORE = ".membrane/\n__pycache__/\n"
_README = """\
# {name}

    membrane check                          # are the declarations right?
    membrane connect {app:9} --tenant acme  # connect a customer's account
    membrane sync                           # bring their records into the product
    membrane dev                            # Dagster's UI, schedules and backfills

What each app offers is in `connectors/`, what the product wants in `mappings/`.
"""
_FOR_DAGSTER = ("definitions.py", "workspace.yaml", "dagster.yaml")
_COPIED = ("connectors", "mappings", *_FOR_DAGSTER)


def scaffold(directory: Path, *, examples: bool = True) -> list[str]:
    """Write a new project and give its files; raises Fatal if the folder has something in it.

    Without `examples`, it has no connectors and mappings yet.
    """
    if directory.exists() and any(directory.iterdir()):
        raise Fatal(f"{directory} is not empty", hint="name a folder that doesn't exist yet")
    directory.mkdir(parents=True, exist_ok=True)
    source = _templates()
    for name in _COPIED if examples else _FOR_DAGSTER:
        if (source / name).is_dir():
            shutil.copytree(source / name, directory / name, ignore=_ignored)
        else:
            shutil.copy(source / name, directory / name)
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "project"
    app = "kinto" if examples else "simulator"
    (directory / "pyproject.toml").write_text(_PYPROJECT.format(name=name), encoding="utf-8")
    (directory / "README.md").write_text(_README.format(name=name, app=app), encoding="utf-8")
    (directory / ".gitignore").write_text(_GITIGNORE, encoding="utf-8")
    written = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return [path.relative_to(directory).as_posix() for path in written]


def _templates() -> Path:
    """Where the copies come from: inside an installed package, or the checkout it runs from."""
    installed = Path(str(files("membrane_sync"))) / "templates"
    return installed if installed.is_dir() else installed.parents[1]


def _ignored(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name.startswith(("__pycache__", "."))}
