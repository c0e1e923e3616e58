"""The owner of every background task: nothing runs beside the requests that is not started here and awaited at the end.

Where it stands in the walk: below the nouns with I/O. The lifespan makes one `Tasks`, the nouns start theirs on it,
and the lifespan closes it after the nouns.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
CANCEL_AGAIN_AFTER_S = 2.0
"""`asyncio.wait_for` of Python 3.11, which redis-py sends with, now and then swallows a cancellation."""


class Tasks:
    def __init__(self, *, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        names = sorted(task.get_name() for task in self._running)
        return f"Tasks({'closed' if self._closed else 'open'}, running={names})"

    def start(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Runs it once. What it raises is logged here, so that a task that nobody awaits does not fail in silence.

        Raises RuntimeError after `aclose`.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"cannot start {name}: the tasks are closed")
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def repeat(self, step: Callable[[], Awaitable[None]], *, every_s: float, name: str) -> asyncio.Task[None]:
        """Runs ``step``, pauses, and so on. A failing step is logged, and the pause grows until one succeeds."""
        return self.start(self._repeat(step, every_s, name), name=name)

    async def _repeat(self, step: Callable[[], Awaitable[None]], every_s: float, name: str) -> None:
        pause_s = every_s
        while True:
            try:
                await step()
            except Exception:
                pause_s = min(max(pause_s * 2, FIRST_PAUSE_S), max(LONGEST_PAUSE_S, every_s))
                log.exception("background task failed, trying again", task=name, pause_s=pause_s)
            else:
                pause_s = every_s
            if self._closed:
                # The step lost its cancellation: before Python 3.12 `asyncio.wait_for` does that, and redis-py uses it.
                return
            await self._sleep(pause_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task failed", task=task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        """Cancels what runs and waits for its end. Any number of times; cut short, it leaves none uncancelled."""
        self._closed = True
        current = asyncio.current_task()
        running = {task for task in self._running if task is not current}
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_AFTER_S)
