"""Hours: each has what happened in it, and says so if it may not have all of it."""

import pytest

from proxy_core import keyspace
from proxy_core.heartbeat import EPOCH, LOST, OPEN
from tests.proxy_core.test_heartbeat import DAY, AnswerLost, Worker

pytestmark = pytest.mark.anyio

AT_12, AT_13, AT_14 = f"{DAY}T12", f"{DAY}T13", f"{DAY}T14"


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


async def fields(worker, hour: str = AT_12) -> dict[str, bytes]:
    return {name.decode(): value for name, value in (await worker.redis.hgetall(keyspace.hour(hour))).items()}


async def figures(worker, hour: str = AT_12) -> dict[str, int]:
    return {name: int(value) for name, value in (await fields(worker, hour)).items() if not name.startswith("=")}


async def open_marks(worker, hour: str = AT_12) -> int:
    return sum(name.startswith(OPEN) for name in await fields(worker, hour))


async def test_an_hour_has_bytes_and_durations_too_and_a_day_has_not(worker, neighbour):
    for one in (worker, neighbour):
        one.count(requests=3)
        one.measures = {"bytes_in": 10, "bytes_out": 2**40, "added_time": (0, 4, 0, 1)}
        await one.heartbeat.beat()
        await one.heartbeat.beat()
    assert await figures(worker) == {
        "requests": 6,
        "+bytes_in": 20,
        "+bytes_out": 2**41,
        "+added_time:1": 8,
        "+added_time:3": 2,
    }
    assert await worker.day() == {"requests": 6}
    assert 0 < await worker.redis.ttl(keyspace.hour(AT_12)) <= keyspace.HOUR_TTL_S


async def test_what_was_counted_while_redis_was_away_belongs_to_the_hours_in_which_it_was(worker):
    """Also where the answer to the first of it was lost, so that it has to be repeated as it was."""
    worker.count(requests=1)
    script = worker.heartbeat._script
    worker.heartbeat._script = AnswerLost(script)
    await worker.heartbeat.beat()
    worker.heartbeat._script = script
    worker.away()
    for more in (10, 100, 1000):
        worker.count(requests=more)
        await worker.heartbeat.beat()
        worker.clock.advance(3600)
    worker.back()
    assert await worker.heartbeat.beat()
    assert [(await figures(worker, hour))["requests"] for hour in (AT_12, AT_13, AT_14)] == [11, 100, 1000]
    assert await worker.day() == {"requests": 1111}


async def test_an_hour_is_open_until_each_of_its_workers_has_begun_with_the_next(worker, neighbour):
    for one in (worker, neighbour):
        await one.heartbeat.beat()
        one.clock.advance(3600)
    assert await open_marks(worker) == 2
    await worker.heartbeat.beat()
    assert await open_marks(worker) == 1
    await neighbour.heartbeat.beat()
    assert (await open_marks(worker), await open_marks(worker, AT_13)) == (0, 2)


async def test_a_worker_that_stops_leaves_no_mark_and_one_that_is_killed_does(worker, neighbour, redis_url):
    """Nor is the mark taken by a worker that runs under the same process id afterwards."""
    for one in (worker, neighbour):
        await one.heartbeat.beat()
    await worker.heartbeat.aclose()
    again = Worker(redis_url, pid=8)
    await again.heartbeat.beat()
    await again.heartbeat.aclose()
    await again.close()
    assert await open_marks(worker) == 1


async def test_an_hour_whose_counters_redis_lost_says_so_whoever_begins_it_anew(worker, neighbour):
    await worker.heartbeat.beat()
    before = (await fields(worker))[EPOCH]
    await worker.redis.flushall()
    await neighbour.heartbeat.beat()
    assert LOST not in await fields(worker)
    await worker.heartbeat.beat()
    after = await fields(worker)
    assert after[LOST] == b"1"
    assert after[EPOCH] != before


async def test_an_hour_that_lost_nothing_does_not_say_so(worker, neighbour):
    for _ in range(2):
        for one in (worker, neighbour):
            await one.heartbeat.beat()
            one.clock.advance(3600)
    assert LOST not in {*await fields(worker), *await fields(worker, AT_13)}
