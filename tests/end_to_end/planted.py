"""A project with secrets of each kind planted in it, its user, and the search for them.

The app repeats secrets in its answers, and each process logs all that its libraries have to say.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from membrane_sync.bootstrap import Runtime, open_runtime
from tests.end_to_end.commands import LOUD, run_module
from tests.end_to_end.leaky_app import LeakyApp

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
    "server_key",
    "workspace_secret",
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
    "server_key": "/+=&?%\"'<>" + "x" * 10,
    "workspace_secret": "/+=&?%\"'<>" + "x" * 10,
}
"""Those that go out in a header can't have just any character."""
SECRETS = {name: core + IN_HEADERS.get(name, ODD) for name, core in CORES.items()}

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
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            code = run_module(
                module,
                arguments,
                folder=self.root,
                environment={**self.environment, **environment},
                out=out,
                err=err,
                seconds=120,
            )
            stdout, stderr = out.read_bytes(), err.read_bytes()
        name = f"{len(self.said)} {module.rpartition('.')[2]} {' '.join(arguments[:2])}"
        self.said[f"{name}: stdout"], self.said[f"{name}: stderr"] = stdout, stderr
        assert code == expect, (name, stdout.decode(), stderr.decode()[-3000:])
        return stdout.decode() + stderr.decode()

    @contextmanager
    def running(self, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The same for a process that runs until the block ends; what it says is kept in files."""
        name = self.root / f"{module.rpartition('.')[2]}-{'-'.join(arguments[:1])}"
        with (
            name.with_suffix(".out").open("wb") as out,
            name.with_suffix(".err").open("wb") as err,
            subprocess.Popen(
                [sys.executable, "-c", LOUD, module, *arguments],
                cwd=self.root,
                env=self.environment,
                stdout=out,
                stderr=err,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()

    def look_into_files(self) -> list[str]:
        """What leaked into what was said, into any file, and into the rows of any database."""
        found = [leak for name, said in self.said.items() for leak in leaks(name, said)]
        for path in self.root.parent.rglob("*"):
            if path.is_file():
                name = str(path.relative_to(self.root.parent))
                found += leaks(name, path.read_bytes())
                if path.suffix == ".db":
                    # Of a file, a long row may be in several parts.
                    rows = rows_of(f"sqlite:///{path}")
                    found += [leak for row in rows for leak in leaks(f"rows of {name}", row)]
        return found


def planted_project(root: Path) -> User:
    """A project at `root` with an integration for each way to authenticate."""
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
        "MEMBRANE_API_KEYS": SECRETS["server_key"],
        "MEMBRANE_WORKSPACE_KEY": "crm",
        "MEMBRANE_WORKSPACE_SECRETS": SECRETS["workspace_secret"],
        "MEMBRANE_PRIVATE_HOSTS": "127.0.0.1",
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


def answer(app: LeakyApp, failure: int, *given: str) -> None:
    """How the app answers next, and which secrets it then repeats: those of who asks."""
    app.failure = failure
    app.told = [SECRETS[secret] for secret in (*given, "client_secret", "pin")]
