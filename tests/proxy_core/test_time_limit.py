"""A time limit is over when the store took too long, and not when the loop had too much to do."""

import asyncio
import time

import pytest

from proxy_core.time_limit import within

pytestmark = pytest.mark.anyio

ROUND_S = 0.03
ROUNDS_OF_AN_ANSWER = 8


async def test_silence_ends():
    with pytest.raises(TimeoutError):
        async with within(0.05):
            await asyncio.Event().wait()


async def test_a_loop_that_has_much_to_do_is_no_silence():
    """The answer is heard after the time that `asyncio.timeout` would have given it."""
    over = False

    def toil() -> None:
        time.sleep(ROUND_S)
        if not over:
            asyncio.get_running_loop().call_soon(toil)

    toil()
    began_at = time.monotonic()
    async with within(0.1):
        for _ in range(ROUNDS_OF_AN_ANSWER):
            await asyncio.sleep(0)
    assert time.monotonic() - began_at > 0.1
    over = True


async def test_what_is_over_in_time_is_never_interrupted():
    async with within(0.01):
        pass
    await asyncio.sleep(0.05)


async def test_a_cancellation_from_outside_stays_one():
    async def wait() -> None:
        async with within(30):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
