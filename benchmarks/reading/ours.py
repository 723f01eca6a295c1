"""membrane reads the app into an empty lake, and then what changed; prints its figures as JSON."""

from __future__ import annotations

import sys
from pathlib import Path

from meter import measured, say

from membrane_sync.bootstrap import Runtime, open_runtime
from membrane_sync.cli.scaffold import scaffold
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Report
from membrane_sync.sync.run import pull_and_store

CONNECTOR = "name: Bench\nbase_url: {$var: $.input.url}\n"
COLLECTION = """
list:
  path: /records
  query: {since: {$var: $.cursor}}
  records: $.body.items
  pagination:
    type: cursor
    parameter: after
    next: {$var: $.body.next}
    page_size: %d
    page_size_parameter: limit
  cursor: {field: $.updated_at, type: timestamp, inclusive: true, sorted: ascending}
fields_schema:
  type: object
  properties:
    id: {type: string}
    updated_at: {type: string, format: date-time}
    email: {type: string}
    first_name: {type: string}
    last_name: {type: string}
    score: {type: integer}
    rating: {type: number}
    active: {type: boolean}
    signed_up: {type: string, format: date-time}
    phone: {type: string}
    revision: {type: integer}
    company:
      type: object
      properties: {id: {type: integer}, name: {type: string}, size: {type: string}}
    address:
      type: object
      properties:
        street: {type: string}
        city: {type: string}
        zip: {type: string}
        country: {type: string}
    tags: {type: array, items: {type: string}}
    notes: {type: string}
"""


def project(root: Path, url: str, page: int) -> tuple[Runtime, ConnectionRecord]:
    """A project with the app connected."""
    if not root.exists():
        scaffold(root)
        app = root / "connectors" / "bench"
        (app / "data_collections").mkdir(parents=True)
        (app / "connector.yaml").write_text(CONNECTOR)
        (app / "data_collections" / "contacts.yaml").write_text(COLLECTION % page)
        (root / "mappings" / "integrations" / "bench").mkdir()
        integration = root / "mappings" / "integrations" / "bench" / "integration.yaml"
        integration.write_text("name: Bench\n")
    runtime = open_runtime(root)
    record = ConnectionRecord("acme_bench", "bench", "acme", input={"url": url})
    runtime.ledger.connect(record)
    return runtime, record


def main() -> None:
    """Read once: all of it at first, what changed afterwards."""
    url, page, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    runtime, record = project(directory / "project", url, page)
    sync = runtime.sync("contacts", record)
    report = Report()
    with measured() as figures, runtime.connect(record.key, sync) as parties:
        pull_and_store(sync, parties, report)
    say(figures, rows=report.pulled, written=report.created + report.updated)


if __name__ == "__main__":
    main()
