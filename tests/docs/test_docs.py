"""The documentation is true: its blocks run, its names exist, and nothing is left out."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from pydantic import BaseModel

from membrane_sync import errors
from membrane_sync.apps.kinto import Kinto
from membrane_sync.bootstrap import open_runtime
from membrane_sync.cli.main import app
from membrane_sync.cli.output import exit_code
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.elements import KINDS, Element
from membrane_sync.elements.base import part_of, yaml_name
from membrane_sync.ports import ConnectionRecord
from membrane_sync.project import connect_settings, server_settings, settings
from membrane_sync.server.app import create_app
from membrane_sync.sync.run import run_sync
from tests.docs.pages import (
    PAGES,
    REPOSITORY,
    Fence,
    anchors,
    fences,
    functions_in,
    links,
    named_tests,
    prose,
    sections,
    shown,
    text_of,
)
from tests.docs.reader import CONNECTION, Reader, python_folder

COMMANDS: Mapping[str, Any] = typer.main.get_group(app).commands
ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.MembraneError)
]
PROMISES = sorted((REPOSITORY / "docs" / "promises").glob("*.md"))
DEPLOY = REPOSITORY / "docs" / "deploy"
SHARED_KEYS = {yaml_name(name) for name in Element.model_fields}
REFERENCE = ("connector", "data_collection")
"""Kinds whose keys docs/connectors.md explains."""


@pytest.fixture
def reader(
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    apps_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    """A reader in a new project; a page with commands gets a Kinto with some contacts."""
    _forget_settings(monkeypatch)
    monkeypatch.setenv("MEMBRANE_APPS_DIR", str(apps_dir))
    project = tmp_path / "project"
    scaffold(project)
    blocks = fences(page)
    given = {}
    if any(block.info in ("bash", "sql", "python") for block in blocks):
        given = kinto_account(request.getfixturevalue("kinto"))
        if not any("membrane connect" in block.text for block in blocks):
            connect_and_sync(project, given)
    if page.parent == DEPLOY:
        shutil.copytree(DEPLOY, project / DEPLOY.relative_to(REPOSITORY))
        given |= dagster_storage(request.getfixturevalue("postgresql_url"))
    reading = Reader(project, os.environ, given)
    yield reading
    reading.done()
    if "kinto" in reading.names:
        reading.names["kinto"].stop()


@pytest.fixture
def bare_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader in a new project, with a connection that was never synced."""
    _forget_settings(monkeypatch)
    scaffold(tmp_path / "project")
    open_runtime(tmp_path / "project").ledger.connect(ConnectionRecord(CONNECTION, "kinto", "acme"))
    return Reader(tmp_path / "project", os.environ, {})


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_what_a_page_says_can_be_done(page: Path, reader: Reader) -> None:
    for fence in fences(page):
        reader.read(fence)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_fence_is_found(page: Path) -> None:
    marks = re.findall(r"^ *`{3,}", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(marks) == 2 * len(fences(page))


@pytest.mark.parametrize("info", ["", "json", "sh", "yaml formulas"])
def test_a_fence_of_an_unknown_kind_is_refused(tmp_path: Path, info: str) -> None:
    with pytest.raises(AssertionError, match="mark it as one of"):
        Reader(tmp_path, {}, {}).read(Fence(REPOSITORY / "README.md", 1, info, "x"))


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("yaml", "integration: kinto\n"),
        ("yaml", "# mappings/universal/syncs/x.yaml\nfield_mapping: no_such\n"),
        ("yaml", "# mappings/universal/syncs/x.yaml\nfield_maping: contacts\n"),
        ("yaml", "# docs/elements.yaml\nkey: x\n"),
        ("yaml formula", "formula: 1\n"),
        ("toml", "# pyproject.toml\n[tool.membrane_sync]\ndata_dri = 'x'\n"),
        ("bash", "make no_such_target\n"),
        ("bash", "pip install membrane\n"),
        ("bash", "pip install membrane-sync[oracle]\n"),
        ("bash", "membrane check --no-such-option\n"),
        ("bash", "membrane check  # exits 5\n"),
        ("python", "raise SystemError\n"),
        ("sql", "SELECT no_such_column FROM records.contacts\n"),
        ("sql", "DROP TABLE links\n"),
        ("text", "\n"),
    ],
)
def test_what_is_not_true_is_found(info: str, text: str, bare_reader: Reader) -> None:
    fence = Fence(REPOSITORY / "README.md", 1, info, text)
    with pytest.raises((AssertionError, errors.MembraneError, OSError, SystemError)):
        bare_reader.read(fence)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{shown(page)} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{shown(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`membrane ([a-z][a-z-]*)", prose(page)))
    assert named <= set(COMMANDS)


def test_every_page_is_in_the_index() -> None:
    index = REPOSITORY / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} - linked == {index}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_described_with_all_its_options(name: str) -> None:
    described = dict(sections(text_of("cli.md"), 3))[f"`membrane {name}`"]
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            assert f"`{parameter.name.upper()}`" in described
        else:
            options = (*parameter.opts, *parameter.secondary_opts)
            assert [option for option in options if f"`{option}`" not in described] == []


def test_every_kind_has_its_section() -> None:
    titles = [title.strip("`") for title, _ in sections(text_of("elements.md"), 3)]
    assert sorted(titles) == sorted(KINDS)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(REFERENCE)))
