"""From folders to documents: the path of a file is its kind, its key and its layer.

Nothing is validated here but the paths; `project.py` resolves and validates what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from membrane_sync.elements import CONNECTOR_KINDS, KINDS, LAYERED_KINDS, folder_of
from membrane_sync.errors import Problem
from membrane_sync.project.keys import snake_keys
from membrane_sync.project.located import Block, Mark
from membrane_sync.project.yaml_file import YamlProblem, read_yaml

UNIVERSAL, INTEGRATION, CONNECTION, CONNECTOR = (
    "universal",
    "integration",
    "connection",
    "connector",
)

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

    blocks: dict[Address, Block]
    problems: list[Problem]


def load_documents(root: Path) -> Documents:
    """Read every YAML file of `connectors/` and `mappings/` below `root`."""
    loader = _Loader(root)
    loader.connectors()
    loader.mappings()
    return Documents(loader.blocks, loader.problems)


class _Loader:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.blocks: dict[Address, Block] = {}
        self.problems: list[Problem] = []

    def connectors(self) -> None:
        for folder in _folders(self._root / "connectors"):
            self._head(folder, CONNECTOR, "connector")
            self._elements(folder, CONNECTOR, folder.name, CONNECTOR_KINDS)

    def mappings(self) -> None:
        base = self._root / "mappings"
        layers = {"universal", "integrations", "connections"}
        for folder in _folders(base):
            if folder.name not in layers:
                self._problem(folder, _unknown("folder", folder.name, sorted(layers)))
        kinds = (*LAYERED_KINDS, "package")
        if (base / "universal").is_dir():
            self._elements(base / "universal", UNIVERSAL, "", kinds)
        for layer in (INTEGRATION, CONNECTION):
            for folder in _folders(base / f"{layer}s"):
                self._head(folder, layer, layer)
                self._elements(folder, layer, folder.name, kinds)

    def _head(self, folder: Path, layer: str, kind: str) -> None:
        path = next((p for e in _YAML if (p := folder / f"{kind}{e}").exists()), None)
        if path is not None:
            self._document(path, Address(layer, folder.name, kind, folder.name))
        elif layer != CONNECTION:
            self._problem(folder, f"the folder has no {kind}.yaml")

    def _elements(self, base: Path, layer: str, scope: str, kinds: tuple[str, ...]) -> None:
        folders = {folder_of(kind): kind for kind in kinds}
        heads = {f"{name}{ending}" for name in ("connector", layer) for ending in _YAML}
        for entry in sorted(base.iterdir()):
            if entry.is_dir() and not _hidden(entry):
                kind = folders.get(entry.name)
                if kind is None:
                    self._problem(entry, _unknown("folder", entry.name, sorted(folders)))
                    continue
                for path in _yaml_files(entry):
                    self._document(path, Address(layer, scope, kind, path.stem))
            elif entry.suffix in _YAML and entry.name not in heads:
                self._problem(entry, f"a file here must be in one of {', '.join(sorted(folders))}")

    def _document(self, path: Path, address: Address) -> None:
        try:
            block = read_yaml(path, self._shown(path), address.layer)
        except YamlProblem as error:
            self.problems.append(error.problem)
            return
        if address.kind == "package":
            self._package(block, address)
        self._add(address, block)

    def _package(self, block: Block, address: Address) -> None:
        for kind in LAYERED_KINDS:
            elements = block.get(folder_of(kind))
            if isinstance(elements, Block):
                for key, element in elements.items():
                    if element is None:
                        element = Block(elements.marks[key])
                    if isinstance(element, Block):
                        inner = Address(address.layer, address.scope, kind, str(key))
                        self._add(inner, element, elements.marks[key])
                    else:
                        mark = elements.marks[key]
                        message = f"{kind} {key!r} must be a mapping"
                        self.problems.append(Problem(message, mark.file, mark.line))

    def _add(self, address: Address, block: Block, mark: Mark | None = None) -> None:
        block = snake_keys(KINDS[address.kind], block)
        place = mark or block.mark
        written = block.get("key", address.key)
        if written != address.key:
            where = block.marks["key"]
            message = f"key {written!r} differs from the name {address.key!r} it's filed under"
            self.problems.append(Problem(message, where.file, where.line))
        if address in self.blocks:
            first = self.blocks[address].mark
            message = f"{address.kind} {address.key!r} is already defined in {first}"
            self.problems.append(Problem(message, place.file, place.line))
            return
        if "key" not in block:
            block.put("key", address.key, place)
        if address.kind == "integration" and "connector" not in block:
            block.put("connector", address.key, place)
        if mark is not None:
            block.mark = mark
        self.blocks[address] = block

    def _problem(self, path: Path, message: str) -> None:
        self.problems.append(Problem(message, self._shown(path), 1))

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _folders(base: Path) -> Iterator[Path]:
    if base.is_dir():
        yield from (p for p in sorted(base.iterdir()) if p.is_dir() and not _hidden(p))


def _yaml_files(folder: Path) -> Iterator[Path]:
    yield from (p for p in sorted(folder.iterdir()) if p.suffix in _YAML)


def _hidden(path: Path) -> bool:
    return path.name.startswith((".", "__"))


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown {what} {name!r}; {hint}"
