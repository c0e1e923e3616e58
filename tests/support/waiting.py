"""Waiting for a condition that another process brings about."""

import asyncio
import time
from collections.abc import Awaitable, Callable

LIMIT_S = 60.0
"""A process that is waited for has to load its libraries first, on a machine that may do much else."""


async def eventually(condition: Callable[[], object]) -> None:
    """Returns as soon as the condition holds; fails if it never does. The limit is generous: it only ends a hang."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.01)


async def eventually_async(condition: Callable[[], Awaitable[object]], limit_s: float = LIMIT_S) -> None:
    """The same for a condition that has to be asked for."""
    deadline = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.05)


def until(condition: Callable[[], object]) -> None:
    """The same for tests without a loop, such as those that drive a browser."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)
