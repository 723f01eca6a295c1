"""Connections are partitions, one set per integration, added and removed while Dagster runs."""

import dagster as dg


def connections_of(integration: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of an integration's assets: the keys of its connections."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(integration))


def partitions_name(integration: str) -> str:
    """`connections__kinto`; the partitions' history hangs on this name, so it never changes."""
    return f"connections__{integration}"


def register(instance: dg.DagsterInstance, integration: str, connection: str) -> None:
    """Make a connection a partition at once, without waiting for the sensor."""
    name = partitions_name(integration)
    if not instance.has_dynamic_partition(name, connection):
        instance.add_dynamic_partitions(name, [connection])
