"""Finding owners over real stores: where an answer comes from, what it costs, and which answers are thrown away."""

import asyncio

import pytest
from redis.asyncio import Redis

from proxy_core import keyspace
from proxy_core.cache import encode_entry
from proxy_core.contracts import LiveSettings
from proxy_core.errors import StoreUnavailable
from tests.support.binding_parts import (
    SHORT_TIMEOUT_S,
    identity,
    networks_of,
    opened,
    operator_bans,
    operator_unbinds,
)
from tests.support.clocks import FakeClock
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

KEY = identity("a key")
ALICE, BOB, CAROL = "10.0.0.1", "10.0.0.2", "10.0.0.3"
ROOM_FOR_TWO = LiveSettings(networks_per_key=2)


async def redis_clock_moves(redis: Redis) -> None:
    """Redis tells ages in whole milliseconds: what is written within one of a moment may seem older than it."""
    began_s, began_us = await redis.time()

    async def moved() -> bool:
        now_s, now_us = await redis.time()
        return (now_s - began_s) * 1_000_000 + now_us - began_us > 2_000

    await eventually_async(moved)


# --- where the answer comes from -------------------------------------------------------------------------------------


async def test_memory_answers_first_then_redis_then_postgresql(parts, pg_dsn, redis_url, redis):
    async with opened(pg_dsn, redis_url) as other:
        bound = await parts.bind(KEY, ALICE)
        assert parts.peek(KEY) == bound
        assert await other.find(KEY) == bound
        assert other.store.asked["find"] == 0, "Redis knew"
        asked = other.cache.asked
        assert other.peek(KEY) == bound
        assert other.cache.asked == asked
    await redis.flushall()
    async with opened(pg_dsn, redis_url) as third:
        assert await third.find(KEY) == bound
        assert third.store.asked["find"] == 1
        assert await redis.get(keyspace.binding(KEY.fingerprint)) == encode_entry(bound), "filled for the next one"


async def test_requests_for_one_key_share_one_search(parts):
    with parts.store.holding_answers():
        searches = [asyncio.ensure_future(parts.find(KEY)) for _ in range(20)]
        await eventually(lambda: parts.store.held == 1)
        searches[0].cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*searches, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 19
    assert parts.store.asked["find"] == 1


async def test_a_flood_of_one_unknown_key_costs_postgresql_one_statement(parts, pg_dsn, redis_url, redis):
    for _ in range(20):
        assert await parts.find(KEY) is None
    async with opened(pg_dsn, redis_url) as other:
        assert await other.find(KEY) is None
        assert parts.store.asked["find"] + other.store.asked["find"] == 1
    assert 0 < await redis.pttl(keyspace.binding(KEY.fingerprint)) <= keyspace.UNBOUND_TTL_S * 1000


async def test_unbound_in_redis_is_no_obstacle_to_a_first_use(parts):
    assert await parts.find(KEY) is None
    bound = await parts.bind(KEY, ALICE)
    assert networks_of(bound) == [f"{ALICE}/32"]
    assert await parts.find(KEY) == bound


async def test_an_old_redis_entry_is_compared_with_postgresql(parts, pg, redis):
    """A change that could not be published is seen after `REFRESH_AFTER_S`."""
    await parts.bind(KEY, ALICE)
    await pg.execute("UPDATE binding SET status = 'banned', version = nextval('binding_version_seq')")
    parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
    seen = await parts.find(KEY)
    assert seen is not None
    assert not seen.is_banned(0.0)
    await redis.pexpire(keyspace.binding(KEY.fingerprint), int((keyspace.BINDING_TTL_S - 301) * 1000))
    parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
    for _ in range(2):
        seen = await parts.find(KEY)
        assert seen is not None
        assert seen.is_banned(0.0)
    assert parts.store.asked["find"] == 1, "the refreshed entry is young again"


async def test_a_redis_that_went_back_to_an_old_snapshot_undoes_no_ban(parts, pg, redis):
    """A crash, or a replica that lagged: what it knows from before the connection was made is compared once."""
    await parts.bind(KEY, ALICE)
    name = keyspace.binding(KEY.fingerprint)
    snapshot = await redis.get(name)
    parts.bindings.channel_down()
    version = await operator_bans(pg, parts, KEY)
    await redis.set(name, snapshot, px=int((keyspace.BINDING_TTL_S - 60) * 1000))
    parts.bindings.channel_up()
    await redis_clock_moves(redis)
    for _ in range(2):
        seen = await parts.find(KEY)
        assert seen is not None
        assert (seen.version, seen.is_banned(0.0)) == (version, True)
        parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
    assert parts.store.asked["find"] == 2, "the operator's own look, and one comparison"


