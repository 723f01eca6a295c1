"""A SaaS API to test connectors and syncs against: every style, every fault, the same by seed.

    from membrane_sync.testing.simulator import Faults, Simulator, running

    simulator = Simulator(seed=7, records=10_000, faults=Faults(error=0.02))
    with running(simulator) as url:
        ...

docs/simulator.md lists all switches.
"""

from membrane_sync.testing.simulator.app import asgi
from membrane_sync.testing.simulator.server import running, serve
from membrane_sync.testing.simulator.simulator import Simulator
from membrane_sync.testing.simulator.styles import STYLES
from membrane_sync.testing.simulator.switches import (
    Access,
    Collection,
    Faults,
    Hooks,
    Limits,
    Quota,
    Wire,
)

__all__ = [
    "STYLES",
    "Access",
    "Collection",
    "Faults",
    "Hooks",
    "Limits",
    "Quota",
    "Simulator",
    "Wire",
    "asgi",
    "running",
    "serve",
]
