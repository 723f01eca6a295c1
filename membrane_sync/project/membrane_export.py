"""Read a workspace that Membrane's tools exported, and write it as our `mappings/` folders.

Nothing is dropped in silence: every file and every key is carried over, changed, or left out with a
reason. What we write passes the checks of a single element; `membrane check` then sees all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from membrane_sync.elements import KINDS, LAYERED_KINDS, folder_of
from membrane_sync.elements.base import KEY_PATTERN, IsSchema
from membrane_sync.errors import Fatal, NotFound
from membrane_sync.project.customisation import path_text
from membrane_sync.project.keys import snake_keys
from membrane_sync.project.layers import resolve
from membrane_sync.project.loader import INTEGRATION, UNIVERSAL, Address
from membrane_sync.project.located import Block, Items, Steps, is_formula, leads, plain
from membrane_sync.project.membrane_words import (
    KIND_OF,
    Translation,
    own_key,
    references_to_schemas,
)
from membrane_sync.project.references import value_problems_of
from membrane_sync.project.validation import Invalid, validated
from membrane_sync.project.walk import Marked, marked_values
from membrane_sync.project.yaml_file import YamlProblem, read_yaml, write_yaml

CARRIED, CHANGED, LEFT_OUT, BOOKS = "carried", "changed", "left out", "books"
"""What became of something: `books` are keys that only Membrane's own service uses."""


@dataclass(frozen=True)
class Note:
    """What became of a file, or of one value in it, and why."""

    outcome: str
    file: str
    element: str = ""
    path: str = ""
    reason: str = ""


@dataclass
class Import:
    """Our files by their path below the project, and the report."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


@dataclass
class _Source:
    """One exported file and the element that's made of it."""

    address: Address
    file: str
    spec: Block
    customised: bool
    own: Block


def import_export(directory: Path) -> Import:
    """Read the export in `directory`, or in its folder `membrane`; raises NotFound if it's none."""
    root = directory
    while (root / "membrane").is_dir():
        root = root / "membrane"
    importer = _Importer(root)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        importer.read(path)
    if not importer.sources:
        hint = "it holds folders such as field-mappings/ and integrations/"
        raise NotFound(f"{directory} is no export of a Membrane workspace", hint=hint)
    return importer.finish()


def write_import(imported: Import, output: Path) -> None:
    """Write all files below the project `output`; raises Fatal if one of them is there already.

    Where there's no project yet, its folder of connectors is made, so that `check` names the
    connectors that it needs.
    """
    taken = [name for name in imported.files if (output / name).exists()]
    if taken:
        raise Fatal(
            f"{len(taken)} files are there already, such as {taken[0]}; nothing was written",
            hint="name another project: --output DIRECTORY",
        )
    (output / "connectors").mkdir(parents=True, exist_ok=True)
    for name, content in imported.files.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write_yaml(content), encoding="utf-8")


