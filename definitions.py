"""What Dagster loads: everything declared in connectors/ and mappings/."""

from pathlib import Path

from membrane_sync.orchestration.definitions import build_definitions

defs = build_definitions(Path(__file__).parent)
