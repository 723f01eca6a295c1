"""A DuckDB in memory for each thread, which it uses for one lake after another."""

from threading import local

from membrane_sync.bootstrap import Memory, Runtime


class Memories:
    """Those of all threads that asked for one, until they're closed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mine = local()
        self._all: list[Memory] = []

    def mine(self) -> Memory:
        """This thread's."""
        if not hasattr(self._mine, "memory"):
            self._mine.memory = self._runtime.stores.new_memory(threads=1)
            self._all.append(self._mine.memory)
        memory: Memory = self._mine.memory
        return memory

    def forget_mine(self) -> None:
        """Give back what DuckDB holds on to after a large lake: each thread would, in time."""
        if hasattr(self._mine, "memory"):
            self._all.remove(self._mine.memory)
            self._mine.memory.close()
            del self._mine.memory

    def close(self) -> None:
        """Give back all, once no thread works."""
        for memory in self._all:
            memory.close()
