"""Seats: whatever races, is lost or leaves, no more requests are open than the limit says, and no seat is lost."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from proxy_core import keyspace
from proxy_core.cache import Cache, connect
from proxy_core.concurrency import Concurrency
from proxy_core.contracts import LiveSettings, Reason
from proxy_core.errors import RequestRefused, StoreUnavailable
from proxy_core.tasks import Tasks
from tests.support.binding_parts import TIMEOUT_S, address
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
HOME = address("203.0.113.7")
THREE = LiveSettings(max_concurrent_per_key=3)
THREE_EACH = LiveSettings(max_concurrent_per_address=3)


class Forgetful(Cache):
    """Redis does what it is asked, but now and then its answer is lost."""

    lose = 0.0
    die = random.Random(7)

    async def take_seats(self, worker, questions):
        granted = await super().take_seats(worker, questions)
        if self.die.random() < self.lose:
            raise StoreUnavailable("lost by the test")
        return granted


@contextlib.asynccontextmanager
async def worker(url: str) -> AsyncIterator[Concurrency]:
    cache, tasks = Forgetful(connect(url, timeout_s=TIMEOUT_S), timeout_s=TIMEOUT_S), Tasks()
    one = Concurrency(cache, tasks)
    one.start()
    try:
        yield one
    finally:
        await one.aclose()
        await tasks.aclose()
        await cache.aclose()


@pytest.fixture
async def pair(redis_url) -> AsyncIterator[tuple[Concurrency, Concurrency]]:
    async with worker(redis_url) as one, worker(redis_url) as other:
        yield one, other


async def refused(one: Concurrency, live: LiveSettings = THREE, where=HOME) -> Reason | None:
    try:
        seats = await one.enter(live, KEY, where)
    except RequestRefused as refusal:
        return refusal.reason if refusal.status == 429 else None
    one.leave(seats)
    return None


async def test_a_limit_holds_over_all_workers(pair):
    one, other = pair
    seats = [await one.enter(THREE, KEY, HOME), await other.enter(THREE, KEY, HOME), await one.enter(THREE, KEY, HOME)]
    assert await refused(one) is await refused(other) is Reason.KEY_CONCURRENCY_EXCEEDED
    assert await other.enter(THREE, b"another key".ljust(32), HOME)
    one.leave(seats[0])

    async def there_is_room() -> bool:
        return await refused(other) is None

    await eventually_async(there_is_room)


async def test_addresses_are_counted_whatever_their_keys(pair):
    """An IPv4 address alone; all of an IPv6 /64 together, since who has one of it has all."""
    one, other = pair
    v6 = [address(f"2001:db8::{number}") for number in range(1, 5)]
    for number, where in enumerate(v6[:3]):
        await (one, other)[number % 2].enter(THREE_EACH, None, where)
    assert await refused(other, THREE_EACH, v6[3]) is Reason.ADDRESS_CONCURRENCY_EXCEEDED
    assert await refused(other, THREE_EACH, address("2001:db8:0:1::1")) is None
    for _ in range(3):
        await one.enter(THREE_EACH, None, HOME)
    assert await refused(other, THREE_EACH) is Reason.ADDRESS_CONCURRENCY_EXCEEDED
    assert await refused(other, THREE_EACH, address("203.0.113.8")) is None


async def test_who_is_refused_by_the_second_limit_gives_the_first_seat_back(pair, redis_url):
    one, _ = pair
    both = LiveSettings(max_concurrent_per_key=5, max_concurrent_per_address=1)
    seats = await one.enter(both, KEY, HOME)
    assert await refused(one, both) is Reason.ADDRESS_CONCURRENCY_EXCEEDED
    one.leave(seats)
    await one.aclose()
    async with Redis.from_url(redis_url) as redis:
        assert await redis.keys("sentinel:open:*") == []


@pytest.mark.parametrize("lose", [0.0, 0.3])
async def test_any_order_of_coming_leaving_and_giving_up_keeps_the_limit_and_loses_no_seat(pair, redis_url, lose):
    """With answers of Redis lost, each worker keeps the limit alone, and nothing stays taken at the end."""
    die = random.Random(lose)
    bound = 3 if not lose else 6
    open_now = 0

    for one in pair:
        one._cache.lose = lose

    async def visit(one: Concurrency, turns: int) -> None:
        nonlocal open_now
        try:
            seats = await one.enter(THREE, KEY, HOME)
        except RequestRefused:
            return
        open_now += 1
        assert open_now <= bound
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            open_now -= 1
            one.leave(seats)

    for _ in range(40):
        visits = [asyncio.create_task(visit(die.choice(pair), die.randint(0, 40))) for _ in range(8)]
        for task in visits:
            for _ in range(die.randint(0, 10)):
                await asyncio.sleep(0)
            if die.random() < 0.3:
                task.cancel()
        for outcome in await asyncio.gather(*visits, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    assert open_now == 0
    for one in pair:
        one._cache.lose = 0.0
        await one.aclose()
        assert (repr(one), one._subjects) == ("<Concurrency 0 seats taken>", {})
    async with Redis.from_url(redis_url) as redis:
        assert await redis.keys("sentinel:open:*") == []


async def test_the_seats_of_a_dead_worker_are_free_when_their_time_is_over(pair, redis_url):
    async with Redis.from_url(redis_url) as redis:
        seconds, _ = await redis.time()
        name = keyspace.open_of_key(KEY)
        await redis.hset(name, "dead", f"3 {(seconds + 60) * 1000}")
        assert await refused(pair[0]) is Reason.KEY_CONCURRENCY_EXCEEDED
        await redis.hset(name, "dead", f"3 {(seconds - 60) * 1000}")
        seats = await pair[0].enter(THREE, KEY, HOME)
        assert await redis.hlen(name) == 1
        pair[0].leave(seats)


async def test_without_redis_each_worker_keeps_the_limit_alone():
    async with worker("redis://127.0.0.1:1/0") as one:
        seats = [await one.enter(THREE, KEY, HOME) for _ in range(3)]
        assert await refused(one) is Reason.KEY_CONCURRENCY_EXCEEDED
        one.leave(seats[0])
        assert await refused(one) is None


async def test_a_lowered_limit_refuses_until_enough_have_left(pair):
    one, other = pair
    seats = [await one.enter(THREE, KEY, HOME) for _ in range(3)]
    lowered = LiveSettings(max_concurrent_per_key=1)
    assert await refused(other, lowered) is not None
    for taken in seats:
        one.leave(taken)
    await one.aclose()
    assert await refused(other, lowered) is None