async def test_an_unreadable_redis_entry_is_dropped_and_postgresql_answers(parts, redis):
    bound = await parts.bind(KEY, ALICE)
    parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
    await redis.set(keyspace.binding(KEY.fingerprint), b"rubbish")
    assert await parts.find(KEY) == bound
    assert await redis.get(keyspace.binding(KEY.fingerprint)) == encode_entry(bound)


# --- outages ---------------------------------------------------------------------------------------------------------


async def test_without_redis_postgresql_alone_answers_and_decides(own_stores):
    async with (
        opened(own_stores.pg_dsn, own_stores.redis_url) as parts,
        opened(own_stores.pg_dsn, own_stores.redis_url) as other,
    ):
        own_stores.valkey.kill()
        assert await parts.find(KEY) is None
        assert await other.find(KEY) is None
        mine, theirs = await parts.claimed(KEY, ALICE), await other.claimed(KEY, BOB)
        answers = await asyncio.gather(mine.accept(), theirs.accept())
        assert answers[0] == answers[1]
        assert networks_of(answers[0]) in ([f"{ALICE}/32"], [f"{BOB}/32"])
        assert await other.find(KEY) == answers[0]


async def test_without_postgresql_redis_answers_for_the_keys_it_knows(own_stores):
    async with opened(own_stores.pg_dsn, own_stores.redis_url) as parts:
        bound = await parts.bind(KEY, ALICE)
    own_stores.postgres.kill()
    async with opened(own_stores.pg_dsn, own_stores.redis_url) as started_in_the_outage:
        assert await started_in_the_outage.find(KEY) == bound
        with pytest.raises(StoreUnavailable):
            await started_in_the_outage.find(identity("unknown"))
        with pytest.raises(StoreUnavailable):
            await started_in_the_outage.claim(identity("unknown"), BOB)


async def test_an_old_redis_entry_still_answers_while_postgresql_is_away(own_stores):
    async with opened(own_stores.pg_dsn, own_stores.redis_url) as parts, Redis.from_url(own_stores.redis_url) as redis:
        bound = await parts.bind(KEY, ALICE)
        await redis.pexpire(keyspace.binding(KEY.fingerprint), 60_000)
        parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
        own_stores.postgres.kill()
        assert await parts.find(KEY) == bound


async def test_cached_unbound_is_not_believed_while_postgresql_is_away(own_stores):
    """Nobody could bind the key, and it may have been accepted elsewhere meanwhile."""
    async with opened(own_stores.pg_dsn, own_stores.redis_url) as parts:
        assert await parts.find(KEY) is None
        own_stores.postgres.kill()
        with pytest.raises(StoreUnavailable):
            await parts.find(identity("finds out that it is away"))
        with pytest.raises(StoreUnavailable):
            await parts.find(KEY)


async def test_known_keys_are_enforced_from_memory_while_no_store_answers(own_stores):
    clock = FakeClock()
    async with opened(
        own_stores.pg_dsn, own_stores.redis_url, clock=clock, timeout_s=SHORT_TIMEOUT_S, l1_ttl_degraded_s=2.0
    ) as parts:
        bound = await parts.bind(KEY, ALICE)
        own_stores.postgres.pause()
        own_stores.valkey.pause()
        try:
            clock.advance(3600.0)
            assert parts.peek(KEY) is None
            assert await parts.find(KEY) == bound
            assert parts.peek(KEY) == bound, "trusted for a moment, so that not every request asks in vain"
            clock.advance(2.0)
            assert parts.peek(KEY) is None
            with pytest.raises(StoreUnavailable):
                await parts.find(identity("unknown"))
        finally:
            own_stores.postgres.resume()
            own_stores.valkey.resume()
        await parts.learn_that_stores_are_back()
        assert await parts.find(KEY) == bound


# --- invalidation ----------------------------------------------------------------------------------------------------


