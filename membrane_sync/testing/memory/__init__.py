"""Lake, destination and ledger in memory, for tests: short, and true to `ports`."""

from membrane_sync.testing.memory.destination import MemoryDestination
from membrane_sync.testing.memory.lake import MemoryLake
from membrane_sync.testing.memory.ledger import MemoryLedger

__all__ = ["MemoryDestination", "MemoryLake", "MemoryLedger"]
