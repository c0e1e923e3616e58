"""First uses: whatever races, fails or dies between two gateways, a key gets one owner."""

import asyncio
import random
import time

import pytest
from redis import Redis as SyncRedis

from proxy_core import keyspace
from proxy_core.bindings import Claim, ClaimedElsewhere
from proxy_core.cache import Reservation
from proxy_core.claims import RENEW_EVERY_S
from proxy_core.contracts import Binding
from proxy_core.errors import StoreUnavailable
from tests.support.binding_parts import Faults, Parts, address, identity, networks_of, opened
from tests.support.clocks import FakeClock
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

KEY = identity("a key")
ALICE, BOB = "10.0.0.1", "10.0.0.2"
ALICES, BOBS = [f"{ALICE}/32"], [f"{BOB}/32"]


async def reservation(parts: Parts, key=KEY) -> Reservation | None:
    return await parts.cache.reservation(key.fingerprint)


async def refused_by_postgresql(parts: Parts, client: str = ALICE) -> Binding:
    """The upstream took the key while this gateway could not tell PostgreSQL."""
    claim = await parts.claimed(KEY, client)
    parts.store.faults.refuse = 1.0
    return await claim.accept()


# --- the property, over random interleavings -------------------------------------------------------------------------


async def request(parts: Parts, key, client: str, *, taken: bool) -> Binding | None:
    """One request as the handler leads it; the binding that let it through, None: it was not let through."""
    try:
        binding = await parts.find(key)
        if binding is None:
            outcome = await parts.claim(key, client)
            if isinstance(outcome, ClaimedElsewhere):
                return None
            if isinstance(outcome, Claim):
                try:
                    binding = await outcome.accept() if taken else None
                finally:
                    await outcome.release()
            else:
                binding = outcome
    except StoreUnavailable:
        return None
    return binding if binding is not None and binding.covers(address(client), time.time()) else None


async def play(gateways: list[Parts], key, die: random.Random, rounds: int = 3) -> list[Binding]:
    """Requests from several addresses over several gateways at once, a few waves of them; who was let through."""
    allowed = []
    for _ in range(rounds):
        wave = [
            request(die.choice(gateways), key, die.choice([ALICE, BOB, "10.0.0.3"]), taken=die.random() < 0.8)
            for _ in range(die.randint(2, 5))
        ]
        await asyncio.gather(*(parts.tend() for parts in gateways if die.random() < 0.5))
        allowed += [binding for binding in await asyncio.gather(*wave) if binding is not None]
    return allowed


async def settled_owner(gateways: list[Parts], key) -> list[str]:
    """Once nothing fails any more, everybody names the owner that PostgreSQL has, or nobody does."""
    for parts in gateways:
        parts.store.faults.heal()
        parts.cache.faults.heal()
    for parts in gateways:
        await parts.tend()
    row = await gateways[0].store.find(key.fingerprint)
    for parts in gateways:
        parts.bindings.changed(keyspace.ALL_BINDINGS_CHANGED)
        assert await parts.find(key) == row
    return [] if row is None else networks_of(row)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("postgresql", "redis"),
    [((0.0, 0.0), (0.0, 0.0)), ((0.3, 0.3), (0.0, 0.0)), ((0.0, 0.0), (0.3, 0.3))],
    ids=["sound stores", "postgresql fails now and then", "redis fails now and then"],
)
async def test_a_key_never_gets_two_owners(pg_dsn, redis_url, seed, postgresql, redis):
    """While at most one of the stores fails, nobody but the one owner is ever let through, on no gateway."""
    die = random.Random(seed)
    async with opened(pg_dsn, redis_url) as one, opened(pg_dsn, redis_url) as two:
        for number in range(25):
            key = identity(f"race {seed} {number}")
            for parts in (one, two):
                salt = f"{seed} {number} {id(parts) == id(one)}"
                parts.store.faults = Faults(salt, refuse=postgresql[0], lose=postgresql[1], pauses=20)
                parts.cache.faults = Faults(salt, refuse=redis[0], lose=redis[1], pauses=20)
            allowed = await play([one, two], key, die)
            owners = {tuple(networks_of(binding)) for binding in allowed}
            assert len(owners) <= 1, allowed
            owner = await settled_owner([one, two], key)
            assert not allowed or (tuple(owner) in owners), (owner, allowed)


