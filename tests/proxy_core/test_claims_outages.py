"""First uses that were accepted while PostgreSQL could not be told: nobody else gets the key, and none is lost."""

import asyncio

import pytest

from proxy_core import keyspace
from proxy_core.bindings import Claim, ClaimedElsewhere
from proxy_core.claims import RENEW_EVERY_S
from proxy_core.contracts import Binding
from proxy_core.errors import StoreUnavailable
from tests.support.binding_parts import SHORT_TIMEOUT_S, Parts, identity, networks_of, opened
from tests.support.clocks import FakeClock
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

KEY = identity("a key")
ALICE, BOB = "10.0.0.1", "10.0.0.2"
ALICES, BOBS = [f"{ALICE}/32"], [f"{BOB}/32"]


async def accepted_without_postgresql(parts: Parts, client: str = ALICE) -> Binding:
    """The upstream took the key, and this gateway could not tell PostgreSQL."""
    claim = await parts.claimed(KEY, client)
    parts.store.faults.refuse = 1.0
    bound = await claim.accept()
    assert bound.id == 0
    return bound


@pytest.mark.parametrize("ending", ["hangs", "stops"])
async def test_accepted_while_postgresql_is_away(own_stores, ending):
    """The client gets its answer, every gateway knows the owner, and PostgreSQL learns of it when it is back."""
    async with (
        opened(own_stores.pg_dsn, own_stores.redis_url, timeout_s=SHORT_TIMEOUT_S) as one,
        opened(own_stores.pg_dsn, own_stores.redis_url, timeout_s=SHORT_TIMEOUT_S) as two,
    ):
        claim = await one.claimed(KEY, ALICE)
        if ending == "hangs":
            own_stores.postgres.pause()
        else:
            own_stores.postgres.stop()
        bound = await claim.accept()
        await claim.release()
        assert (bound.id, networks_of(bound)) == (0, ALICES)
        reserved = await one.cache.reservation(KEY.fingerprint)
        assert reserved is not None
        assert reserved.accepted
        assert await one.find(KEY) == bound
        seen = await two.find(KEY)
        assert (seen.id, networks_of(seen)) == (0, ALICES)
        with pytest.raises(StoreUnavailable):
            await two.claim(identity("another"), BOB)
        await one.tend()  # in vain
        if ending == "hangs":
            own_stores.postgres.resume()
        else:
            own_stores.postgres.start()
        await two.learn_that_stores_are_back()
        assert await two.find(KEY) is None or ending == "hangs"
        assert not isinstance(await two.claim(KEY, BOB), Claim), "before PostgreSQL heard of the owner"
        await one.learn_that_stores_are_back()
        await one.tend()
        stored = await two.find(KEY)
        assert stored.id
        assert networks_of(stored) == ALICES
        assert await one.find(KEY) == stored
        assert await one.cache.reservation(KEY.fingerprint) is None


async def test_an_insert_of_unknown_outcome_is_repeated_and_makes_no_second_owner(one, two):
    claim = await one.claimed(KEY, ALICE)
    one.store.faults.lose = 1.0
    assert (await claim.accept()).id == 0
    theirs = await two.find(KEY)
    assert networks_of(theirs) == ALICES, "it had arrived"
    assert await two.claim(KEY, BOB) == theirs
    one.store.faults.heal()
    await one.tend()
    assert await one.find(KEY) == theirs
    assert one.store.asked["claim"] == 2


async def test_an_accepted_reservation_lives_for_a_day_and_survives_its_gateway(one, two, redis):
    await accepted_without_postgresql(one)
    await one.crash()
    assert await redis.pttl(keyspace.claim(KEY.fingerprint)) > 3600_000
    assert isinstance(await two.claim(KEY, BOB), ClaimedElsewhere)
    bound = await two.bind(KEY, ALICE)
    assert bound.id
    assert await redis.get(keyspace.claim(KEY.fingerprint)) is None


async def test_shutting_down_stores_what_was_accepted(one, two):
    await accepted_without_postgresql(one)
    one.store.faults.heal()
    await one.bindings.aclose()
    assert networks_of(await two.find(KEY)) == ALICES


async def test_the_background_stores_what_was_accepted(pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url, started=True) as one, opened(pg_dsn, redis_url) as two:
        await accepted_without_postgresql(one)
        one.store.faults.heal()
        await eventually(lambda: "accepted=0" in repr(one.bindings))
        assert networks_of(await two.find(KEY)) == ALICES


async def test_a_later_request_of_the_first_user_goes_through_and_others_do_not(one):
    bound = await accepted_without_postgresql(one)
    assert await one.find(KEY) == bound
    one.store.faults.heal()
    assert await one.claim(KEY, ALICE) == bound
    assert await one.claim(KEY, BOB) == bound


