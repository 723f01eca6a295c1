"""A process that sends as many requests as the quota lets it, for a while.

    python -m tests.clients.quota_process LEDGER_URL APP_URL TENANT

Says that it's ready, then reads the time to begin and the time to end.
"""

from __future__ import annotations

import sys
import time

from membrane_sync.clients.api import HttpApi
from membrane_sync.elements.connector import Connector
from membrane_sync.ports import ConnectionRecord, Party, Quota
from membrane_sync.records import Call
from membrane_sync.stores.sql_quotas import SqlQuotas

LIMITS = [{"requests": 10, "per_seconds": 1, "burst": 3, "scope": "app"}]


def main(ledger: str, app: str, tenant: str) -> None:
    connector = Connector.model_validate({"key": "app", "base_url": app, "rate_limits": LIMITS})
    connection = ConnectionRecord(tenant, "app", tenant)
    quotas = SqlQuotas(ledger)
    api = HttpApi(connector, connection, quotas=quotas)
    # Opens the database: what's measured is the sharing, not sixteen logins at once.
    quotas.reserve([Quota("login", 1_000, 1, 10)], Party(tenant))
    print("ready", flush=True)
    begin, end = map(float, input().split())
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < end:
        api.send(Call("GET", f"/{tenant}"))
    # Not closed: a process that is killed gives nothing back either.


if __name__ == "__main__":
    main(*sys.argv[1:])
