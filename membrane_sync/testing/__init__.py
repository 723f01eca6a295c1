"""For those who write connectors: an app, a lake, a product database and a ledger in memory.

They keep the promises of `ports`, and the project's own tests hold them to it.
"""

from membrane_sync.testing.fake_api import FakeApi, answer
from membrane_sync.testing.memory import MemoryDestination, MemoryLake, MemoryLedger

__all__ = ["FakeApi", "MemoryDestination", "MemoryLake", "MemoryLedger", "answer"]
