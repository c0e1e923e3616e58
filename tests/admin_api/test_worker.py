"""`sentinel worker` as production runs it: it goes on whatever is killed around it, and ends when it is told to."""

import asyncpg
import pytest
import redis
from saq import Job, Status

from admin_api.jobs import schedule
from admin_api.worker import JobQueue
from proxy_core import keyspace
from proxy_core.cache import connect
from tests.admin_api.batches import batch, confirmed, distinct, intercept, new_binding, send, touch
from tests.support.waiting import eventually
from tests.support.workers import running_worker

pytestmark = pytest.mark.anyio


def pending(stream) -> int:
    try:
        return stream.xpending(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP)["pending"]
    except redis.ResponseError:  # there is no group yet
        return 0


WAITS_FOR_A_LOCK = """
SELECT 'yes' FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'sentinel-worker' AND wait_event_type = 'Lock'
"""


async def counted(pg) -> tuple[int, int, int, int]:
    """Rows, intercepts, and what the one binding counts of requests and intercepts."""
    rows = await pg.fetchrow("SELECT count(*), coalesce(sum(repeat_count), 0)::int FROM intercept")
    return (*rows, *await pg.fetchrow("SELECT request_count, intercept_count FROM binding"))


async def test_events_become_rows_and_sigterm_ends_it_with_status_0(pg, pg_dsn, redis_url, stream):
    binding = await new_binding(pg)
    with running_worker(pg_dsn, redis_url) as worker:
        first, second = batch(intercept(), touch(binding)), batch(touch(binding))
        send(stream, first)
        await eventually(lambda: confirmed(stream, first))
        send(stream, second)
        await eventually(lambda: confirmed(stream, second))
        assert worker.stop() == 0
        said = {line["logger"] for line in worker.log_lines()}
    assert await counted(pg) == (1, 1, 2, 1)
    assert said <= {"admin_api.jobs.ingest"}


async def test_a_worker_killed_in_the_middle_of_a_batch_is_replaced_by_another(ask, pg, pg_dsn, redis_url, stream):
    binding = await new_binding(pg)
    batches = [batch(*one.intercepts, touch(binding)) for one in distinct(10)]
    blocker = await asyncpg.connect(pg_dsn)
    with running_worker(pg_dsn, redis_url) as first:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE binding IN ACCESS EXCLUSIVE MODE")
            send(stream, *batches)
            await eventually(lambda: ask(WAITS_FOR_A_LOCK))
            assert pending(stream) > 0
            first.kill()
    await blocker.close()
    with running_worker(pg_dsn, redis_url):
        await eventually(lambda: confirmed(stream, *batches))
    assert await counted(pg) == (10, 10, 10, 10)


async def test_two_workers_one_of_them_killed_lose_and_double_nothing(pg, pg_dsn, redis_url, stream):
    binding = await new_binding(pg)
    batches = [batch(*one.intercepts, touch(binding)) for one in distinct(400)]
    with running_worker(pg_dsn, redis_url) as first, running_worker(pg_dsn, redis_url):
        await eventually(lambda: len(stream.keys("saq:sentinel:worker_info:*")) == 2)
        for start in range(0, 400, 10):
            send(stream, *batches[start : start + 10])
            if start == 200:
                await eventually(lambda: pending(stream) > 0)
                first.kill()
        await eventually(lambda: confirmed(stream, *batches))
    assert await counted(pg) == (400, 400, 400, 400)


async def test_a_worker_started_without_its_stores_becomes_useful_when_they_come(own_stores):
    own_stores.postgres.stop()
    own_stores.valkey.stop()
    with running_worker(own_stores.pg_dsn, own_stores.redis_url) as worker:
        await eventually(lambda: any(line.get("store") == "redis (job queue)" for line in worker.log_lines()))
        own_stores.valkey.start()
        one = batch(intercept())
        with redis.Redis.from_url(own_stores.redis_url) as stream:
            send(stream, one)
            await eventually(lambda: any("postgresql" in line.get("store", "") for line in worker.log_lines()))
            assert not confirmed(stream, one)
            own_stores.postgres.start()
            await eventually(lambda: confirmed(stream, one))
        assert worker.stop() == 0
        said = [(line["store"], line["event"]) for line in worker.log_lines() if "store" in line]
    assert sorted(said) == [
        (store, event)
        for store in ("postgresql (ingestion)", "redis (job queue)")
        for event in ("store available again", "store unavailable")
    ]


async def test_redis_killed_and_back_empty_is_survived(own_stores):
    with running_worker(own_stores.pg_dsn, own_stores.redis_url) as worker:
        first, second = distinct(2)
        with redis.Redis.from_url(own_stores.redis_url) as stream:
            send(stream, first)
            await eventually(lambda: confirmed(stream, first))
            own_stores.valkey.kill()
            await eventually(lambda: len([line for line in worker.log_lines() if "store" in line]) == 2)
            own_stores.valkey.start()
            send(stream, second)
            await eventually(lambda: confirmed(stream, second))
        assert worker.stop() == 0


@pytest.mark.parametrize("store", ["postgres", "valkey"])
async def test_sigterm_ends_it_also_while_a_store_hangs(own_stores, store):
    with running_worker(own_stores.pg_dsn, own_stores.redis_url) as worker:
        first, second = distinct(2)
        with redis.Redis.from_url(own_stores.redis_url) as stream:
            send(stream, first)
            await eventually(lambda: confirmed(stream, first))
            getattr(own_stores, store).pause()
            try:
                if store == "postgres":
                    send(stream, second)
                    await eventually(lambda: pending(stream) == 1)
                assert worker.stop() == 0
            finally:
                getattr(own_stores, store).resume()


async def test_a_worker_makes_missing_partitions_at_its_start(ask, pg_dsn, redis_url):
    partition = ask("SELECT 'intercept_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    ask(f"DROP TABLE {partition}")
    with running_worker(pg_dsn, redis_url):
        await eventually(lambda: ask(f"SELECT to_regclass('{partition}')") == partition)


async def test_all_of_saqs_keys_are_named_in_the_keyspace(pg_dsn, redis_url, stream):
    one = batch(intercept())
    with running_worker(pg_dsn, redis_url) as worker:
        send(stream, one)
        await eventually(lambda: confirmed(stream, one))
        assert worker.stop() == 0
    prefixes = (b"sentinel:", b"saq:sentinel:", b"saq:job:sentinel:", b"saq:abort:")
    assert [key for key in stream.keys("*") if not key.startswith(prefixes)] == []


async def test_a_job_that_ended_while_redis_is_away_is_no_fault(tmp_path):
    """SAQ would let the task that ran it fail, unseen until the garbage collector speaks of it."""
    queue = JobQueue(connect(f"unix://{tmp_path}/nobody", timeout_s=1.0), "test")
    job = Job("nothing", queue=queue)
    await queue.finish(job, Status.COMPLETE)
    await queue.retry(job, "error")
    assert await queue.dequeue() is None
    await queue.disconnect()


def test_a_turn_is_longer_than_its_slot_and_shorter_than_its_limit():
    """Else an event could wait for the scheduler, or SAQ would cut every turn."""
    assert schedule.SLOT_S + 1 < schedule.TURN_S < 60
