"""One timer for all streams: callbacks wait in slots of a millisecond, and only the next slot has an event loop timer.

A timer a frame would cost a heap operation and a loop wake-up for each of 40,000 frames a second; here, streams whose
deadlines fall into one slot share both.
"""

import asyncio
import heapq
from collections.abc import Callable

SLOT_S = 0.001


class TimerWheel:
    """Runs each callback once, at or up to one slot after its deadline on the loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Callable[[], None]]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._fired = -1

    def now(self) -> float:
        return self._loop.time()

    def at(self, deadline_s: float, callback: Callable[[], None]) -> None:
        """A deadline that has passed runs in the next slot, never within this call."""
        slot = max(int(deadline_s / SLOT_S) + 1, self._fired + 1)
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.append(callback)
            return
        self._slots[slot] = [callback]
        heapq.heappush(self._order, slot)
        if self._order[0] == slot:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._order[0] * SLOT_S, self._fire) if self._order else None

    def _fire(self) -> None:
        # The loop rounds to milliseconds and may wake us a hair early: the slot we were woken for counts as due.
        self._timer = None
        self._fired = due = max(int(self._loop.time() / SLOT_S), self._order[0])
        while self._order and self._order[0] <= due:
            for callback in self._slots.pop(heapq.heappop(self._order)):
                callback()
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._slots.clear()
        self._order.clear()
