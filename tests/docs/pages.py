"""The documentation as text: its pages, their fences, headings, links and names of tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^(?P<marks>`{3,})(?P<info>.*)\n(?P<text>(?:.*\n)*?)(?P=marks)$", re.MULTILINE)
_LINK = re.compile(r"(?<!`)!?\[[^\]\n]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@dataclass(frozen=True)
class Fence:
    """One block of code: where it stands, its info string and its text."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{shown(self.page)}:{self.line}"


def shown(page: Path) -> str:
    """The page's path as people write it."""
    return page.relative_to(REPOSITORY).as_posix()


def text_of(name: str) -> str:
    """The text of a page below docs/."""
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


def fences(page: Path) -> list[Fence]:
    """Every fence of the page in the order a reader meets them."""
    text = page.read_text(encoding="utf-8")
    return [
        Fence(page, text.count("\n", 0, match.start()) + 1, match["info"].strip(), match["text"])
        for match in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its fences."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the page's links that lead to files of this repository, or into the page."""
    return [link for link in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """What `#…` may name on the page: its headings, as GitHub spells them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def sections(text: str, level: int) -> Iterator[tuple[str, str]]:
    """Each heading of this level with all that stands below it."""
    pattern = rf"^{'#' * level} (.+)\n((?:(?!#{{1,{level}}} ).*\n?)*)"
    yield from re.findall(pattern, text, re.MULTILINE)


def named_tests(text: str) -> list[tuple[str, str]]:
    """File and function of each test that the text names."""
    return _TEST.findall(text)


def functions_in(path: Path) -> set[str]:
    """The tests that a file defines; none if there is no such file."""
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
