"""Standing sensors, the same ones for any number of connections."""

from collections.abc import Sequence

import dagster as dg

from membrane_sync.orchestration.partitions import connections_of, partitions_name
from membrane_sync.orchestration.resources import MembraneResource

TICK_SECONDS = 5
"""A tick reads the keys of all connections, and no more: some milliseconds for thousands."""


def connections_sensor(integrations: Sequence[str]) -> dg.SensorDefinition:
    """Makes each connection of the ledger a partition, and takes away those that have ended.

    A new customer needs no reload of the code location. A paused connection stays: what it has is
    still to be seen, and a run that's asked for says why there's none.
    """

    @dg.sensor(
        name="connections",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds new connections as partitions, and removes those that were archived or "
        "disconnected.",
    )
    def connections(
        context: dg.SensorEvaluationContext, membrane: MembraneResource
    ) -> dg.SensorResult | dg.SkipReason:
        living = membrane.runtime().ledger.living()
        requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
        for integration in integrations:
            wanted = set(living.get(integration, ()))
            present = set(context.instance.get_dynamic_partitions(partitions_name(integration)))
            partitions = connections_of(integration)
            if wanted - present:
                requests.append(partitions.build_add_request(sorted(wanted - present)))
            if present - wanted:
                requests.append(partitions.build_delete_request(sorted(present - wanted)))
        if not requests:
            return dg.SkipReason("all connections are partitions")
        return dg.SensorResult(dynamic_partitions_requests=requests)

    return connections