class _Importer:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._notes: list[Note] = []
        self._makers: dict[tuple[str, str], tuple[str, str]] = {}
        """Of each element by kind and key, the one that it's written in: mostly itself."""
        self.sources: dict[Address, _Source] = {}

    def read(self, path: Path) -> None:
        """Take one file in, or note why it can't be."""
        file = path.relative_to(self._root).as_posix()
        written, reason = _address(path.relative_to(self._root))
        address, reason = _keyed(written) if written else (None, reason)
        if address is None:
            self._notes.append(Note(LEFT_OUT, file, reason=reason))
            return
        try:
            spec = read_yaml(path, file, address.layer)
        except YamlProblem as error:
            message = "; ".join(map(str, error.problems))
            self._notes.append(Note(LEFT_OUT, file, _name(address), reason=message))
            return
        if spec.get("archivedAt") is not None:
            self._notes.append(Note(LEFT_OUT, file, _name(address), reason="it's archived"))
            return
        if address in self.sources:
            first = self.sources[address].file
            reason = f"{first} is the same element"
            self._notes.append(Note(LEFT_OUT, file, _name(address), reason=reason))
            return
        if written and "key" not in spec:
            spec.put("key", written.key, spec.mark)
        off = spec.get("isCustomized", spec.get("customized", True)) is False
        self.sources[address] = _Source(address, file, spec, not off, Block(spec.mark))

    def finish(self) -> Import:
        """Translate all that was read, universal elements first, since others differ from them."""
        keys = {
            str(source.spec[name]): address.key
            for address, source in self.sources.items()
            for name in ("id", "uuid")
            if source.spec.get(name) is not None
        }
        self._makers = {(a.kind, a.key): (a.kind, a.key) for a in self.sources}
        ordered = sorted(self.sources.values(), key=lambda s: s.address.layer != UNIVERSAL)
        for source in ordered:
            self._translate(source, keys)
        imported = Import(notes=self._notes)
        for source in self.sources.values():
            self._carry(source, imported)
        return imported

    def _translate(self, source: _Source, keys: dict[str, str]) -> None:
        address, kind = source.address, source.address.kind
        mine = (kind, address.key)

        def taken(inner: str, key: str) -> bool:
            return self._makers.get((inner, key), mine) != mine

        translation = Translation(kind, address.key, keys, taken, self._noting(source))
        if kind == "flow" and source.spec.get("isDeactivated") is True:
            self._noting(source)(("isDeactivated",), CHANGED, "enabled: false")
            source.spec.put("enabled", False, source.spec.marks["isDeactivated"])
            del source.spec["isDeactivated"]
        self._cleaned(source, translation.of(source.spec))
        for (inner, key), body in translation.inline.items():
            inside = Address(address.layer, address.scope, inner, key)
            made = _Source(inside, source.file, body, source.customised, Block(body.mark))
            self._makers[inner, key] = mine
            self.sources[inside] = made
            self._cleaned(made, body)

    def _cleaned(self, source: _Source, spec: Block) -> None:
        """Take out what we don't know, each with the words `check` has for it."""
        note = self._noting(source)
        written = spec.pop("key", source.address.key)
        if written != source.address.key:
            reason = f"{written!r} is filed under {source.address.key!r}, which is its key now"
            note(("key",), CHANGED, reason)
        try:
            own = snake_keys(KINDS[source.address.kind], spec)
        except YamlProblem as error:
            note((), LEFT_OUT, "; ".join(problem.message for problem in error.problems))
            return
        self._other_references(source, own)
        own.put("key", source.address.key, own.mark)
        while found := _problem(source.address.kind, own):
            path, message = found
            if not path or path == ("key",):
                note((), LEFT_OUT, message)
                return
            note(path, LEFT_OUT, message)
            _remove(own, path)
        source.own = own

    def _other_references(self, source: _Source, own: Block) -> None:
        schemas = (m for m in marked_values(KINDS[source.address.kind], own) if _is_schema(m))
        found = [(m.path, *place) for m in schemas for place in references_to_schemas(m.value)]
        for start, path, part in found:
            mark = part.marks["$dataSchemaRef"]
            value = part.pop("$dataSchemaRef")
            part.put("$ref", value, mark)
            self._noting(source)((*start, *path, "$dataSchemaRef"), CHANGED, "is called $ref")

    def _carry(self, source: _Source, imported: Import) -> None:
        """Put the element among our files, if it's whole and says something of its own."""
        if "key" not in source.own:
            return  # it was left out, with its reason
        address, note = source.address, self._noting(source)
        parent = self._parent(address)
        if reason := self._incomplete(source, parent):
            note((), LEFT_OUT, reason)
            return
        content = plain(source.own)
        del content["key"]
        if parent is not None and not source.customised:
            content = _differing(plain(parent), content)
            if not content:
                note((), CARRIED, "it's not customised and inherits all of it")
                return
        imported.files[_path(address)] = content
        note((), CARRIED, _path(address))

    def _parent(self, address: Address) -> Block | None:
        universal = self.sources.get(Address(UNIVERSAL, "", address.kind, address.key))
        if address.layer == UNIVERSAL or universal is None or "key" not in universal.own:
            return None
        return universal.own

    def _incomplete(self, source: _Source, parent: Block | None) -> str:
        """What the element lacks, if no other layer has it."""
        address = source.address
        refined = any(
            (a.kind, a.key) == (address.kind, address.key) and a.layer == INTEGRATION
            for a in self.sources
        )
        if address.layer == UNIVERSAL and refined:
            return ""
        own = source.own
        if address.kind == INTEGRATION:
            own = resolve([own])
            own.put("connector", address.key, own.mark)
        try:
            validated(address.kind, resolve([own] if parent is None else [parent, own]))
        except Invalid as error:
            return "; ".join(problem.message for problem in error.problems)
        return ""

    def _noting(self, source: _Source) -> Any:
        def note(path: Steps, outcome: str, reason: str) -> None:
            name = _name(source.address)
            self._notes.append(Note(outcome, source.file, name, path_text(path), reason))

        return note


