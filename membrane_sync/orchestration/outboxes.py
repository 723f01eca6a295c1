"""The sensor that reads the outboxes of the product into the inbox, all of them at once."""

import time

import dagster as dg

from membrane_sync.elements.internal_event import InternalEvent
from membrane_sync.orchestration.resources import MembraneResource
from membrane_sync.project.project import Project

TICK_SECONDS = 5
LONGEST_TICK_SECONDS = 20.0
"""A backlog is gone through in several ticks, so that each ends in time."""


def outbox_sensors(project: Project) -> list[dg.SensorDefinition]:
    """One sensor, or none where no internal event has an outbox."""
    events = [project.get(InternalEvent, key) for key in project.keys("internal_event")]
    return [_sensor()] if any(event.outbox is not None for event in events) else []


def _sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="outboxes",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Puts what the product wrote to its outboxes into the inbox.",
    )
    def outboxes(membrane: MembraneResource) -> dg.SkipReason:
        until = time.monotonic() + LONGEST_TICK_SECONDS
        runtime, rows, more = membrane.runtime(), 0, True
        errors: dict[str, str] = {}
        while more and time.monotonic() < until:
            readings = runtime.events.read_outboxes()
            rows += sum(reading.rows for reading in readings)
            more = any(reading.more for reading in readings)
            errors = {reading.event: reading.error for reading in readings if reading.error}
        if errors:
            # The others were read all the same; so the tick shows what went wrong.
            raise dg.Failure("; ".join(f"{event}: {words}" for event, words in errors.items()))
        return dg.SkipReason(f"{rows:,} rows were read" if rows else "nothing new")

    return outboxes
