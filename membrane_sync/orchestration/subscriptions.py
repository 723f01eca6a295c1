"""The sensor that keeps subscriptions in step with what syncs need."""

import dagster as dg

from membrane_sync.orchestration.resources import MembraneResource

TICK_SECONDS = 30
CONNECTIONS_PER_TICK = 200


def subscriptions_sensor() -> dg.SensorDefinition:
    """Makes, renews and removes subscriptions; the same one for any number of connections."""

    @dg.sensor(
        name="subscriptions",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks apps to tell of what syncs need, renews what ends soon, and removes what "
        "nobody needs any more.",
    )
    def subscriptions(
        context: dg.SensorEvaluationContext, membrane: MembraneResource
    ) -> dg.SkipReason:
        looked = membrane.runtime().events.reconcile_subscriptions(CONNECTIONS_PER_TICK)
        for one in looked:
            for error in one.errors:
                context.log.warning(f"{one.connection}: {error}")
        words = f"{len(looked):,} connections were looked at" if looked else "nothing to do"
        return dg.SkipReason(words)

    return subscriptions
