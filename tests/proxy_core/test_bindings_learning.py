"""First use at once, and learning further networks, over real stores: never more than there is room for."""

import asyncio

import pytest
from redis.asyncio import Redis

from proxy_core import keyspace
from proxy_core.bindings import Claim, ClaimedElsewhere
from proxy_core.contracts import Binding, LiveSettings
from proxy_core.errors import StoreUnavailable
from tests.support.binding_parts import (
    FIRST_USE,
    address,
    identity,
    networks_of,
    opened,
    operator_bans,
    operator_unbinds,
)

pytestmark = pytest.mark.anyio

KEY = identity("a key")
ALICE, BOB, CAROL = "10.0.0.1", "10.0.0.2", "10.0.0.3"
ROOM_FOR_TWO = LiveSettings(networks_per_key=2)


async def test_first_use_binds_before_the_upstream_is_asked(parts):
    bound = await parts.claim(KEY, ALICE, FIRST_USE)
    assert isinstance(bound, Binding)
    assert networks_of(bound) == [f"{ALICE}/32"]
    assert await parts.claim(KEY, BOB, FIRST_USE) == bound


async def test_first_use_without_postgresql_holds_nothing_back(own_stores):
    async with opened(own_stores.pg_dsn, own_stores.redis_url) as parts, Redis.from_url(own_stores.redis_url) as redis:
        own_stores.postgres.stop()
        with pytest.raises(StoreUnavailable):
            await parts.claim(KEY, ALICE, FIRST_USE)
        assert await redis.get(keyspace.claim(KEY.fingerprint)) is None
        own_stores.postgres.start()
        await parts.learn_that_stores_are_back()
        bound = await parts.claim(KEY, BOB, FIRST_USE)
        assert networks_of(bound) == [f"{BOB}/32"]


async def test_the_network_that_is_bound_has_the_live_prefix(parts):
    live = LiveSettings(ipv4_prefix=24, ipv6_prefix=48)
    claim = await parts.claim(KEY, ALICE, live)
    assert isinstance(claim, Claim)
    assert networks_of(await claim.accept()) == ["10.0.0.0/24"]
    other = identity("v6")
    claim = await parts.claim(other, "2001:db8:1:2::3", live)
    assert isinstance(claim, Claim)
    assert networks_of(await claim.accept()) == ["2001:db8:1::/48"]


async def test_a_network_is_learned_while_there_is_room(parts, pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url) as other:
        bound = await parts.bind(KEY, ALICE)
        learned = await parts.bindings.learn(bound, address(BOB), ROOM_FOR_TWO)
        assert networks_of(learned) == [f"{ALICE}/32", f"{BOB}/32"]
        assert learned.version > bound.version
        assert parts.peek(KEY) == learned
        full = await parts.bindings.learn(learned, address(CAROL), ROOM_FOR_TWO)
        assert full == learned
        assert await other.find(KEY) == learned
        assert other.store.asked["find"] == 0


async def test_racing_learners_never_exceed_the_limit(pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url) as one, opened(pg_dsn, redis_url) as two:
        for number in range(10):
            key = identity(f"learned {number}")
            bound = await one.bind(key, ALICE)
            await asyncio.gather(
                *(
                    parts.bindings.learn(bound, address(f"10.0.1.{client}"), LiveSettings(networks_per_key=3))
                    for client in range(1, 9)
                    for parts in (one, two)
                )
            )
            there = await one.store.find(key.fingerprint)
            assert len(networks_of(there)) == 3


async def test_a_key_that_was_banned_meanwhile_learns_nothing(parts, pg):
    bound = await parts.bind(KEY, ALICE)
    version = await operator_bans(pg, parts, KEY)
    answer = await parts.bindings.learn(bound, address(BOB), ROOM_FOR_TWO)
    assert answer.is_banned(0.0)
    assert answer.version == version
    assert networks_of(answer) == [f"{ALICE}/32"]


async def test_a_key_whose_ban_has_expired_learns_again(parts, pg):
    bound = await parts.bind(KEY, ALICE)
    await operator_bans(pg, parts, KEY)
    await pg.execute("UPDATE binding SET ban_expires_at = now() - interval '1 second'")
    learned = await parts.bindings.learn(bound, address(BOB), ROOM_FOR_TWO)
    assert networks_of(learned) == [f"{ALICE}/32", f"{BOB}/32"]


async def test_a_key_that_was_unbound_and_bound_again_meanwhile_learns_nothing(parts, pg):
    bound = await parts.bind(KEY, ALICE)
    await operator_unbinds(pg, parts, KEY)
    parts.bindings.changed(keyspace.binding_changed(KEY.fingerprint))
    again = await parts.bind(KEY, CAROL)
    answer = await parts.bindings.learn(bound, address(BOB), ROOM_FOR_TWO)
    assert answer == again
    assert again.version > bound.version


async def test_learning_without_postgresql_is_refused_loudly(own_stores):
    async with opened(own_stores.pg_dsn, own_stores.redis_url) as parts:
        bound = await parts.bind(KEY, ALICE)
        own_stores.postgres.kill()
        with pytest.raises(StoreUnavailable):
            await parts.bindings.learn(bound, address(BOB), ROOM_FOR_TWO)
        assert parts.peek(KEY) == bound


async def test_a_binding_found_by_a_claim_is_returned_in_its_place(parts, pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url) as other:
        bound = await other.bind(KEY, ALICE)
        assert await parts.claim(KEY, BOB) == bound
        assert not isinstance(await parts.claim(KEY, BOB), ClaimedElsewhere)
