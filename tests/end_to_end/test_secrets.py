"""No planted secret is in any output: a project is used as by its user, and all of it is searched.

The app repeats secrets in its errors, and each process logs all that its libraries have to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from membrane_sync.cli.output import Exit
from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.leaky_app import LeakyApp, leaky_app
from tests.end_to_end.planted import (
    AUTHENTICATIONS,
    GIVEN,
    NAMES,
    SECRETS,
    User,
    answer,
    open_runtime_of,
    planted_project,
)
from tests.stores.secret_server import secret_server


@pytest.fixture
def app() -> Iterator[LeakyApp]:
    with leaky_app(list(SECRETS.values())) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path) -> User:
    return planted_project(tmp_path / "crm")


def connect(user: User, app: LeakyApp, name: str, *, expect: int = 0) -> None:
    typed = [f"--credential={secret}=env:{secret.upper()}" for secret in GIVEN[name]]
    user(
        *("connect", name, "--tenant=acme", f"--set=url={app.url}", f"--set=pin={SECRETS['pin']}"),
        *("--credential=username=acme", *typed),
        expect=expect,
    )


def test_no_planted_secret_is_in_any_output(user: User, app: LeakyApp) -> None:
    use_it_all(user, app)
    assert {name for name in NAMES if SECRETS[name] in app.seen} == {
        *("api_key", "password", "access_token", "refresh_token", "client_secret", "pin"),
        *("new_access_token", "new_refresh_token"),
    }, "the app has been sent what it should be sent"
    runtime = open_runtime_of(user)
    for name in AUTHENTICATIONS:
        secrets = GIVEN[name]
        kept = runtime.ledger.connection(f"acme_{name}")
        assert {s: kept.credentials[s] for s in secrets} == {s: SECRETS[s] for s in secrets}
        assert kept.input["pin"] == SECRETS["pin"]
    runtime.close()
    names = {path.name for path in user.root.parent.rglob("*")}
    assert {"ledger.db", "recorded.json", "runs.db"} <= names
    found = user.look_into_files()
    assert found == [], "\n".join(found)


def use_it_all(user: User, app: LeakyApp) -> None:
    user("check")
    answer(app, 401, *GIVEN["by_query"])
    connect(user, app, "by_query", expect=Exit.FAILED)
    for name in AUTHENTICATIONS:
        answer(app, 0, *GIVEN[name])
        connect(user, app, name)
    answer(app, 0)
    app.is_odd = True
    user("sync", expect=Exit.SOME_FAILED)
    app.is_odd = False
    for failure, name, *options in (
        (1, "by_query"),
        (400, "by_query"),
        (401, "by_query", "--json"),
        (403, "by_basic"),
        (302, "by_basic", "--json"),
        (401, "by_bearer"),
    ):
        answer(app, failure, *GIVEN[name])
        expected = Exit.LATER if failure == 1 else Exit.FAILED
        user("sync", f"--connection=acme_{name}", *options, expect=expected)
    user("connections", "test", "acme_by_bearer", expect=Exit.FAILED)
    answer(app, 401, *GIVEN["by_query"])
    user.run("membrane_sync.orchestration.launch", "acme_by_query", expect=1)
    answer(app, 0)
    user.run("membrane_sync.orchestration.launch", "acme_by_basic")
    use_tokens(user, app)
    look_at_it_all(user)
    refuse_it_all(user)


def use_tokens(user: User, app: LeakyApp) -> None:
    """Tokens that are refreshed, refused with all that the app knows, and revoked at the end."""
    given = {name: SECRETS[name] for name in ("access_token", "refresh_token")}
    place = {"url": app.url, "pin": SECRETS["pin"]}
    runtime = open_runtime_of(user)
    runtime.register(ConnectionRecord("acme_by_oauth", "by_oauth", "acme", "", place, given))
    app.tokens = (SECRETS["new_access_token"], SECRETS["new_refresh_token"])
    for failure in (500, 400):
        answer(app, failure, *given)
        expected = Exit.LATER if failure == 500 else Exit.FAILED
        user("connections", "refresh", "acme_by_oauth", expect=expected)
    user("connections", "list")
    # Those that were before are of no use then, and no process knows them any more.
    new = ("new_access_token", "new_refresh_token")
    answer(app, 0, *new)
    user("connections", "refresh", "acme_by_oauth")
    user("sync", "--connection=acme_by_oauth")
    assert runtime.ledger.connection("acme_by_oauth").credentials["access_token"] == app.tokens[0]
    answer(app, 403, *new)
    user("sync", "--connection=acme_by_oauth", expect=Exit.FAILED)
    answer(app, 500, *new)
    assert "the app wasn't told" in user("connections", "archive", "acme_by_oauth", "--yes")
    answer(app, 0)
    assert runtime.ledger.connection("acme_by_oauth").credentials == {}
    runtime.close()


def look_at_it_all(user: User) -> None:
    for command in (
        ("status",),
        ("status", "--json"),
        ("connections", "list", "--json"),
        ("connections", "show", "acme_by_query"),
        ("explain", "sync", "contacts", "--connection=acme_by_query"),
        ("explain", "connector", "by_query", "--integration=by_query"),
        ("explain", "integration", "by_query", "--integration=by_query"),
        ("records", "contacts", "--connection=acme_by_basic"),
        ("dead-letters", "--connection=acme_by_query"),
        ("dead-letters", "--connection=acme_by_query", "--json"),
        ("vault", "status"),
        ("vault", "rotate"),
    ):
        user(*command)
    # It isn't all as declared, which the check says; here what it records counts.
    check = ("connector", "check", "by_query")
    user(*check, "--connection=acme_by_query", "--record=recorded.json", expect=Exit.FAILED)
    user(*check, "--replay=recorded.json", expect=Exit.FAILED)
    user("backup", "../backup")


def refuse_it_all(user: User) -> None:
    """What doesn't work, because something that has a secret in its address or name isn't there."""
    password = sa.URL.create(
        "postgresql+psycopg", "u", SECRETS["database_password"], "127.0.0.1", 9, "db"
    ).render_as_string(hide_password=False)
    user("status", expect=Exit.LATER, MEMBRANE_LEDGER_URL=password)
    user("sync", "--json", "--full", expect=Exit.FAILED, MEMBRANE_DATABASE_APP=password)
    lost = {"MEMBRANE_SECRET_KEY": SECRETS["old_key"], "MEMBRANE_SECRET_KEYS_OLD": ""}
    user("sync", expect=Exit.FAILED, **lost)
    user("connections", "test", "acme_by_query", expect=Exit.FAILED, **lost)
    with secret_server() as server:
        store = {"MEMBRANE_VAULT": server.url, "MEMBRANE_VAULT_TOKEN": SECRETS["vault_token"]}
        user("vault", "rotate", expect=Exit.SOME_FAILED, **store)
        assert server.asked
