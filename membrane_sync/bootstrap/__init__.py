"""The one place that joins the parts: which adapter stands behind which port.

with open_runtime(root).connect("acme_kinto") as parties:
    report = run_sync(sync, parties)
"""

from membrane_sync.bootstrap.opened import Opened
from membrane_sync.bootstrap.runtime import Runtime, find_root, open_runtime
from membrane_sync.bootstrap.standing import Standing
from membrane_sync.stores.lake.file import Memory

__all__ = [
    "Memory",
    "Opened",
    "Runtime",
    "Standing",
    "find_root",
    "open_runtime",
]
