"""The roll-up: hours in Redis become rows, whatever is repeated, races, or is lost meanwhile."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from redis.asyncio import Redis

from admin_api.jobs import distinct
from admin_api.jobs.postgres import Postgres
from admin_api.jobs.rollup import KEEP_DAYS, roll_up
from proxy_core import keyspace
from proxy_core.heartbeat import EPOCH, LOST, OPEN
from tests.admin_api.batches import batch, intercept, touch

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 5, 10, 0, 30, tzinfo=UTC)
MIDNIGHT = datetime(2030, 5, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
CURRENT, BEFORE = "2030-05-10T00", "2030-05-09T23"


class House:
    def __init__(self, redis: Redis, pg, postgres: Postgres) -> None:
        self.redis, self.pg, self.postgres = redis, pg, postgres

    async def count(self, hour: str = CURRENT, *, epoch: str = "one", **by: int) -> None:
        """What a worker does that is open; ``by``: to what it raises each figure."""
        await self.redis.hset(keyspace.hour(hour), mapping={EPOCH: epoch, f"{OPEN}w": "1", **by})

    async def close(self, hour: str = CURRENT) -> None:
        await self.redis.hdel(keyspace.hour(hour), f"{OPEN}w")

    async def roll_up(self, now: datetime = NOW) -> int:
        return await roll_up(self.redis, self.postgres, now)

    async def hours(self, *columns: str) -> list[tuple]:
        return [tuple(row) for row in await self.pg.fetch(f"SELECT {', '.join(columns)} FROM hourly_metric ORDER BY 1")]

    async def distinct(self) -> set[tuple]:
        return {tuple(row) for row in await self.pg.fetch("SELECT step, at, keys, addresses FROM distinct_metric")}

    async def note(self, *events, now: datetime = NOW) -> None:
        async with self.redis.pipeline(transaction=True) as pipe:
            distinct.note(pipe, [batch(*events)], now.timestamp())
            await pipe.execute()


@pytest.fixture
async def house(pg_dsn, redis_url):
    postgres = await Postgres.connect(pg_dsn)
    pg = await asyncpg.connect(pg_dsn)
    async with Redis.from_url(redis_url) as redis:
        yield House(redis, pg, postgres)
    await pg.close()
    await postgres.aclose()


async def test_an_hour_becomes_a_row_with_all_its_figures(house):
    outcomes = {"requests": 100, "allowed": 80, "allowed_unbound": 3, "observed": 2, "bound": 4, "client_gone": 9}
    refused = {"key_banned": 5, "key_bound_to_other_address": 6, "invalid_api_key": 7, "response_broken": 1}
    more = {"+bytes_in": 11, "+bytes_out": 2**50, "+added_time:0": 1, "+added_time:71": 2, "+from_the_future": 1}
    await house.count(**outcomes, **refused, **more)
    assert await house.roll_up() == 1
    row = dict(await house.pg.fetchrow("SELECT * FROM hourly_metric"))
    added = row.pop("added_time")
    assert (added[0], added[71], sum(added)) == (1, 2, 3)
    assert row == {
        "at": MIDNIGHT,
        "part": "one",
        "requests": 100,
        "allowed": 83,
        "intercepted": 11,
        "observed": 2,
        "claims": 4,
        "errors": '{"invalid_api_key": 7, "response_broken": 1}',
        "bytes_in": 11,
        "bytes_out": 2**50,
        "partial": True,
    }


async def test_rolling_up_again_changes_nothing_and_new_figures_replace_the_old(house):
    await house.count(requests=5)
    assert [await house.roll_up() for _ in range(2)] == [1, 0]
    await house.count(requests=7, internal_error=1)
    assert await house.roll_up() == 1
    assert await house.hours("requests", "errors") == [(7, '{"internal_error": 1}')]


async def test_two_at_once_write_the_same_as_one(house):
    await house.count(requests=5)
    await house.count(BEFORE, requests=6)
    await house.note(intercept(at=NOW.timestamp()))
    changed = await asyncio.gather(*(house.roll_up() for _ in range(4)))
    assert sorted(changed) == [0, 0, 0, 2]
    assert await house.hours("at", "requests") == [(MIDNIGHT - HOUR, 6), (MIDNIGHT, 5)]


async def test_days_without_any_worker_are_caught_up(house):
    for back in range(keyspace.HOUR_TTL_S // 3600):
        await house.count(f"{MIDNIGHT - back * HOUR:%Y-%m-%dT%H}", requests=back + 1)
    assert await house.roll_up() == keyspace.HOUR_TTL_S // 3600
    assert sum(requests for (requests,) in await house.hours("requests")) == 72 * 73 // 2


async def test_an_hour_is_whole_when_all_who_counted_in_it_are_done(house):
    await house.count(requests=5)
    await house.roll_up()
    await house.count(requests=6)
    await house.close()
    await house.roll_up(NOW + HOUR)
    assert await house.hours("requests", "partial") == [(6, False)]


async def test_when_redis_lost_an_hour_what_was_rolled_up_of_it_stays_and_the_rest_is_added(house):
    await house.count(requests=50)
    await house.roll_up()
    await house.redis.flushall()
    await house.roll_up()
    await house.count(epoch="two", requests=7)
    await house.redis.hset(keyspace.hour(CURRENT), LOST, "1")
    await house.close()
    await house.roll_up(NOW + HOUR)
    assert await house.hours("requests", "partial") == [(7, True), (50, True)]


async def test_a_figure_is_never_lowered_and_an_hour_that_went_back_remembers_it(house):
    """Redis came back from an older copy of itself."""
    await house.count(requests=50, internal_error=2, **{"+added_time:3": 9, "+bytes_in": 1})
    await house.roll_up()
    await house.count(requests=40, internal_error=1, **{"+added_time:3": 8, "+bytes_in": 5})
    await house.roll_up()
    assert await house.hours("requests", "errors", "added_time[4]", "bytes_in") == [(50, '{"internal_error": 2}', 9, 5)]
    await house.count(requests=60, internal_error=2, **{"+added_time:3": 9})
    await house.close()
    await house.roll_up(NOW + HOUR)
    assert await house.hours("requests", "partial") == [(60, True)]


async def test_different_keys_and_addresses_are_counted_for_their_hour_and_over_the_day(house):
    """Whatever is noted twice, and whether it passed or was refused."""
    then, now = (MIDNIGHT + HOUR).timestamp(), (MIDNIGHT + 2 * HOUR).timestamp()
    mine, other = touch(1, at=then, ip="10.0.0.1"), intercept(at=then, fingerprint=b"o" * 32, client="10.0.0.2")
    late = touch(1, at=now, ip="10.0.0.3")
    at = MIDNIGHT + 2 * HOUR
    for _ in range(2):
        await house.note(mine, other, late, now=at)
    await house.roll_up(at)
    hour_1, hour_2 = ("hour", MIDNIGHT + HOUR, 2, 2), ("hour", at, 1, 1)
    assert await house.distinct() == {hour_1, hour_2, ("day", MIDNIGHT, 2, 3)}
    await house.redis.flushall()
    await house.note(late, now=at)
    await house.roll_up(at)
    assert await house.distinct() == {hour_1, hour_2, ("day", MIDNIGHT, 2, 3)}


async def test_many_keys_are_counted_within_a_percent_or_two(house):
    await house.note(*(intercept(at=NOW.timestamp(), fingerprint=os.urandom(32)) for _ in range(20_000)))
    await house.roll_up()
    [(keys,)] = await house.pg.fetch("SELECT keys FROM distinct_metric WHERE step = 'hour'")
    assert 19_400 < keys < 20_600


async def test_events_of_long_ago_and_of_a_wrong_clock_leave_nothing_in_redis(house):
    for at in (NOW - timedelta(days=4), NOW + timedelta(days=1)):
        await house.note(intercept(at=at.timestamp()))
    assert await house.redis.keys("*") == []


async def test_hours_are_kept_for_400_days(house):
    for back in (KEEP_DAYS - 1, KEEP_DAYS + 1):
        at = NOW - timedelta(days=back)
        await house.pg.execute("INSERT INTO hourly_metric VALUES ($1, 'a', 1, 1, 1, 1, 1, '{}', 1, 1, '{}', false)", at)
        await house.pg.execute("INSERT INTO distinct_metric VALUES ('hour', $1, 1, 1)", at)
    await house.roll_up()
    assert await house.hours("at", "part") == [(NOW - timedelta(days=KEEP_DAYS - 1), "a")]
    assert len(await house.distinct()) == 1