async def test_a_published_change_reaches_every_gateways_memory(pg_dsn, redis_url, pg):
    async with opened(pg_dsn, redis_url, started=True) as one, opened(pg_dsn, redis_url, started=True) as two:
        await eventually(lambda: "up" in repr(one.bindings) and "up" in repr(two.bindings))
        bound = await one.bind(KEY, ALICE)
        assert await two.find(KEY) == bound
        await eventually(lambda: one.peek(KEY) is None)  # the news of its own binding drops it: one more look at Redis
        assert await one.find(KEY) == bound
        version = await operator_bans(pg, one, KEY)
        await eventually(lambda: one.peek(KEY) is None and two.peek(KEY) is None)
        for parts in (one, two):
            banned = await parts.find(KEY)
            assert banned is not None
            assert banned.version == version
            assert banned.is_banned(0.0)


async def test_what_was_read_before_a_change_does_not_outlive_the_news_of_it(parts, pg_dsn, redis_url, pg, redis):
    await parts.bind(KEY, ALICE)
    await redis.flushall()
    parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
    async with opened(pg_dsn, redis_url) as control_plane:
        with parts.store.holding_answers():
            stale = asyncio.ensure_future(parts.find(KEY))
            await eventually(lambda: parts.store.held == 1)
            version = await operator_bans(pg, control_plane, KEY)
            parts.bindings.changed(keyspace.binding_changed(KEY.fingerprint))
            found = await parts.find(KEY)
            assert found is not None
            assert found.version == version, "who comes after the news does not join the old search"
        old = await stale
    assert old is not None
    assert old.version < version
    assert parts.peek(KEY) == found
    entry = await parts.cache.get(KEY.fingerprint)
    assert entry is not None
    assert entry.binding == found


async def test_a_stale_read_does_not_undo_an_unbinding(parts, pg_dsn, redis_url, pg, redis):
    await parts.bind(KEY, ALICE)
    await redis.flushall()
    parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
    async with opened(pg_dsn, redis_url) as control_plane:
        with parts.store.holding_answers():
            stale = asyncio.ensure_future(parts.find(KEY))
            await eventually(lambda: parts.store.held == 1)
            await operator_unbinds(pg, control_plane, KEY)
            parts.bindings.changed(keyspace.binding_changed(KEY.fingerprint))
        assert await stale is not None
    assert parts.peek(KEY) is None
    assert await parts.find(KEY) is None
    assert parts.store.asked["find"] == 1, "the unbinding's own entry answered"


async def test_a_stale_unbound_does_not_undo_a_binding(parts, pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url) as other:
        with parts.store.holding_answers():
            stale = asyncio.ensure_future(parts.find(KEY))
            await eventually(lambda: parts.store.held == 1)
            bound = await other.bind(KEY, ALICE)
        assert await stale is None
        assert await parts.find(KEY) == bound


async def test_memory_is_trusted_for_less_time_while_the_channel_is_down(pg_dsn, redis_url):
    clock = FakeClock()
    async with opened(pg_dsn, redis_url, clock=clock, l1_ttl_s=30.0, l1_ttl_degraded_s=2.0) as parts:
        parts.bindings.channel_up()
        clock.advance(1.0)
        bound = await parts.bind(KEY, ALICE)
        clock.advance(10.0)
        assert parts.peek(KEY) == bound
        parts.bindings.channel_down()
        assert parts.peek(KEY) is None


async def test_nothing_that_was_read_before_the_channel_came_up_is_trusted(pg_dsn, redis_url):
    clock = FakeClock()
    async with opened(pg_dsn, redis_url, clock=clock) as parts:
        bound = await parts.bind(KEY, ALICE)
        assert parts.peek(KEY) == bound
        clock.advance(0.1)
        parts.bindings.channel_up()
        assert parts.peek(KEY) is None
        clock.advance(0.1)
        assert await parts.find(KEY) == bound
        assert parts.peek(KEY) == bound


async def test_the_channel_follows_redis_through_an_outage(own_stores):
    async with opened(own_stores.pg_dsn, own_stores.redis_url, started=True) as parts:
        await eventually(lambda: "up" in repr(parts.bindings))
        own_stores.valkey.kill()
        await eventually(lambda: "degraded" in repr(parts.bindings))
        own_stores.valkey.start()
        await eventually(lambda: "up" in repr(parts.bindings))
