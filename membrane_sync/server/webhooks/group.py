"""Group commit: what comes while one transaction is under way goes into the next one, together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

MOST_AT_ONCE = 500
MOST_WAITING = 4_000


class Busy(Exception):
    """More waits than there's room for; what isn't taken may come again."""


class Group(Generic[In, Out]):
    """Hands items to `take`, in a thread of its own, as many at once as have come meanwhile."""

    def __init__(
        self,
        take: Callable[[Sequence[In]], Sequence[Out]],
        name: str,
        *,
        most_at_once: int = MOST_AT_ONCE,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._take = take
        self._most_at_once = most_at_once
        self.most_waiting = most_waiting
        self._waiting: deque[tuple[In, asyncio.Future[Out]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many items wait for their turn."""
        return len(self._waiting)

    async def take(self, item: In) -> Out:
        """What became of the item; raises Busy.

        It's taken even if whoever asks goes away meanwhile.
        """
        if len(self._waiting) >= self.most_waiting:
            raise Busy
        future: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Take what waits yet, and end."""
        if self._task is not None and not self._task.done():
            await self._task
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # for those that came in the same turn
        while self._waiting:
            count = min(len(self._waiting), self._most_at_once)
            batch = [self._waiting.popleft() for _ in range(count)]
            items = [item for item, _ in batch]
            try:
                found = await loop.run_in_executor(self._thread, self._take, items)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, found, strict=True):
                if not future.done():
                    future.set_result(result)
