"""Functions that a project keeps in `hooks.py` files, for what YAML can't say.

    function = load_hook(root / "connectors/hubspot/hooks.py", "list_contacts")

A file is run once in a process, and again if it changed. `hook_names` tells what it has without
running it, so that `membrane check` runs nobody's code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from membrane_sync.elements.nearest import nearest
from membrane_sync.errors import MembraneError, NotFound, Problem, ProjectError, TakesTooLong
from membrane_sync.project.patience import limited, shown, within

HOOKS = "hooks.py"

_LOADED: dict[Path, tuple[tuple[int, int], ModuleType]] = {}


def load_hook(file: Path, name: str) -> Callable[..., Any]:
    """The function of this name; raises NotFound, or ProjectError where the file can't be run.

    It raises TakesTooLong where it does.
    """
    if name.startswith("_") or name not in hook_names(file):
        hint = nearest(name, hook_names(file), "it has")
        raise NotFound(f"{shown(file)} has no function {name!r}", hint=hint)
    function: Callable[..., Any] = getattr(_module(file), name)
    return limited(function, file)


class Hooks(Mapping[str, Callable[..., Any]]):
    """The functions of one file by name, loaded when they're asked for."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in hook_names(self._file):
            raise KeyError(name)
        return load_hook(self._file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(hook_names(self._file))

    def __len__(self) -> int:
        return len(hook_names(self._file))


def hook_names(file: Path) -> list[str]:
    """The functions that a file defines for others, by what is written there; none if it's missing.

    Raises ProjectError where it isn't Python.
    """
    if not file.is_file():
        return []
    return list(_names(file, _state(file)))


@lru_cache(maxsize=256)
def _names(file: Path, _: tuple[int, int]) -> tuple[str, ...]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ProjectError([Problem(f"no Python: {error.args[0]}", shown(file), line)]) from None
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return tuple(sorted(node.name for node in functions if not node.name.startswith("_")))


def hook_files(root: Path, integration: str = "", connection: str = "") -> list[Path]:
    """The `hooks.py` files of the layers that a connection sees, nearest first.

    In each layer it is the one beside the elements of a kind, then the layer's own.
    """
    base = root / "mappings"
    folders = [base / "universal"]
    folders += [base / "integrations" / integration] if integration else []
    folders += [base / "connections" / connection] if connection else []
    found: list[Path] = []
    for folder in reversed(folders):
        found += [path for path in sorted(folder.glob(f"*/{HOOKS}")) if path.is_file()]
        found += [folder / HOOKS] if (folder / HOOKS).is_file() else []
    return found


def find_hook(files: Sequence[Path], name: str) -> Callable[..., Any]:
    """The function of this name of the first file that has it; raises NotFound and ProjectError."""
    for file in files:
        if name in hook_names(file):
            return load_hook(file, name)
    known = {known for file in files for known in hook_names(file)}
    hint = nearest(name, known, "there are") if known else "write it in mappings/universal/hooks.py"
    raise NotFound(f"no hooks.py in mappings/ has a function {name!r}", hint=hint)


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives; ProjectError, with file and line, where it raises."""
    try:
        return function(*arguments)
    except MembraneError:
        raise
    except (Exception, SystemExit) as error:
        raise _raised(function, error) from error


def made_by(function: Callable[..., Any], scope: Mapping[str, Any]) -> Any:
    """What a connector's function makes of a scope: a value, or a generator.

    Either tells of what it raises as `called` does, but for errors that are ours already.
    """
    made = called(function, dict(scope))
    return _told(function, made) if isinstance(made, Generator) else made


def _told(function: Callable[..., Any], made: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        return (yield from made)
    except MembraneError:
        raise
    except (Exception, SystemExit) as error:
        raise _raised(function, error) from error


def place_of(function: Callable[..., Any]) -> tuple[str, int]:
    """The file and the line where a function is written, as problems name them."""
    file, line = _place(function)
    return shown(file), line


def _place(function: Callable[..., Any]) -> tuple[Path, int]:
    code = getattr(inspect.unwrap(function), "__code__", None)  # none, if it's decorated otherwise
    return (Path(code.co_filename), code.co_firstlineno) if code else (Path(HOOKS), 1)


def _raised(function: Callable[..., Any], error: BaseException) -> ProjectError:
    """The error with file and line, and without its message: that may hold a name, or a secret."""
    file, line = _place(function)
    message = f"{getattr(function, '__name__', 'a function')} raised {type(error).__name__}"
    return ProjectError([Problem(message, shown(file), _line_in(file, error, line))])


def digest_of(files: Sequence[Path]) -> str:
    """A hash of what the files say, so that what they computed is computed anew if it changes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _module(file: Path) -> ModuleType:
    state = _state(file)
    known = _LOADED.get(file)
    if known is not None and known[0] == state:
        return known[1]
    name = f"membrane_hooks_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: dataclasses look for their module there
    try:
        # Not by the loader, which may take an older compiled file of the same second and size.
        code = compile(file.read_bytes(), str(file), "exec")
        within("the file", file, exec, code, module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, TakesTooLong):
            raise
        line = _line_in(file, error)
        message = f"can't be run: {type(error).__name__}: {error}"
        raise ProjectError([Problem(message, shown(file), line)]) from error
    _LOADED[file] = (state, module)
    return module


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _line_in(file: Path, error: BaseException, otherwise: int = 1) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    found = (f.lineno or 1 for f in reversed(frames) if f.filename == str(file))
    return next(found, otherwise)
