"""No planted secret is in any output: a project is used as by its user, and all of it is searched.

The app repeats secrets in its errors, and each process logs all that its libraries have to say.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.output import Exit
from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.leaky_app import LeakyApp, leaky_app
from tests.stores.secret_server import secret_server

ODD = "/+ =&?%\"'<é>\\"
NAMES = (
    "api_key",
    "password",
    "access_token",
    "refresh_token",
    "client_secret",
    "pin",
    "secret_key",
    "old_key",
    "database_password",
    "vault_token",
    "new_access_token",
    "new_refresh_token",
)
CORES = {
    name: f"Zq{number}Planted{name.title().replace('_', '')}" for number, name in enumerate(NAMES)
}
"""What is looked for: letters that no encoding of texts changes."""
IN_HEADERS = {
    "access_token": "",
    "new_access_token": "",
    "vault_token": "",
    "client_secret": "/+ =&?%\"'<>\\",
}
"""Those that go out in a header can't have just any character."""
SECRETS = {name: core + IN_HEADERS.get(name, ODD) for name, core in CORES.items()}

VERBOSE = """
import logging, runpy, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in ("httpx", "httpcore", "hpack", "membrane_sync", "sqlalchemy.engine"):
    logging.getLogger(name).setLevel(logging.DEBUG)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""

CONNECTOR = """
name: Leaky
base_url: {{$var: $.input.url}}
headers: {{X-Client: {{$var: $.parameters.client_secret}}}}
parameters_schema:
  properties: {{client_id: {{type: string}}, client_secret: {{type: string}}}}
input_schema:
  type: object
  properties:
    url: {{type: string}}
    pin: {{type: string, format: password}}
  required: [url]
query: {{pin: {{$var: $.input.pin}}}}
authentication:
{authentication}
  input_schema:
    type: object
    properties:
      username: {{type: string}}
      password: {{type: string}}
      api_key: {{type: string}}
      access_token: {{type: string}}
      refresh_token: {{type: string}}
test: {{path: /contacts}}
"""
AUTHENTICATIONS = {
    "by_query": "  type: api_key\n  location: query\n  parameter: key\n"
    "  token: {$var: $.credentials.api_key}",
    "by_basic": "  type: basic\n  username: {$var: $.credentials.username}\n"
    "  password: {$var: $.credentials.password}",
    "by_bearer": "  type: bearer\n  token: {$var: $.credentials.access_token}",
}
OAUTH = """  type: oauth2
  oauth2:
    authorize_url: {$concat: [{$var: $.input.url}, /authorize]}
    token_url: {$concat: [{$var: $.input.url}, /token]}
    revoke_url: {$concat: [{$var: $.input.url}, /revoke]}
    client_id: {$var: $.parameters.client_id}
    client_secret: {$var: $.parameters.client_secret}"""
GIVEN = {
    "by_query": ["api_key"],
    "by_basic": ["password"],
    "by_bearer": ["access_token", "refresh_token"],
}
COLLECTION = """
name: Contacts
id: $.id
list: {path: /contacts, records: $.body.items}
deletes: {full_scan: true}
fields_schema:
  type: object
  properties: {id: {type: string}, email: {type: string}}
"""
PACKAGE = """
name: Contacts
data_schemas:
  contacts:
    schema: {type: object, properties: {email: {type: string}}}
    table: {name: contacts, key: id, tenant_column: tenant, create: true}
data_sources: {contacts: {collection_key: contacts}}
field_mappings:
  contacts:
    data_source: contacts
    data_schema: contacts
    direction: import
    import_value: {email: {$var: $.email}}
