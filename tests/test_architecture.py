"""The rings hold: imports point inward, there are no cycles, and one folder knows Dagster."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "membrane_sync"

CORE = {"errors", "records", "calls", "content", "arrow", "masking", "spelling", "machine"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "content": set(),
    "arrow": {"records"},
    "calls": {"errors", "records"},
    "spelling": set(),
    "machine": set(),
    "masking": {"spelling"},
    "formulas": CORE,
    "elements": CORE | {"formulas"},
    "ports": CORE | {"elements"},
    "project": CORE | {"formulas", "elements", "ports", "udm"},
    "sync": CORE | {"formulas", "elements", "ports", "project"},
    "clients": CORE | {"formulas", "elements", "ports"},
    "stores": CORE | {"formulas", "elements", "ports"},
    "testing": CORE | {"formulas", "elements", "ports"},
    "connections": CORE | {"formulas", "elements", "ports", "project"},
    "events": CORE | {"formulas", "elements", "ports", "project", "sync"},
    "bootstrap": CORE
    | {
        "connections",
        "events",
        "formulas",
        "elements",
        "ports",
        "project",
        "sync",
        "clients",
        "stores",
    },
    "udm": {"elements"},
    "apps": set(),
    "orchestration": CORE | {"elements", "ports", "project", "sync", "events", "bootstrap"},
    "server": CORE | {"elements", "ports", "project", "connections", "events", "bootstrap"},
    "kit": CORE | {"formulas", "elements", "ports", "project", "sync", "clients", "testing"},
    "cli": CORE
    | {"elements", "ports", "project", "sync", "stores", "connections", "events", "bootstrap"}
    | {"server", "kit", "testing", "apps"},
    "__init__": set(),
}
"""Each part of the package, and the parts it may import."""


def modules() -> dict[str, Path]:
    """Every module by its dotted name below the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Modules of the package that a module imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("membrane_sync"):
            target = (node.module or "").removeprefix("membrane_sync").lstrip(".")
            for alias in node.names:
                inner = f"{target}.{alias.name}" if target else alias.name
                found.add(inner if inner in MODULES else target)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("membrane_sync."):
                    found.add(alias.name.removeprefix("membrane_sync."))
    return found - {"", name}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_inward(name: str) -> None:
    part = name.split(".")[0]
    outside = {target.split(".")[0] for target in imports(name)} - {part}
    assert outside <= MAY_IMPORT[part], f"{name} imports {outside - MAY_IMPORT[part]}"


def test_every_part_has_its_rule() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(MAY_IMPORT)


def test_no_cycles() -> None:
    TopologicalSorter({name: imports(name) for name in MODULES}).prepare()
    TopologicalSorter(MAY_IMPORT).prepare()


def test_lake_and_ledger_know_nothing_of_each_other() -> None:
    sides = {"stores.lake": "stores.ledger", "stores.ledger": "stores.lake"}
    for side, other in sides.items():
        mine = [name for name in MODULES if name.startswith(f"{side}.")]
        guilty = [n for n in mine if any(t.startswith(other) for t in imports(n))]
        assert mine
        assert guilty == []


def test_only_orchestration_imports_dagster() -> None:
    guilty = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(n.split(".")[0].startswith("dagster") for n in names):
                guilty.append(name)
    assert {name.split(".")[0] for name in guilty} == {"orchestration"}


def test_only_clients_apps_and_tests_import_httpx() -> None:
    guilty = {
        name.split(".")[0]
        for name, path in MODULES.items()
        if "import httpx" in path.read_text(encoding="utf-8")
    }
    assert guilty <= {"clients", "apps", "testing"}


def test_orchestration_keeps_its_annotations_at_run_time() -> None:
    for name, path in MODULES.items():
        if name.split(".")[0] == "orchestration":
            lines = path.read_text(encoding="utf-8").splitlines()
            assert "from __future__ import annotations" not in lines, name


def test_the_core_runs_without_dagster() -> None:
    """Everything but orchestration/ imports where Dagster can't be."""
    names = [n for n in MODULES if n.split(".")[0] not in ("orchestration", "__init__")]
    code = (
        "import sys, importlib\n"
        "sys.modules['dagster'] = None\n"
        f"[importlib.import_module('membrane_sync.' + name) for name in {sorted(names)!r}]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is() -> None:
    silent = [
        name
        for name, path in MODULES.items()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