def _is_schema(marked: Marked) -> bool:
    return isinstance(marked.marker, IsSchema)


def _address(path: Path) -> tuple[Address | None, str]:
    """Layer, kind and key of a file by its place; or None, and why not."""
    if path.suffix not in (".yaml", ".yml"):
        return None, "not YAML"
    scope, parts = "", path.parts
    if parts[0] == "integrations" and len(parts) > 1:
        scope = parts[1].removesuffix(path.suffix)
        if _is_head(parts[1:], scope, path.stem):
            return Address(INTEGRATION, scope, INTEGRATION, scope), ""
        parts = parts[2:]
    singular = re.sub(r"(?<!^)(?=[A-Z])", "-", parts[0]).lower().removesuffix("s")
    kind = KIND_OF.get(singular)
    if kind is None:
        return None, f"there is no kind of ours for {parts[0]}"
    key = parts[1].removesuffix(path.suffix) if len(parts) > 1 else ""
    if len(parts) == 4 and not scope and parts[2] == path.stem:
        scope = parts[2]  # the older <kind>/<key>/<integration>/<integration>.yaml
    elif not _is_head(parts[1:], key, path.stem):
        return None, f"no file of the layout: it should be {parts[0]}/<key>/spec.yaml"
    return Address(INTEGRATION if scope else UNIVERSAL, scope, kind, key), ""


def _is_head(parts: tuple[str, ...], name: str, stem: str) -> bool:
    """Is it `<name>/spec.yaml`, the older `<name>/<name>.yaml`, or just `<name>.yaml`?"""
    return bool(name) and (len(parts) == 1 or (len(parts) == 2 and stem in ("spec", name)))


def _keyed(written: Address) -> tuple[Address | None, str]:
    address = replace(written, key=own_key(written.key), scope=own_key(written.scope))
    for key in filter(None, (address.key, address.scope)):
        if not re.fullmatch(KEY_PATTERN, key):
            return None, f"{key!r} is no key; use letters, digits, - and _"
    return address, ""


def _problem(kind: str, own: Block) -> tuple[Steps, str] | None:
    """The first value that can't stay, by the path at which to take it out."""
    for path, message in _found(kind, own):
        return _removable(own, path), message
    return None


def _found(kind: str, own: Block) -> Iterator[tuple[Steps, str]]:
    try:
        validated(kind, resolve([own]))
    except Invalid as error:
        for path, problem in error.places:
            # Another layer may complete the element; inside of a part a missing key is as wrong.
            if problem in error.wrong or len(path) > 1:
                yield path, problem.message
    for marked in marked_values(KINDS[kind], own):
        yield from (((*marked.path, *below), m) for below, m in value_problems_of(marked))


def _removable(own: Block, path: Steps) -> Steps:
    """The value at the path; the formula it's in; or what lacks it."""
    value: Any = own
    for index, step in enumerate(path):
        if index and is_formula(value) and next(iter(value)) != "$ref":
            return path[:index]
        if not leads(value, step):
            return path[:index]
        value = value[step]
    return path


def _remove(block: Block, path: Steps) -> None:
    value: Any = block
    for step in path[:-1]:
        value = value[step]
    last = path[-1]
    if isinstance(value, Items):
        del value.marks[last]
    del value[last]


def _differing(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """What the child says otherwise than its parent."""
    result: dict[str, Any] = {}
    for key, value in child.items():
        before = parent.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if is_formula(value) or is_formula(before):
                inner = value if value != before else {}
            else:
                inner = _differing(before, value)
            if inner:
                result[key] = inner
        elif value != before or key not in parent:
            result[key] = value
    return result


def _name(address: Address) -> str:
    scope = f" of {address.scope}" if address.scope and address.kind in LAYERED_KINDS else ""
    return f"{address.kind} {address.key}{scope}"


def _path(address: Address) -> str:
    if address.kind == INTEGRATION:
        return f"mappings/integrations/{address.key}/integration.yaml"
    base = f"mappings/integrations/{address.scope}" if address.scope else "mappings/universal"
    return f"{base}/{folder_of(address.kind)}/{address.key}.yaml"
