"""The stream is drained at least once, and whatever dies or is wrong in between, each batch is in the tables once."""

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis
import structlog

from admin_api.jobs import apply
from admin_api.jobs.ingest import Ingest, IngestLimits
from admin_api.jobs.partitions import make_partitions
from admin_api.jobs.postgres import Postgres
from proxy_core import keyspace
from proxy_core.cache import connect
from tests.admin_api.batches import KEY, NOW, batch, confirmed, distinct, entry, intercept, new_binding, send, touch
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

LIMITS = IngestLimits(
    read_max=8, block_s=0.1, claim_every_s=0.05, claim_idle_s=0.2, apply_s=1.0, backoff_first_s=0.02, backoff_max_s=0.1
)


@contextlib.asynccontextmanager
async def an_ingest(pg_dsn: str, redis_url: str, limits: IngestLimits = LIMITS) -> AsyncIterator[Ingest]:
    postgres, client = await Postgres.connect(pg_dsn), connect(redis_url, timeout_s=2.0)
    yield Ingest(client, postgres, limits)
    await client.aclose()
    await postgres.aclose()


@contextlib.asynccontextmanager
async def draining(*ingests: Ingest) -> AsyncIterator[None]:
    """They drain until the end of the block, which cancels them as a stop does."""
    tasks = [asyncio.create_task(ingest.drain(3600)) for ingest in ingests]
    yield
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def clients(pg) -> list[str]:
    return [row[0] for row in await pg.fetch("SELECT host(client) FROM intercept ORDER BY client")]


def sent_clients(batches) -> list[str]:
    return sorted((event.client for one in batches for event in one.intercepts), key=ipaddress.ip_address)


def take(stream, count: int = 100) -> None:
    """What a worker does that dies right after: it reads and never acknowledges."""
    stream.xreadgroup(keyspace.EVENTS_GROUP, keyspace.EVENTS_CONSUMER, {keyspace.EVENTS_STREAM: ">"}, count=count)


async def test_batches_become_rows_and_their_gateways_learn_it(pg, pg_dsn, redis_url, stream):
    binding = await new_binding(pg)
    before, after = [batch(intercept()), batch(touch(binding))], distinct(3)
    send(stream, *before)  # before there is a group
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        await eventually(lambda: confirmed(stream, *before))
        send(stream, *after)
        await eventually(lambda: confirmed(stream, *before, *after))
    assert await clients(pg) == ["198.18.0.0", "198.18.0.1", "198.18.0.2", "198.51.100.7"]
    assert await pg.fetchval("SELECT request_count FROM binding") == 1
    hour = keyspace.hour_name(NOW)
    assert (stream.pfcount(keyspace.keys_seen(hour)), stream.pfcount(keyspace.addresses_seen(hour))) == (1, 5)
    assert 0 < stream.ttl(keyspace.event_done(before[0].batch_id)) <= keyspace.EVENT_DONE_TTL_S


async def test_the_same_batch_twice_is_applied_once_and_confirmed(pg, pg_dsn, redis_url, stream):
    binding = await new_binding(pg)
    one = batch(intercept(), touch(binding, requests=5))
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        send(stream, one, one)
        await eventually(lambda: confirmed(stream, one))
        stream.delete(keyspace.event_done(one.batch_id))
        send(stream, one)
        await eventually(lambda: confirmed(stream, one))
    assert tuple(await pg.fetchrow("SELECT request_count, intercept_count FROM binding")) == (5, 1)
    assert await pg.fetchval("SELECT sum(repeat_count) FROM intercept") == 1