def test_every_key_of_a_kind_is_in_its_section(kind: str) -> None:
    section = dict(sections(text_of("elements.md"), 3))[f"`{kind}`"]
    own = {yaml_name(name) for name in KINDS[kind].model_fields} - SHARED_KEYS
    assert [key for key in sorted(own) if f"`{key}`" not in section] == []


def test_the_keys_of_all_kinds_are_described() -> None:
    assert [key for key in sorted(SHARED_KEYS) if f"`{key}`" not in text_of("elements.md")] == []


@pytest.mark.parametrize("kind", REFERENCE)
def test_every_key_of_a_connector_is_in_the_reference(kind: str) -> None:
    reference = text_of("connectors.md")
    assert [key for key in sorted(keys_below(KINDS[kind])) if f"`{key}`" not in reference] == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_described(error: type[errors.MembraneError]) -> None:
    assert f"`{error.code}`" in text_of("troubleshooting.md")
    if error is not errors.MembraneError:
        exits = dict(re.findall(r"^\| (\d) \|.*\|(.*)\|$", text_of("cli.md"), re.MULTILINE))
        sample = error([]) if error is errors.ProjectError else error("")
        assert f"`{error.__name__}`" in exits[str(int(exit_code(sample)))]


def test_every_setting_is_described() -> None:
    source = "".join(map(inspect.getsource, (settings, server_settings, connect_settings)))
    named = set(re.findall(r"\bMEMBRANE_[A-Z_]+", source))
    assert named
    assert [name for name in sorted(named) if name not in text_of("settings.md")] == []


def test_every_route_of_the_api_is_described(tmp_path: Path) -> None:
    scaffold(tmp_path / "project")
    routes = create_app(open_runtime(tmp_path / "project")).openapi()["paths"]
    described = text_of("api.md")
    assert len(routes) > 10
    assert [path for path in routes if f"{path}`" not in described] == []


def test_every_dependency_has_its_reason() -> None:
    listed = re.search(
        r"^dependencies = \[\n(.*?)^\]", (REPOSITORY / "pyproject.toml").read_text(), re.M | re.S
    )
    assert listed
    page = text_of("decisions/002-dependencies.md")
    names = re.findall(r'^    "([\w-]+)', listed[1], re.MULTILINE)
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PROMISES, ids=shown)
def test_every_promise_names_the_tests_that_hold_it(page: Path) -> None:
    promises = list(sections(page.read_text(encoding="utf-8"), 2))
    assert promises
    for title, text in promises:
        assert named_tests(text), f"{shown(page)}: {title}: no test"
    for file, name in named_tests(page.read_text(encoding="utf-8")):
        assert name in functions_in(REPOSITORY / file), f"{shown(page)} names {file}::{name}"


def _forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MEMBRANE_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", python_folder(), prepend=os.pathsep)


def keys_below(model: type[BaseModel]) -> set[str]:
    """The YAML keys of a model and of every part of it."""
    keys: set[str] = set()
    waiting, seen = [model], {model}
    while waiting:
        for name, info in waiting.pop().model_fields.items():
            keys.add(yaml_name(name))
            part, _ = part_of(info.annotation)
            if part is not None and part not in seen:
                seen.add(part)
                waiting.append(part)
    return keys


def kinto_account(kinto: Kinto) -> dict[str, str]:
    """An account with some contacts, as the environment variables that pages use."""
    user = f"docs-{token_hex(4)}"
    account = kinto.create_account(user, f"{user}-password")
    kinto.create_bucket(account, user)
    for collection in ("contacts", "companies"):
        kinto.create_collection(account, user, collection)
    people = [
        {"id": f"c{i}", "email": f"p{i}@example.org", "first_name": "Ada", "score": i * 9}
        for i in range(12)
    ]
    kinto.write(account, user, "contacts", people)
    kinto.delete(account, user, "contacts", ["c11"])
    return {
        "KINTO_URL": kinto.url,
        "KINTO_BUCKET": user,
        "KINTO_USER": user,
        "KINTO_PASSWORD": account.password,
    }


def dagster_storage(url: str) -> dict[str, str]:
    """The environment variables by which docs/deploy/dagster.yaml finds its database."""
    parsed = sa.make_url(url)
    parts = {
        "HOST": parsed.host,
        "PORT": parsed.port,
        "USER": parsed.username,
        "PASSWORD": parsed.password,
        "DB": parsed.database,
    }
    return {f"DAGSTER_PG_{name}": str(value or "") for name, value in parts.items()}


def connect_and_sync(project: Path, given: dict[str, str]) -> None:
    """Connect the account as `acme_kinto`, and sync all of it once."""
    runtime = open_runtime(project)
    record = ConnectionRecord(
        key=CONNECTION,
        integration="kinto",
        tenant="acme",
        input={"url": given["KINTO_URL"], "bucket": given["KINTO_BUCKET"]},
        credentials={"username": given["KINTO_USER"], "password": given["KINTO_PASSWORD"]},
    )
    runtime.ledger.connect(record)
    for sync in runtime.syncs(record):
        with runtime.connect(CONNECTION, sync) as parties:
            run_sync(sync, parties)