data_link_tables: {contacts: {}}
syncs: {contacts: {field_mapping: contacts, data_link_table: contacts}}
"""


@dataclass
class User:
    """Runs commands in the project, with everything they say kept."""

    root: Path
    environment: dict[str, str]
    said: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, *arguments: str, expect: int = 0, **environment: str) -> str:
        return self.run("membrane_sync.cli.main", *arguments, expect=expect, **environment)

    def run(self, module: str, *arguments: str, expect: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", VERBOSE, module, *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            timeout=120,
            check=False,
        )
        name = f"{len(self.said)} {module.rpartition('.')[2]} {' '.join(arguments[:2])}"
        self.said[f"{name}: stdout"], self.said[f"{name}: stderr"] = done.stdout, done.stderr
        assert done.returncode == expect, (name, done.stdout.decode(), done.stderr.decode()[-3000:])
        return done.stdout.decode() + done.stderr.decode()


@pytest.fixture
def app() -> Iterator[LeakyApp]:
    with leaky_app(list(SECRETS.values())) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path) -> User:
    root = tmp_path / "crm"
    made = User(root, environment(root))
    for name, authentication in {**AUTHENTICATIONS, "by_oauth": OAUTH}.items():
        connector = CONNECTOR.format(authentication=authentication)
        write(root / f"connectors/{name}/connector.yaml", connector)
        write(root / f"connectors/{name}/data_collections/contacts.yaml", COLLECTION)
        parameters = '{client_id: crm, client_secret: "${CLIENT_SECRET}"}'
        integration = f"name: {name}\nparameters: {parameters}"
        write(root / f"mappings/integrations/{name}/integration.yaml", integration)
    write(root / "mappings/universal/packages/contacts.yaml", PACKAGE)
    write(root / "dagster.yaml", "python_logs: {python_log_level: DEBUG}")
    return made


def environment(root: Path) -> dict[str, str]:
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("MEMBRANE_", "DAGSTER_"))}
    return {
        **plain,
        "DAGSTER_HOME": str(root),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "MEMBRANE_SECRET_KEY": SECRETS["secret_key"],
        "MEMBRANE_SECRET_KEYS_OLD": SECRETS["old_key"],
        **{name.upper(): SECRETS[name] for name in NAMES},
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def spelt(core: str) -> list[bytes]:
    """The secret's letters as they are, and in base64 wherever they stand in what is encoded."""
    found = [core.encode()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + core.encode())
        found.append(encoded[before + 1 if before else 0 : (before + len(core)) * 8 // 6])
    return found


def leaks(name: str, content: bytes) -> list[str]:
    return [
        f"{secret} in {name}: …{content[max(content.find(form) - 200, 0) :][:260]!r}"
        for secret, core in CORES.items()
        for form in spelt(core)
        if form in content
    ]


def answer(app: LeakyApp, failure: int, *given: str) -> None:
    """How the app answers next, and which secrets it then repeats: those of who asks."""
    app.failure = failure
    app.told = [SECRETS[secret] for secret in (*given, "client_secret", "pin")]


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
    found = [leak for name, said in user.said.items() for leak in leaks(name, said)]
    files = [path for path in user.root.parent.rglob("*") if path.is_file()]
    assert {"ledger.db", "ledger.db-wal", "recorded.json", "runs.db"} <= {p.name for p in files}
    for path in files:
        found += leaks(str(path.relative_to(user.root.parent)), path.read_bytes())
    found += [
        leak for text in rows_of(runtime.settings.ledger_url) for leak in leaks("ledger", text)
    ]
    runtime.close()
    assert found == [], "\n".join(found)


def use_it_all(user: User, app: LeakyApp) -> None:
    user("check")
    answer(app, 401, *GIVEN["by_query"])
    connect(user, app, "by_query", expect=Exit.FAILED)
    for name in AUTHENTICATIONS:
        answer(app, 0, *GIVEN[name])
        connect(user, app, name)
    answer(app, 0)
    user("sync")
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
        ("dead-letters", "--connection=acme_by_basic"),
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


def open_runtime_of(user: User) -> Runtime:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in user.environment.items():
            patched.setenv(name, value)
        return open_runtime(user.root)


def rows_of(url: str) -> Iterator[bytes]:
    engine = sa.create_engine(url)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.tables.values():
            for row in connection.execute(sa.select(table)):
                yield repr(tuple(row)).encode()
    engine.dispose()
