"""A project that is connected to the simulator: its connector, and one sync to play with."""

from __future__ import annotations

import shutil
from pathlib import Path

CONNECTOR = Path(__file__).parent / "connectors" / "simulator"
"""The packaged connector: a collection for each style."""

KEY = "simulator"

_INTEGRATION = "name: Simulator\n"
_PACKAGE = """\
name: Contacts
description: The simulator's contacts, from the app to our table.

data_schemas:
  contacts:
    schema:
      type: object
      properties:
        email: {type: string}
        full_name: {type: string}
        city: {type: string}
        stage: {type: string, enum: [lead, trial, customer, champion, former]}
        score: {type: integer}
      required: [email]
    table:
      name: contacts
      key: id
      tenant_column: tenant
      connection_column: connection
      create: true

data_sources:
  contacts: {collection_key: contacts}

field_mappings:
  contacts:
    data_source: contacts
    data_schema: contacts
    direction: import
    import_value:
      email: {$lower: {$var: $.email}}
      full_name: {$var: $.name}
      city: {$var: $.city}
      stage: {$var: $.stage}
      score: {$var: $.score}

data_link_tables:
  contacts: {}

syncs:
  contacts:
    field_mapping: contacts
    data_link_table: contacts
    schedule: {every_minutes: 5}
"""


def write_project(directory: Path) -> list[str]:
    """Write the connector, an integration and a sync of its contacts; gives the files.

    The rest of a project, as `definitions.py`, is the scaffold's.
    """
    shutil.copytree(CONNECTOR, directory / "connectors" / KEY)
    integration = directory / "mappings" / "integrations" / KEY / "integration.yaml"
    package = directory / "mappings" / "universal" / "packages" / "contacts.yaml"
    for path, text in ((integration, _INTEGRATION), (package, _PACKAGE)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    written = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return [path.relative_to(directory).as_posix() for path in written]
