"""A headless browser for tests of pages, from Debian's package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.apps.debian import find_or_install

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_program() -> Path:
    """The system's Chromium."""
    return find_or_install(_find, "chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """The system's Chromium under Playwright, with a profile that is new and thrown away.

    `asyncio.run` can't be called in the same thread while the browser is open.
    """
    program = chromium_program()
    with sync_playwright() as playwright:
        # Playwright makes the profile directory itself, and refuses to be given one here.
        opened = playwright.chromium.launch(executable_path=str(program), args=list(FLAGS))
        try:
            yield opened
        finally:
            opened.close()


def _find() -> Path | None:
    found = shutil.which("chromium")
    return Path(found) if found else None
