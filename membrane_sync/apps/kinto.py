"""Kinto, a store of JSON records: basic auth, change feed with tombstones, pages by link.

One account per tenant, each with a bucket of its own that no other account can read. Everything
is kept in memory: a stopped server has forgotten its accounts and records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from membrane_sync.apps.calls import AGENT, Call, count
from membrane_sync.apps.install import install
from membrane_sync.apps.process import HOST, AppError, AppProcess, answers, free_port

REQUIREMENT = "kinto==26.5.0"
BATCH = 25

Record = dict[str, Any]
Records = list[Record]
Calls = list[Call]

# Without explicit permissions a record belongs to whoever may write its bucket. The memory backend
# looks through every permission for each write, so one per record would slow it down steadily.
SETTINGS = """\
[server:main]
use = egg:waitress#main
host = {host}
port = {port}
threads = 8

[app:main]
use = egg:kinto
kinto.project_name = kinto
kinto.userid_hmac_secret = {secret}
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.includes = kinto.plugins.accounts kinto.plugins.default_bucket kinto.plugins.flush
kinto.flush_endpoint_enabled = true
kinto.explicit_permissions = false
kinto.account_create_principals = system.Everyone
kinto.bucket_create_principals = system.Authenticated
kinto.paginate_by = {page_size}
multiauth.policies = account
multiauth.policy.account.use = kinto.plugins.accounts.authentication.AccountsAuthenticationPolicy

[loggers]
keys = root, requests

[handlers]
keys = console, requests

[formatters]
keys = plain, json

[logger_root]
level = WARN
handlers = console

[logger_requests]
qualname = request.summary
level = INFO
handlers = requests
propagate = 0

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[handler_requests]
class = FileHandler
args = ("requests.log", "w")
formatter = json

[formatter_plain]
format = %(asctime)s %(levelname)s %(message)s

[formatter_json]
class = kinto.core.JsonLogFormatter
"""


@dataclass(frozen=True)
class Account:
    """A tenant's name and password, as basic auth takes them."""

    user: str
    password: str

    @property
    def auth(self) -> tuple[str, str]:
        """The pair that httpx takes as `auth=`."""
        return self.user, self.password