@pytest.mark.parametrize("seed", range(3))
async def test_gateways_agree_on_one_owner_after_both_stores_failed_now_and_then(pg_dsn, redis_url, seed):
    die = random.Random(seed)
    async with opened(pg_dsn, redis_url) as one, opened(pg_dsn, redis_url) as two:
        for number in range(25):
            key = identity(f"chaos {seed} {number}")
            for parts in (one, two):
                salt = f"{seed} {number} {id(parts) == id(one)}"
                parts.store.faults = Faults(salt, refuse=0.3, lose=0.3, pauses=20)
                parts.cache.faults = Faults(salt, refuse=0.3, lose=0.3, pauses=20)
            allowed = await play([one, two], key, die)
            owner = await settled_owner([one, two], key)
            stored = {tuple(networks_of(binding)) for binding in allowed if binding.id}
            assert stored <= {tuple(owner)}, "what PostgreSQL said once holds"
            assert owner or not allowed, "an accepted first use is never lost"


async def test_first_uses_survive_gateways_that_die_at_any_moment(pg_dsn, redis_url):
    die = random.Random(7)
    async with opened(pg_dsn, redis_url) as steady:
        for number in range(15):
            key = identity(f"death {number}")
            faults = Faults(number, lose=0.2, pauses=20)
            async with opened(pg_dsn, redis_url, store_faults=faults) as dying:
                doomed = asyncio.ensure_future(request(dying, key, ALICE, taken=True))
                for _ in range(die.randint(0, 150)):
                    await asyncio.sleep(0)
                await dying.crash()
                doomed.cancel()
                (served,) = await asyncio.gather(doomed, return_exceptions=True)
            theirs = await request(steady, key, BOB, taken=True)
            if isinstance(served, Binding):
                assert theirs is None, "the first user had an answer"
            mine = await request(steady, key, ALICE, taken=True)
            assert theirs is None or mine is None


# --- one claim at a time ---------------------------------------------------------------------------------------------


async def test_while_a_claim_is_in_flight_other_addresses_are_turned_away_everywhere(one, two):
    claim = await one.claimed(KEY, ALICE)
    assert not claim.joined
    for parts in (one, two):
        outcome = await parts.claim(KEY, BOB)
        assert isinstance(outcome, ClaimedElsewhere)
        assert outcome.network.text == f"{ALICE}/32"
    bound = await claim.accept()
    assert networks_of(bound) == ALICES
    assert await two.claim(KEY, BOB) == bound


async def test_the_same_network_joins_a_claim_on_any_gateway(one, two):
    claim = await one.claimed(KEY, ALICE)
    here, there = await one.claimed(KEY, ALICE), await two.claimed(KEY, ALICE)
    assert (claim.joined, here.joined, there.joined) == (False, True, True)
    bound = await there.accept()
    assert await claim.accept() == await here.accept() == bound
    assert two.store.asked["claim"] == 1


async def test_releasing_lets_the_next_one_claim(one, two, redis):
    claim = await one.claimed(KEY, ALICE)
    await claim.release()
    await claim.release()
    assert await redis.get(keyspace.claim(KEY.fingerprint)) is None
    assert networks_of(await two.bind(KEY, BOB)) == BOBS


async def test_the_last_of_several_requests_releases(one, two):
    first, second = await one.claimed(KEY, ALICE), await one.claimed(KEY, ALICE)
    await first.release()
    assert isinstance(await two.claim(KEY, BOB), ClaimedElsewhere)
    await second.release()
    assert isinstance(await two.claim(KEY, BOB), Claim)


