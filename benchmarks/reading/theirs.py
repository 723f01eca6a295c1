"""dlt reads the same app: `rest_api`, merge, its fastest loader format; prints its figures as JSON.

Run in an environment that has `dlt[duckdb,parquet]` in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from meter import measured, say


def main() -> None:
    """Read once: all of it at first, what changed afterwards."""
    url, page, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    os.environ["DLT_DATA_DIR"] = str(directory / "dlt")
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"
    with measured() as figures:
        rows = read(url, page, directory)
    say(figures, rows=rows, written=rows)


def read(url: str, page: int, directory: Path) -> int:
    """One run of a pipeline; gives how many rows it normalised."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    config: Any = {
        "client": {"base_url": url},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {
                "name": "contacts",
                "max_table_nesting": 0,
                "endpoint": {
                    "path": "records",
                    "params": {"limit": page},
                    "data_selector": "items",
                    "paginator": {
                        "type": "cursor",
                        "cursor_path": "next",
                        "cursor_param": "after",
                    },
                    "incremental": {"start_param": "since", "cursor_path": "updated_at"},
                },
            }
        ],
    }
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.duckdb(str(directory / "theirs.duckdb")),
        dataset_name="bench",
        pipelines_dir=str(directory / "pipelines"),
    )
    pipeline.run(rest_api_source(config), loader_file_format="parquet")
    counts = pipeline.last_trace.last_normalize_info.row_counts
    return int(counts.get("contacts", 0))


if __name__ == "__main__":
    main()
