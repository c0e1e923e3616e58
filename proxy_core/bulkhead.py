"""The bulkhead: so many questions to a store at once, the others stand in line.

Where it stands in the walk: between `circuit` and its owners, `cache` and `store`.

A burst of requests whose keys are in no memory is thousands of questions at once. Without a line in front of the
store, those at the end of it run out of time in our own queue, the store counts as unavailable, and whoever sends the
burst has brought an outage about.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from proxy_core.circuit import Circuit
from proxy_core.errors import StoreUnavailable

LINE_WAIT_S = 20.0
"""How long a question may stand in line while the store answers others."""


class Bulkhead:
    """At most ``at_once`` questions are with the store; the others wait in line, first come, first served."""

    def __init__(self, store: str, circuit: Circuit, at_once: int, *, wait_s: float = LINE_WAIT_S) -> None:
        self._store = store
        self._circuit = circuit
        self._places = asyncio.Semaphore(at_once)
        self._wait_s = wait_s

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Around each question. Raises StoreUnavailable when the store is not to be asked now, or not soon enough."""
        self._circuit.enter()
        if self._places.locked():
            await self._stand_in_line()
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    async def _stand_in_line(self) -> None:
        was_available = self._circuit.available
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{self._store}: too many questions stand in line") from None
        if was_available and not self._circuit.available:
            self._places.release()
            raise StoreUnavailable(f"{self._store}: {self._circuit.failure}")
