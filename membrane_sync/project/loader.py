"""From folders to documents: the path of a file is its kind, its key and its layer.

Nothing is validated here but the paths; `project.py` resolves and validates what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from membrane_sync.elements import CONNECTOR_KINDS, KINDS, LAYERED_KINDS, folder_of
from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import Problem
from membrane_sync.project.keys import snake_keys
from membrane_sync.project.located import Block, Mark
from membrane_sync.project.yaml_file import YamlProblem, read_yaml

UNIVERSAL, INTEGRATION, CONNECTION = "universal", "integration", "connection"
CONNECTOR = "connector"
"""The three layers, and what is said of an app whoever uses it."""

MAPPED_KINDS = (*LAYERED_KINDS, "package")

_ANY = "*"
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Address:
    """What a document is: `scope` is the app, integration or connection; empty if universal."""

    layer: str
    scope: str
    kind: str
    key: str


@dataclass
class Documents:
    """All documents of a project by address, and what was wrong with the files."""

    blocks: dict[Address, Block] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unread: set[tuple[str, str]] = field(default_factory=set)
    """Kind and key of what stands in files that couldn't be read or placed."""

    def not_read(self, kind: str, key: str = _ANY) -> None:
        """Remember that this element's file is already complained of."""
        self.unread.add((_ANY, _ANY) if kind == "package" else (kind, key))

    def may_hold(self, kind: str, key: str) -> bool:
        """May the element stand in a file that couldn't be read? Then it isn't missing."""
        return not self.unread.isdisjoint({(kind, key), (kind, _ANY), (_ANY, _ANY)})


def load_documents(root: Path) -> Documents:
    """Read every YAML file of `connectors/` and `mappings/` below `root`."""
    loader = _Loader(root)
    loader.connectors(root / "connectors")
    loader.mappings(root / "mappings")
    return loader.documents


class _Loader:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.documents = Documents()

    def connectors(self, base: Path) -> None:
        self._no_files(base, f"{base.name}/<app>/connector.yaml")
        for folder in _folders(base):
            self._head(folder, CONNECTOR)
            self._elements(folder, CONNECTOR, folder.name, CONNECTOR_KINDS)

    def mappings(self, base: Path) -> None:
        layers = {"universal": UNIVERSAL, "integrations": INTEGRATION, "connections": CONNECTION}
        self._no_files(base, f"one of the folders {', '.join(layers)}")
        for folder in _folders(base):
            layer = layers.get(folder.name)
            if layer is None:
                self._misplaced(folder, _unknown_folder(folder.name, layers))
            elif layer == UNIVERSAL:
                self._elements(folder, UNIVERSAL, "", MAPPED_KINDS)
            else:
                self._scopes(folder, layer)

    def _scopes(self, base: Path, layer: str) -> None:
        self._no_files(base, f"{base.name}/<{layer}>/{layer}.yaml")
        for folder in _folders(base):
            self._head(folder, layer)
            self._elements(folder, layer, folder.name, MAPPED_KINDS)

    def _head(self, folder: Path, kind: str) -> None:
        """The file that says what the folder is; a connection's may be in the ledger alone."""
        paths = [path for path in _yaml_files(folder) if path.stem == kind]
        for path in paths:
            self._document(path, Address(kind, folder.name, kind, folder.name))
        if not paths and kind != CONNECTION:
            self._problem(folder, f"the folder has no {kind}.yaml")
            self.documents.not_read(kind, folder.name)

    def _elements(self, base: Path, layer: str, scope: str, kinds: tuple[str, ...]) -> None:
        folders = {folder_of(kind): kind for kind in kinds}
        self._no_files(base, f"one of the folders {', '.join(sorted(folders))}", layer)
        for folder in _folders(base):
            kind = folders.get(folder.name)
            if kind is None:
                self._misplaced(folder, _unknown_folder(folder.name, folders))
                continue
            for path in _yaml_files(folder):
                self._document(path, Address(layer, scope, kind, path.stem))
            for inner in _folders(folder):
                self._misplaced(inner, f"{folder.name} holds files, no folders")

    def _document(self, path: Path, address: Address) -> None:
        try:
            block = read_yaml(path, self._shown(path), address.layer)
            self._add(address, snake_keys(KINDS[address.kind], block))
        except YamlProblem as error:
            self.documents.problems.extend(error.problems)
            self.documents.not_read(address.kind, address.key)

    def _add(self, address: Address, block: Block) -> None:
        first = self.documents.blocks.get(address)
        if first is not None:
            message = f"{address.kind} {address.key!r} is already defined in {first.mark}"
            raise YamlProblem(_problem(message, block.mark))
        written = block.get("key", address.key)
        if written != address.key:
            message = f"key {written!r} differs from the name {address.key!r} it's filed under"
            self.documents.problems.append(_problem(message, block.marks["key"]))
        block.put("key", address.key, block.marks.get("key", block.mark))
        if address.kind == INTEGRATION and "connector" not in block:
            block.put("connector", address.key, block.mark)
        self.documents.blocks[address] = block
        if address.kind == "package":
            self._inline_elements(address, block)

    def _inline_elements(self, package: Address, block: Block) -> None:
        for kind in LAYERED_KINDS:
            elements = block.get(folder_of(kind))
            if isinstance(elements, Block):
                for key, element in elements.items():
                    address = Address(package.layer, package.scope, kind, key)
                    self._inline(address, element, elements.marks[key])
            elif elements is not None:
                self.documents.not_read(kind)

    def _inline(self, address: Address, element: Any, mark: Mark) -> None:
        if element is not None and not isinstance(element, Block):
            self.documents.not_read(address.kind, address.key)
            return
        try:
            block = snake_keys(KINDS[address.kind], element or Block(mark))
            block.mark = mark
            self._add(address, block)
        except YamlProblem as error:
            self.documents.problems.extend(error.problems)

    def _no_files(self, base: Path, where: str, layer: str = "") -> None:
        for path in _yaml_files(base):
            if path.stem != layer or layer == UNIVERSAL:
                self._misplaced(path, f"this file is in no place of its own; it belongs in {where}")

    def _misplaced(self, path: Path, message: str) -> None:
        self._problem(path, message)
        self.documents.not_read("package")

    def _problem(self, path: Path, message: str) -> None:
        self.documents.problems.append(Problem(message, self._shown(path), 1))

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _folders(base: Path) -> Iterator[Path]:
    yield from (path for path in _entries(base) if path.is_dir())


def _yaml_files(base: Path) -> Iterator[Path]:
    yield from (path for path in _entries(base) if path.is_file() and path.suffix in _YAML)


def _entries(base: Path) -> list[Path]:
    entries = sorted(base.iterdir()) if base.is_dir() else []
    return [path for path in entries if not path.name.startswith((".", "__"))]


def _problem(message: str, mark: Mark) -> Problem:
    return Problem(message, mark.file, mark.line)


def _unknown_folder(name: str, known: Iterable[str]) -> str:
    return f"unknown folder {name!r}; {nearest(name, known)}"
