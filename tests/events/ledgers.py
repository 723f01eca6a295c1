"""A project with internal events and connections, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from membrane_sync.ports import ConnectionRecord
from tests.end_to_end.helpers import Workspace, new_workspace
from tests.stores.databases import fresh_database

ORDER_PAID = """
schema:
  type: object
  properties:
    order: {type: integer}
    total: {type: number, minimum: 0}
    customer: {type: string}
  required: [order]
tenant: {$var: $.customer}
event_id: {$var: $.order}
"""

TRIGGERED = """
field_mapping: companies
data_link_table: companies
integrations: [kinto]
triggers: [{internal_event: order_paid}]
"""


@contextmanager
def workspace_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Workspace, str]]:
    """A project whose ledger is in a database of the kind, and the database's URL.

    `acme` has two connections that a paid order makes run, and one that it doesn't; `globex` has
    one, and `initech` has none.
    """
    with fresh_database(kind, tmp_path, request) as url:
        workspace = new_workspace(tmp_path / "project", ledger=url, database=url)
        workspace.write("mappings/universal/internal_events/order_paid.yaml", ORDER_PAID)
        workspace.write("mappings/universal/syncs/paid.yaml", TRIGGERED)
        for key in ("acme_1", "acme_2", "globex_1"):
            workspace.connect(ConnectionRecord(key, "kinto", key.partition("_")[0]))
        workspace.connect(ConnectionRecord("acme_3", "pocketbase", "acme"))
        try:
            yield workspace, url
        finally:
            workspace.runtime.close()