async def test_poison_goes_to_the_dead_letters_and_stops_nobody(pg, pg_dsn, redis_url, stream):
    good = distinct(4)
    for number, bad in enumerate(
        [
            {b"id": b"i" * 16, b"batch": b"not msgpack"},
            {b"unknown": b"fields"},
            entry(batch(intercept(client="nowhere"))),
            entry(batch(intercept(path="nul \x00"))),  # only PostgreSQL finds this one
            entry(batch(intercept())) | {b"id": b"j" * 16},
        ]
    ):
        stream.xadd(keyspace.EVENTS_STREAM, bad)
        send(stream, *good[number : number + 1])
    with structlog.testing.capture_logs() as logs:
        async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
            await eventually(lambda: confirmed(stream, *good) and stream.xlen(keyspace.DEAD_LETTERS_STREAM) == 5)
    assert await clients(pg) == sent_clients(good)
    assert stream.exists(keyspace.event_done(b"i" * 16)) == 1
    assert stream.xpending(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP)["pending"] == 0
    letters = [fields for _, fields in stream.xrange(keyspace.DEAD_LETTERS_STREAM)]
    assert all(fields[b"fault"] and fields[b"entry"] for fields in letters)
    assert {fields[b"batch"] for fields in letters if b"batch" in fields} >= {b"not msgpack"}
    said = str([line for line in logs if line["log_level"] == "error"])
    assert said.count("dead letters") == 5
    assert "nowhere" not in said
    assert "nul" not in said


async def test_dead_letters_are_bounded(pg_dsn, redis_url, stream, monkeypatch):
    monkeypatch.setattr(keyspace, "DEAD_LETTERS_MAX_LENGTH", 3)
    for _ in range(10):
        stream.xadd(keyspace.EVENTS_STREAM, {b"batch": b""})
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        await eventually(lambda: stream.xlen(keyspace.EVENTS_STREAM) == 0)
    assert stream.xlen(keyspace.DEAD_LETTERS_STREAM) == 3


async def test_what_a_dead_worker_left_is_taken_over(pg, pg_dsn, redis_url, stream):
    """Some of it was committed before the worker died, some was not."""
    batches = distinct(20)
    stream.xgroup_create(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP, id="0", mkstream=True)
    send(stream, *batches)
    take(stream)
    await apply.apply_batches(pg, batches[:10])
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        await eventually(lambda: confirmed(stream, *batches))
    assert await clients(pg) == sent_clients(batches)
    assert await pg.fetchval("SELECT max(repeat_count) FROM intercept") == 1


async def test_many_drains_at_once_apply_everything_once(pg, pg_dsn, redis_url, stream):
    """They even steal entries from each other the whole time: one that is at work counts as dead at once."""
    binding = await new_binding(pg)
    batches = [batch(*one.intercepts, touch(binding)) for one in distinct(300)]
    thieves = IngestLimits(read_max=5, block_s=0.02, claim_every_s=0.0, claim_idle_s=0.0)
    async with (
        an_ingest(pg_dsn, redis_url, thieves) as one,
        an_ingest(pg_dsn, redis_url, thieves) as other,
        draining(one, one, other),
    ):
        send(stream, *batches)
        await eventually(lambda: confirmed(stream, *batches))
    assert await pg.fetchval("SELECT count(*) FROM intercept") == 300
    assert await pg.fetchval("SELECT max(repeat_count) FROM intercept") == 1
    assert tuple(await pg.fetchrow("SELECT request_count, intercept_count FROM binding")) == (300, 300)


