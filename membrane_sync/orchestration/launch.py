"""Run a connection's syncs in Dagster from a process of one's own: no daemon, no webserver.

    python -m membrane_sync.orchestration.launch              # only makes connections partitions
    python -m membrane_sync.orchestration.launch acme_kinto

Run it in the project's folder, with DAGSTER_HOME set to it; Dagster's UI shows the runs afterwards.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from membrane_sync.orchestration import translator
from membrane_sync.orchestration.definitions import build_definitions
from membrane_sync.orchestration.instance import open_instance
from membrane_sync.orchestration.partitions import register


def launch(root: Path, connections: Sequence[str]) -> bool:
    """Run each sync of these connections as a Dagster run, in this process; did all go well?"""
    from membrane_sync.bootstrap import open_runtime

    runtime = open_runtime(root)
    definitions = build_definitions(root)
    successes = []
    with open_instance() as instance:
        for integration, keys in runtime.ledger.living().items():
            for key in keys:
                register(instance, integration, key)
        for record in map(runtime.ledger.connection, connections):
            for sync in runtime.syncs(record):
                job = definitions.resolve_job_def(translator.job_name(sync))
                result = job.execute_in_process(
                    instance=instance,
                    partition_key=record.key,
                    tags={
                        translator.CONNECTION_TAG: record.key,
                        translator.SYNC_TAG: sync.sync.key,
                    },
                    raise_on_error=False,
                )
                successes.append(result.success)
    return all(successes)


def main() -> None:
    """Launch the connections named on the command line; exit 1 if a run failed."""
    logging.getLogger("dagster").setLevel(logging.WARNING)
    sys.exit(0 if launch(Path.cwd(), sys.argv[1:]) else 1)


if __name__ == "__main__":
    main()