class Kinto:
    """A running Kinto; `stop` it, or use it as a context manager."""

    def __init__(self, process: AppProcess, port: int) -> None:
        self.process = process
        self.url = f"http://{HOST}:{port}/v1"
        self._client = httpx.Client(
            base_url=self.url, headers={"User-Agent": AGENT}, timeout=60, trust_env=False
        )

    def create_account(self, user: str, password: str) -> Account:
        """An account for one tenant; asking twice with the same password gives the same one."""
        account = Account(user, password)
        body = {"data": {"password": password}, "permissions": _writable_by(account)}
        self._call("PUT", f"/accounts/{user}", account, body)
        return account

    def create_bucket(self, account: Account, bucket: str) -> None:
        """A bucket which only this account can read and write; names are global to the server."""
        self._call("PUT", f"/buckets/{bucket}", account, {"permissions": _writable_by(account)})

    def create_collection(self, account: Account, bucket: str, collection: str) -> None:
        """A collection in a bucket that exists; one that exists already keeps its records."""
        self._call("PUT", f"/buckets/{bucket}/collections/{collection}", account, {"data": {}})

    def write(
        self, account: Account, bucket: str, collection: str, records: Iterable[Record]
    ) -> int:
        """Create or replace records by their `id`, in the order given; return how many.

        Writing the same values again still counts as a change: `last_modified` moves.
        """
        path = records_path(bucket, collection)
        return self._batch(account, (_part("PUT", path, record) for record in records))

    def update(
        self, account: Account, bucket: str, collection: str, records: Iterable[Record]
    ) -> int:
        """Change only the given fields of records that exist, by their `id`; return how many."""
        path = records_path(bucket, collection)
        return self._batch(account, (_part("PATCH", path, record) for record in records))

    def delete(self, account: Account, bucket: str, collection: str, ids: Iterable[str]) -> int:
        """Delete records, leaving tombstones in the change feed; return how many."""
        path = records_path(bucket, collection)
        return self._batch(account, (_part("DELETE", path, {"id": key}) for key in ids))

    def list(self, account: Account, bucket: str, collection: str) -> Records:
        """Every live record, by id: the truth that a sync is compared with."""
        found: Records = []
        url: str | None = records_path(bucket, collection)
        while url:
            response = self._call("GET", url, account)
            found += response.json()["data"]
            url = response.headers.get("Next-Page")
        return sorted(found, key=lambda record: str(record["id"]))

    def flush(self) -> None:
        """Forget every account, bucket and record."""
        self._call("POST", "/__flush__", None)

    def calls(self) -> Calls:
        """The requests served since the start, oldest first; a batch is one request."""
        log = self.process.directory / "requests.log"
        return [_call(json.loads(line)["Fields"]) for line in log.read_text().splitlines()]

    def requests(self, path: str | None = None, method: str | None = None) -> int:
        """How many requests others than this object have made, to one path below `url` or to all.

        A request is counted before its answer is sent, so a caller finds its own in the number.
        """
        return count(self.calls(), None if path is None else f"/v1{path}", method)

    def stop(self) -> None:
        """End the server and with it all its data."""
        self._client.close()
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _batch(self, account: Account, parts: Iterator[Record]) -> int:
        # One request at a time: the server is bound to one core, and the order stays as given.
        done = 0
        while chunk := list(islice(parts, BATCH)):
            answer = self._call("POST", "/batch", account, {"requests": chunk}).json()
            for part in answer["responses"]:
                if part["status"] >= 400:
                    raise AppError(f"Kinto refused {part['path']}: {part['body']}")
            done += len(chunk)
        return done

    def _call(
        self, method: str, url: str, account: Account | None, body: Record | None = None
    ) -> httpx.Response:
        auth = None if account is None else account.auth
        response = self._client.request(method, url, auth=auth, json=body)
        if response.is_error:
            raise AppError(
                f"Kinto answered {response.status_code} to {method} {url}: {response.text}"
            )
        return response


def records_path(bucket: str, collection: str) -> str:
    """The path of a collection's records, below the server's `url`."""
    return f"/buckets/{bucket}/collections/{collection}/records"


def install_kinto(directory: Path) -> Path:
    """Kinto's program in `directory/venv`, installed unless it is there."""
    return install(directory, REQUIREMENT, "kinto")


def start_kinto(
    directory: Path, port: int | None = None, *, data: Path | None = None, page_size: int = 1000
) -> Kinto:
    """Start an empty Kinto, installing it first if needed.

    `directory` keeps the installation between runs; `data` (by default inside it) holds the
    settings, logs and pid of this one server, so several servers can share an installation.
    `page_size` is the largest page the server gives, whatever `_limit` asks for.
    """
    program = install_kinto(directory)
    port = port or free_port()
    data = (data or directory / "data").resolve()
    data.mkdir(parents=True, exist_ok=True)
    settings = data / "kinto.ini"
    settings.write_text(
        SETTINGS.format(host=HOST, port=port, secret=token_hex(16), page_size=page_size)
    )
    process = AppProcess(
        name="Kinto",
        command=[str(program), "start", "--ini", str(settings), "--port", str(port)],
        directory=data,
        ready=answers(f"http://{HOST}:{port}/v1/__heartbeat__"),
    )
    return Kinto(process.start(), port)


def _writable_by(account: Account) -> Record:
    return {"write": [f"account:{account.user}"]}


def _part(method: str, path: str, record: Record) -> Record:
    part: Record = {"method": method, "path": f"/v1{path}/{record['id']}"}
    return part if method == "DELETE" else {**part, "body": {"data": record}}


def _call(fields: Record) -> Call:
    query = urlencode(fields.get("querystring", {}))
    return Call(fields["method"], fields["path"], query, fields.get("agent") or "")