async def test_of_two_acceptances_that_nobody_could_store_one_gives_way(pg_dsn, redis_url):
    """Redis was away when both began and PostgreSQL when both ended: the first that Redis hears of stays the owner."""
    clock = FakeClock()
    async with opened(pg_dsn, redis_url, clock=clock) as one, opened(pg_dsn, redis_url, clock=clock) as two:
        for parts, client in ((one, ALICE), (two, BOB)):
            parts.cache.faults.refuse = 1.0
            await accepted_without_postgresql(parts, client)
        for parts in (one, two):
            parts.cache.faults.heal()
            clock.advance(RENEW_EVERY_S)
            await parts.tend()
        assert networks_of(await one.find(KEY)) == networks_of(await two.find(KEY)) == ALICES
        two.store.faults.heal()
        await two.tend()
        assert networks_of(await two.find(KEY)) == ALICES, "it stored what Redis had told it"


async def test_an_acceptance_outranks_a_claim_that_is_only_in_flight(pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url) as one, opened(pg_dsn, redis_url) as two:
        mine = await one.claimed(KEY, ALICE)
        await one.cache.drop(KEY.fingerprint, await one.cache.reservation(KEY.fingerprint))  # as a flushed Redis
        theirs = await two.claimed(KEY, BOB)
        for parts in (one, two):
            parts.store.faults.refuse = 1.0
        assert networks_of(await mine.accept()) == ALICES
        assert networks_of(await theirs.accept()) == ALICES, "to be judged again: it is refused"
        assert networks_of(await two.find(KEY)) == ALICES


async def test_news_of_the_stored_owner_overrules_one_that_could_not_be_stored(one, two, redis):
    await accepted_without_postgresql(one)
    await redis.flushall()
    stored = await two.bind(KEY, BOB)
    one.bindings.changed(keyspace.binding_changed(KEY.fingerprint))
    assert await one.find(KEY) == stored
    one.store.faults.heal()
    await one.tend()
    assert await one.find(KEY) == stored


async def test_a_request_that_ends_after_the_owner_was_stored_hears_of_that_owner(one, two, redis):
    early, late = await one.claimed(KEY, ALICE), await one.claimed(KEY, ALICE)
    one.store.faults.refuse = 1.0
    assert networks_of(await early.accept()) == ALICES
    await redis.flushall()
    stored = await two.bind(KEY, BOB)
    one.store.faults.heal()
    await one.tend()
    assert await late.accept() == stored


async def test_a_request_that_ends_after_the_news_of_another_owner_asks_again(one, two, redis):
    early, late = await one.claimed(KEY, ALICE), await one.claimed(KEY, ALICE)
    one.store.faults.refuse = 1.0
    await early.accept()
    await redis.flushall()
    stored = await two.bind(KEY, BOB)
    one.bindings.changed(keyspace.binding_changed(KEY.fingerprint))
    one.store.faults.heal()
    assert await late.accept() == stored


async def test_a_binding_that_redis_was_not_told_of_is_published_later(one, two):
    """Else an older "unbound" would send other addresses' requests to the upstream until it runs out."""
    await two.cache.publish_change(KEY.fingerprint, 1, None)
    claim = await one.claimed(KEY, ALICE)
    one.cache.faults.refuse = 1.0
    bound = await claim.accept()
    assert await two.find(KEY) is None
    await one.tend()  # in vain
    one.cache.faults.heal()
    await one.tend()
    assert await two.find(KEY) == bound
    assert await one.cache.reservation(KEY.fingerprint) is None


async def test_late_news_of_a_binding_does_not_undo_an_unbinding(one, two, redis):
    claim = await one.claimed(KEY, ALICE)
    one.cache.faults.refuse = 1.0
    await claim.accept()
    await two.store._ask(lambda connection: connection.execute("DELETE FROM binding"))
    await redis.flushall()
    one.cache.faults.heal()
    await one.tend()
    assert await redis.get(keyspace.binding(KEY.fingerprint)) is None
    assert await two.find(KEY) is None


async def test_late_news_of_a_binding_leaves_a_newer_claim_alone(one, two):
    bound = await one.bind(KEY, ALICE)
    await one.cache.publish_change(KEY.fingerprint, bound.version + 1, None)
    claim = await two.claimed(KEY, BOB)
    await one.cache.publish_change(KEY.fingerprint, bound.version, bound)
    assert isinstance(await one.claim(identity("x"), BOB), Claim)
    reserved = await one.cache.reservation(KEY.fingerprint)
    assert reserved is not None
    assert reserved.network == claim.network


async def test_renewals_do_not_wait_for_a_postgresql_that_hangs(pg_dsn, redis_url, redis):
    clock = FakeClock()
    name = keyspace.claim(KEY.fingerprint)
    async with opened(pg_dsn, redis_url, clock=clock) as one:
        await accepted_without_postgresql(one)
        one.store.faults.heal()
        other = identity("in flight meanwhile")
        await one.claimed(other, BOB)
        with one.store.holding_answers():
            storing = asyncio.ensure_future(one.bindings._claims.store_accepted())
            await eventually(lambda: one.store.held == 1)
            await redis.pexpire(keyspace.claim(other.fingerprint), 5_000)
            clock.advance(RENEW_EVERY_S)
            await one.bindings._claims.tend()
            assert await redis.pttl(keyspace.claim(other.fingerprint)) > 5_000
        await storing
        assert await redis.get(name) is None