@contextlib.asynccontextmanager
async def intercepts_locked(pg, pg_dsn, send_it) -> AsyncIterator[None]:
    """PostgreSQL takes long: until the end of the block no batch with intercepts gets through."""
    other = await asyncpg.connect(pg_dsn)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE intercept IN ACCESS EXCLUSIVE MODE")
            send_it()
            # Redis counts the batch as pending a moment before the drain has it in its hands: the lock tells.
            await eventually_async(lambda: pg.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
            yield
    finally:
        await other.close()


async def test_the_next_batches_are_read_while_postgresql_applies(pg, pg_dsn, redis_url, stream):
    first, second = distinct(2)
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        async with intercepts_locked(pg, pg_dsn, lambda: send(stream, first)):
            send(stream, second)
            await eventually(lambda: pending(stream) == 2)
        await eventually(lambda: confirmed(stream, first, second))


async def test_what_takes_long_in_postgresql_is_not_taken_over_by_the_same_process(
    pg, pg_dsn, redis_url, stream, monkeypatch
):
    one = batch(intercept())
    tries: list[int] = []
    applied = apply.apply_batches

    async def watched(connection, batches):
        tries.append(len(batches))
        return await applied(connection, batches)

    def claims() -> int:
        return stream.info("commandstats")["cmdstat_xautoclaim"]["calls"]

    monkeypatch.setattr(apply, "apply_batches", watched)
    impatient = IngestLimits(block_s=0.02, claim_every_s=0.0, claim_idle_s=0.0)
    async with an_ingest(pg_dsn, redis_url, impatient) as ingest, draining(ingest):
        async with intercepts_locked(pg, pg_dsn, lambda: send(stream, one)):
            before = claims()
            await eventually(lambda: claims() > before + 3)
        await eventually(lambda: confirmed(stream, one))
    assert tries == [1]


async def test_a_stream_that_is_deleted_is_made_again(pg, pg_dsn, redis_url, stream):
    """Redis restarted empty, or somebody flushed it: while the drain waits for entries, and between its questions."""
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        first, second, third = distinct(3)
        send(stream, first)
        await eventually(lambda: confirmed(stream, first))
        stream.flushall()
        send(stream, second)
        await eventually(lambda: confirmed(stream, second))
        stream.xgroup_destroy(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP)
        send(stream, third)
        await eventually(lambda: confirmed(stream, third))
    assert await clients(pg) == sent_clients([first, second, third])


@pytest.mark.parametrize("how", ["stopped", "hanging"])
async def test_while_postgresql_is_away_nothing_is_acknowledged_and_nothing_lost(own_stores, how):
    batches = distinct(30)
    away, back = {
        "stopped": (own_stores.postgres.stop, own_stores.postgres.start),
        "hanging": (own_stores.postgres.pause, own_stores.postgres.resume),
    }[how]
    with redis.Redis.from_url(own_stores.redis_url) as stream, structlog.testing.capture_logs() as logs:

        def said(event: str) -> int:
            return [line["event"] for line in logs if "postgresql" in line.get("store", "")].count(event)

        async with an_ingest(own_stores.pg_dsn, own_stores.redis_url) as ingest, draining(ingest):
            send(stream, *batches[:10])
            await eventually(lambda: confirmed(stream, *batches[:10]))
            away()
            send(stream, *batches[10:])
            await eventually(lambda: said("store unavailable"))
            assert stream.xlen(keyspace.EVENTS_STREAM) == 20
            assert not confirmed(stream, batches[10])
            back()
            await eventually(lambda: confirmed(stream, *batches))
    assert said("store unavailable") == said("store available again") == 1
    pg = await asyncpg.connect(own_stores.pg_dsn)
    assert await clients(pg) == sent_clients(batches)
    assert await pg.fetchval("SELECT max(repeat_count) FROM intercept") == 1
    await pg.close()


async def test_redis_away_is_said_once_and_waited_for(own_stores):
    with structlog.testing.capture_logs() as logs, redis.Redis.from_url(own_stores.redis_url) as stream:
        async with an_ingest(own_stores.pg_dsn, own_stores.redis_url) as ingest, draining(ingest):
            first, second = distinct(2)
            send(stream, first)
            await eventually(lambda: confirmed(stream, first))
            own_stores.valkey.kill()
            await eventually(lambda: any(line["event"] == "store unavailable" for line in logs))
            own_stores.valkey.start()
            send(stream, second)
            await eventually(lambda: confirmed(stream, second))
    assert [line["event"] for line in logs if "store" in line] == ["store unavailable", "store available again"]


async def test_a_drain_that_is_cancelled_finishes_the_batches_at_hand(pg, pg_dsn, redis_url, stream):
    one = batch(intercept())
    async with an_ingest(pg_dsn, redis_url) as ingest:
        task = asyncio.create_task(ingest.drain(3600))
        async with intercepts_locked(pg, pg_dsn, lambda: send(stream, one)):
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert confirmed(stream, one)
    assert await pg.fetchval("SELECT count(*) FROM intercept") == 1


async def test_a_drain_cannot_be_held_up_by_postgresql_when_it_is_cancelled(own_stores):
    limits = IngestLimits(block_s=0.1, apply_s=3600.0, finish_s=0.1)
    one = batch(intercept())
    with redis.Redis.from_url(own_stores.redis_url) as stream:
        async with an_ingest(own_stores.pg_dsn, own_stores.redis_url, limits) as ingest:
            stream.xgroup_create(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP, id="0", mkstream=True)
            own_stores.postgres.pause()
            task = asyncio.create_task(ingest.drain(3600))
            send(stream, one)
            await eventually(lambda: pending(stream) == 1)
            task.cancel()
            await eventually(task.done)
            own_stores.postgres.resume()
        assert pending(stream) == 1


async def test_a_drain_ends_when_its_turn_is_over_even_while_postgresql_fails(own_stores):
    own_stores.postgres.stop()
    with redis.Redis.from_url(own_stores.redis_url) as stream:
        send(stream, batch(intercept()))
        async with an_ingest(own_stores.pg_dsn, own_stores.redis_url) as ingest:
            async with asyncio.timeout(30):
                await ingest.drain(0.5)
        assert pending(stream) == 1


async def test_no_more_than_two_drains_of_a_process_wait_for_a_store(own_stores):
    own_stores.valkey.stop()
    async with an_ingest(own_stores.pg_dsn, own_stores.redis_url) as ingest, draining(ingest, ingest):
        await asyncio.sleep(0)  # both have begun
        async with asyncio.timeout(30):
            await ingest.drain(3600)


async def test_a_backlog_of_large_and_small_batches_goes_into_transactions_of_bounded_size(
    pg, pg_dsn, redis_url, stream, monkeypatch
):
    """As PostgreSQL left it that was away: many small batches at once, large ones one by one, all of them once."""
    small = distinct(300)
    large = [batch(*(event for one in distinct(60)[start:] for event in one.intercepts)) for start in (0, 20, 40)]
    limits = IngestLimits(read_min=2, read_max=128, events_max=40, block_s=0.05)
    sizes: list[int] = []
    applied = apply.apply_batches

    async def watched(connection, batches):
        sizes.append(sum(len(one.intercepts) for one in batches))
        return await applied(connection, batches)

    monkeypatch.setattr(apply, "apply_batches", watched)
    send(stream, *small, *large)
    async with an_ingest(pg_dsn, redis_url, limits) as ingest, draining(ingest):
        await eventually(lambda: confirmed(stream, *small, *large))
    assert await pg.fetchval("SELECT sum(repeat_count) FROM intercept") == 300 + 60 + 40 + 20
    assert [size for size in sizes if size > 40] == [60]  # one batch is never divided
    assert len(sizes) < 20


async def test_intercepts_of_any_month_find_a_place(pg, pg_dsn, redis_url, stream):
    years = 365.25 * 86_400
    batches = [batch(intercept(at=time.time() + offset * years)) for offset in (-3, 0, 3)]
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        send(stream, *batches)
        await eventually(lambda: confirmed(stream, *batches))
    assert await pg.fetchval("SELECT count(*) FROM intercept") == 3
    assert await pg.fetchval("SELECT count(*) FROM intercept_default") == 2


async def test_partitions_are_made_ahead_and_only_once(pg, pg_dsn):
    postgres = await Postgres.connect(pg_dsn)
    assert await make_partitions(postgres) == 0  # the migration has just made them
    latest = await pg.fetchval(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'intercept'::regclass "
        "AND inhrelid <> 'intercept_default'::regclass"
    )
    await pg.execute(f"DROP TABLE {latest}")
    assert [await make_partitions(postgres) for _ in range(2)] == [1, 0]
    await postgres.aclose()


async def test_the_key_of_a_binding_joins_intercepts_to_its_count(pg, pg_dsn, redis_url, stream):
    mine, other = await new_binding(pg, KEY), await new_binding(pg, b"o" * 32)
    one = batch(intercept(repeat_count=4), intercept(fingerprint=b"o" * 32), intercept(fingerprint=b"?" * 32))
    async with an_ingest(pg_dsn, redis_url) as ingest, draining(ingest):
        send(stream, one)
        await eventually(lambda: confirmed(stream, one))
    counts = await pg.fetch("SELECT id, intercept_count FROM binding ORDER BY id")
    assert [tuple(row) for row in counts] == [(mine, 4), (other, 1)]


def pending(stream) -> int:
    try:
        return stream.xpending(keyspace.EVENTS_STREAM, keyspace.EVENTS_GROUP)["pending"]
    except redis.ResponseError:  # there is no group yet
        return 0
