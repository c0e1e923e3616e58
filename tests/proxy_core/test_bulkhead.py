"""So many questions at once; who stands in line is no outage, and learns of one at once."""

import asyncio
import contextlib

import pytest

from proxy_core.bulkhead import Bulkhead
from proxy_core.circuit import Circuit
from proxy_core.errors import StoreUnavailable
from tests.support.clocks import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def circuit() -> Circuit:
    return Circuit("redis", clock=FakeClock())


async def inside(bulkhead: Bulkhead, done: asyncio.Event) -> None:
    async with bulkhead.enter():
        await done.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_next_in_line_enters_when_one_leaves(circuit):
    bulkhead, inside_now, most = Bulkhead("redis", circuit, 2), 0, 0

    async def ask() -> None:
        nonlocal inside_now, most
        async with bulkhead.enter():
            inside_now += 1
            most = max(most, inside_now)
            await asyncio.sleep(0)
            inside_now -= 1

    await asyncio.gather(*(ask() for _ in range(20)))
    assert (most, inside_now) == (2, 0)


async def test_who_stands_in_line_learns_of_an_outage_at_once(circuit):
    bulkhead, done = Bulkhead("redis", circuit, 1), asyncio.Event()
    first = asyncio.create_task(inside(bulkhead, done))
    await settled()
    waiting = [asyncio.create_task(inside(bulkhead, done)) for _ in range(3)]
    await settled()
    circuit.failed("time limit")
    done.set()
    await first
    assert [str(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == ["redis: time limit"] * 3
    circuit.succeeded()
    async with asyncio.timeout(30), bulkhead.enter():
        pass


async def test_a_line_that_is_too_long_is_no_outage(circuit):
    bulkhead, done = Bulkhead("redis", circuit, 1, wait_s=0.01), asyncio.Event()
    first = asyncio.create_task(inside(bulkhead, done))
    await settled()
    with pytest.raises(StoreUnavailable, match="stand in line"):
        await inside(bulkhead, done)
    assert circuit.available
    done.set()
    await first
    await inside(bulkhead, done)


async def test_who_leaves_the_line_takes_no_place(circuit):
    bulkhead, done = Bulkhead("redis", circuit, 1), asyncio.Event()
    first = asyncio.create_task(inside(bulkhead, done))
    await settled()
    waiting = asyncio.create_task(inside(bulkhead, done))
    await settled()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    done.set()
    await first
    async with asyncio.timeout(30):
        await inside(bulkhead, done)
