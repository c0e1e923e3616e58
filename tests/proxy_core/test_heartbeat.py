"""The heartbeat: what a worker says of itself, and day counters that are neither lost nor doubled."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from redis.asyncio import Redis

from proxy_core import keyspace
from proxy_core.heartbeat import Heartbeat, Vitals
from proxy_core.tasks import Tasks
from tests.support.clocks import FakeClock
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

NOON = datetime(2030, 12, 31, 12, tzinfo=UTC).timestamp()
DAY, NEXT_DAY = "2030-12-31", "2031-01-01"


class Worker:
    """A worker process as far as the heartbeat sees it."""

    def __init__(self, redis_url: str, pid: int = 7) -> None:
        self.redis = Redis.from_url(redis_url)
        self.nowhere = Redis.from_url("unix:///nowhere.sock")
        self.clock = FakeClock(NOON)
        self.tasks = Tasks()
        self.counts: dict[str, int] = {}
        self.measures: dict = {}
        self.pid = pid
        self.heartbeat = Heartbeat(self.redis, self.tasks, self.look, clock=self.clock)

    def look(self) -> Vitals:
        return Vitals("east:1", self.pid, "1.2.3", started_at=NOON, counts=dict(self.counts), **self.measures)

    def count(self, **by: int) -> None:
        for name, more in by.items():
            self.counts[name] = self.counts.get(name, 0) + more

    def away(self) -> None:
        self.heartbeat._script.registered_client = self.nowhere

    def back(self) -> None:
        self.heartbeat._script.registered_client = self.redis

    async def day(self, date: str = DAY) -> dict[str, int]:
        stored = await self.redis.hgetall(keyspace.day(date))
        return {name.decode(): int(count) for name, count in stored.items()}

    async def close(self) -> None:
        await self.tasks.aclose()
        await self.redis.aclose()
        await self.nowhere.aclose()


@pytest.fixture
async def worker(redis_url):
    one = Worker(redis_url)
    yield one
    await one.close()


@pytest.fixture
async def neighbour(redis_url):
    one = Worker(redis_url, pid=8)
    yield one
    await one.close()


class AnswerLost:
    """A script that Redis runs while its answer never comes."""

    def __init__(self, script) -> None:
        self.script = script

    async def __call__(self, **given) -> None:
        await self.script(**given)
        raise TimeoutError


class AnswerHangs:
    """The same, but the caller waits for it."""

    def __init__(self, script) -> None:
        self.script = script
        self.ran = asyncio.Event()

    async def __call__(self, **given) -> None:
        await self.script(**given)
        self.ran.set()
        await asyncio.Event().wait()


async def test_a_beat_leaves_the_workers_vitals_for_a_while_and_lists_it_by_the_time_of_redis(worker):
    worker.count(requests=3)
    assert await worker.heartbeat.beat()
    name = keyspace.gateway_worker("east:1", 7)
    value = await worker.redis.get(keyspace.heartbeat(name))
    assert msgspec.msgpack.decode(value, type=Vitals) == worker.look()
    assert 0 < await worker.redis.ttl(keyspace.heartbeat(name)) <= keyspace.HEARTBEAT_TTL_S
    ((member, at),) = await worker.redis.zrange(keyspace.GATEWAYS, 0, -1, withscores=True)
    seconds, _ = await worker.redis.time()
    assert member.decode() == name
    assert abs(seconds - at) < 60


async def test_workers_that_died_long_ago_are_taken_off_the_list(worker):
    seconds, _ = await worker.redis.time()
    await worker.redis.zadd(
        keyspace.GATEWAYS, {"dead:1": seconds - keyspace.GATEWAY_REMEMBERED_S - 60, "late:1": seconds - 60}
    )
    await worker.heartbeat.beat()
    assert await worker.redis.zrange(keyspace.GATEWAYS, 0, -1) == [b"late:1", b"east:1:7"]


async def test_days_add_up_what_all_workers_counted(worker, neighbour):
    worker.count(requests=5, allowed=4)
    neighbour.count(requests=2, key_banned=1)
    for _ in range(2):
        await worker.heartbeat.beat()
        await neighbour.heartbeat.beat()
    worker.count(requests=1)
    await worker.heartbeat.beat()
    assert await worker.day() == {"requests": 8, "allowed": 4, "key_banned": 1}
    assert 0 < await worker.redis.ttl(keyspace.day(DAY)) <= keyspace.DAY_TTL_S


async def test_each_days_requests_are_that_days(worker):
    worker.count(requests=5)
    await worker.heartbeat.beat()
    worker.clock.advance(12 * 3600)
    worker.count(requests=2)
    await worker.heartbeat.beat()
    assert (await worker.day(), await worker.day(NEXT_DAY)) == ({"requests": 5}, {"requests": 2})


async def test_an_outage_of_redis_loses_nothing(worker):
    worker.count(requests=1)
    await worker.heartbeat.beat()
    worker.away()
    for _ in range(3):
        worker.count(requests=10)
        assert not await worker.heartbeat.beat()
    worker.back()
    for _ in range(2):
        assert await worker.heartbeat.beat()
    assert await worker.day() == {"requests": 31}


async def test_increments_whose_answer_was_lost_are_counted_once(worker):
    worker.count(requests=4)
    script = worker.heartbeat._script
    worker.heartbeat._script = AnswerLost(script)
    for _ in range(3):
        assert not await worker.heartbeat.beat()
        worker.count(requests=1)
    worker.heartbeat._script = script
    for _ in range(3):
        assert await worker.heartbeat.beat()
    assert await worker.day() == {"requests": 7}


async def test_a_cancelled_beat_is_neither_lost_nor_doubled(worker):
    worker.count(requests=4)
    script = worker.heartbeat._script
    worker.heartbeat._script = hanging = AnswerHangs(script)
    beat = asyncio.create_task(worker.heartbeat.beat())
    await hanging.ran.wait()
    beat.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beat
    worker.heartbeat._script = script
    for _ in range(2):
        assert await worker.heartbeat.beat()
    assert await worker.day() == {"requests": 4}


async def test_a_restarted_worker_with_the_same_process_id_adds_to_what_the_last_one_counted(worker, redis_url):
    worker.count(requests=4)
    await worker.heartbeat.beat()
    again = Worker(redis_url)
    again.count(requests=2)
    await again.heartbeat.beat()
    assert await worker.day() == {"requests": 6}
    await again.close()


async def test_after_redis_lost_everything_the_beat_goes_on(worker):
    worker.count(requests=4)
    await worker.heartbeat.beat()
    await worker.redis.flushall()
    await worker.redis.script_flush()
    worker.count(requests=1)
    assert await worker.heartbeat.beat()
    assert await worker.day() == {"requests": 1}


async def test_at_the_end_the_last_counts_are_written_and_the_worker_leaves_the_list(worker):
    worker.heartbeat.start()
    await eventually_async(lambda: worker.redis.exists(keyspace.GATEWAYS))
    worker.count(requests=2)
    await worker.heartbeat.aclose()
    await worker.heartbeat.aclose()
    assert await worker.day() == {"requests": 2}
    assert await worker.redis.zcard(keyspace.GATEWAYS) == 0
    assert not await worker.redis.exists(keyspace.heartbeat("east:1:7"))


async def test_the_end_after_an_uncertain_write_counts_what_came_after_it_too(worker):
    worker.count(requests=2)
    script = worker.heartbeat._script
    worker.heartbeat._script = AnswerLost(script)
    await worker.heartbeat.beat()
    worker.heartbeat._script = script
    worker.count(requests=3)
    await worker.heartbeat.aclose()
    assert await worker.day() == {"requests": 5}


async def test_without_redis_the_end_does_not_wait(worker):
    worker.away()
    worker.heartbeat.start()
    await worker.heartbeat.aclose()
