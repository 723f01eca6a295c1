"""Small projects on disk: a valid one, and what a test writes over it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from membrane_sync.project.project import Project

VALID = Path(__file__).parent / "valid"


def valid_project(root: Path) -> Path:
    """A copy of the valid project in `root`."""
    shutil.copytree(VALID, root, dirs_exist_ok=True)
    return root


def write(root: Path, files: Mapping[str, str | None]) -> None:
    """Write files below `root`; None removes one."""
    for name, text in files.items():
        path = root / name
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")


def edit(root: Path, edits: Mapping[str, Mapping[str, str]]) -> None:
    """Replace text in files; the old text must stand there once, so that no edit is lost."""
    for name, replacements in edits.items():
        path = root / name
        text = path.read_text(encoding="utf-8")
        for old, new in replacements.items():
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


def project_of(root: Path, files: Mapping[str, str]) -> Project:
    """A project of these files alone."""
    write(root, files)
    return Project.load(root, {})
