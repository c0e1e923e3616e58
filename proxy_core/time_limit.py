"""Time limits that count a store's time and not our own.

Where it stands in the walk: on the ground, under whatever asks a store: `cache` and `asking`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

ROUNDS = 10
"""How often the loop comes round within a time limit. An answer takes about five of it until it is heard: a loop with
thousands of requests on it needs longer for these than a store may take."""


class TimeLimit:
    """Calls ``expired`` after ``limit_s`` in which the loop came round `ROUNDS` times, unless cancelled before."""

    __slots__ = ("_left", "_loop", "_step_s", "_timer", "expired")

    def __init__(self, limit_s: float, expired: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._step_s = limit_s / ROUNDS
        self._left = ROUNDS
        self.expired = expired
        self._timer = self._loop.call_later(self._step_s, self._step)

    @property
    def is_over(self) -> bool:
        return self._left == 0

    def cancel(self) -> None:
        self._timer.cancel()

    def _step(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._step_s, self._step)
        else:
            self.expired()


@contextlib.asynccontextmanager
async def within(limit_s: float) -> AsyncIterator[None]:
    """Raises TimeoutError when the time limit is over, as `asyncio.timeout` does."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout:
        limit = TimeLimit(limit_s, lambda: timeout.reschedule(loop.time()))
        try:
            yield
        finally:
            limit.cancel()