async def test_a_joined_claims_release_does_not_take_the_first_ones_reservation(one, two):
    await one.claimed(KEY, ALICE)
    await (await two.claimed(KEY, ALICE)).release()
    assert isinstance(await two.claim(KEY, BOB), ClaimedElsewhere)


async def test_releasing_after_accepting_changes_nothing(one, two):
    claim = await one.claimed(KEY, ALICE)
    bound = await claim.accept()
    await claim.release()
    assert await two.find(KEY) == bound


async def test_a_client_that_leaves_while_it_claims_holds_nothing(one, two, redis):
    one.cache.faults.pauses = 5
    claiming = asyncio.ensure_future(one.claim(KEY, ALICE))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    await eventually(lambda: "in flight=0" in repr(one.bindings))
    assert await redis.get(keyspace.claim(KEY.fingerprint)) is None
    assert isinstance(await two.claim(KEY, BOB), Claim)


async def test_a_client_that_leaves_while_it_is_accepted_is_bound_all_the_same(one, two):
    claim = await one.claimed(KEY, ALICE)
    with one.store.holding_answers():
        accepting = asyncio.ensure_future(claim.accept())
        await eventually(lambda: one.store.held == 1)
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await claim.release()
    found = await two.find(KEY)
    assert networks_of(found) == ALICES


# --- how long a reservation lives ------------------------------------------------------------------------------------


async def test_a_reservation_is_renewed_while_its_request_lives(pg_dsn, redis_url, redis):
    clock = FakeClock()
    name = keyspace.claim(KEY.fingerprint)
    async with opened(pg_dsn, redis_url, clock=clock) as one:
        claim = await one.claimed(KEY, ALICE)
        assert 0 < await redis.pttl(name) <= keyspace.CLAIM_TTL_S * 1000
        await redis.pexpire(name, 5_000)
        await one.tend()
        assert await redis.pttl(name) <= 5_000, "not yet due"
        clock.advance(RENEW_EVERY_S)
        await one.tend()
        assert await redis.pttl(name) > 5_000
        await claim.release()
        clock.advance(RENEW_EVERY_S)
        await one.tend()
        assert await redis.get(name) is None


async def test_a_reservation_that_redis_lost_is_put_back_unless_another_took_the_key(pg_dsn, redis_url, redis):
    clock = FakeClock()
    async with opened(pg_dsn, redis_url, clock=clock) as one, opened(pg_dsn, redis_url) as two:
        claim = await one.claimed(KEY, ALICE)
        await redis.flushall()
        clock.advance(RENEW_EVERY_S)
        await one.tend()
        assert isinstance(await two.claim(KEY, BOB), ClaimedElsewhere)
        await redis.flushall()
        theirs = await two.claimed(KEY, BOB)
        clock.advance(RENEW_EVERY_S)
        await one.tend()
        found = await reservation(one)
        assert found is not None
        assert found.network.text == f"{BOB}/32"
        assert await claim.accept() == await theirs.accept(), "whoever PostgreSQL heard first"


async def test_a_reservation_made_while_redis_was_away_arrives_later(pg_dsn, redis_url):
    clock = FakeClock()
    async with opened(pg_dsn, redis_url, clock=clock) as one, opened(pg_dsn, redis_url) as two:
        one.cache.faults.refuse = 1.0
        await one.claimed(KEY, ALICE)
        one.cache.faults.heal()
        clock.advance(RENEW_EVERY_S)
        await one.tend()
        assert isinstance(await two.claim(KEY, BOB), ClaimedElsewhere)


async def test_a_dead_gateways_reservation_runs_out(one, two, redis_url):
    await one.claimed(KEY, ALICE)
    await one.crash()
    assert isinstance(await two.claim(KEY, BOB), ClaimedElsewhere)
    with SyncRedis.from_url(redis_url) as redis:
        redis.pexpire(keyspace.claim(KEY.fingerprint), 1)
        await eventually(lambda: not redis.exists(keyspace.claim(KEY.fingerprint)))
    assert networks_of(await two.bind(KEY, BOB)) == BOBS
