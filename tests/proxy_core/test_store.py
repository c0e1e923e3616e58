"""PostgreSQL for the data plane: each statement on the migrated schema, and what happens when the server hangs."""

import asyncio
from datetime import UTC, datetime

import pytest

from proxy_core.contracts import Binding, BindingStatus, BoundNetwork, Mode, Network, StoredSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.store import Store
from tests.support.binding_parts import identity
from tests.support.waiting import LIMIT_S, eventually

pytestmark = pytest.mark.anyio

KEY = identity("a key")
HOME, AWAY, THIRD = Network.parse("10.0.0.1/32"), Network.parse("2001:db8::/64"), Network.parse("10.9.0.0/16")
NOW = 1_800_000_000.0


@pytest.fixture
async def store(pg_dsn):
    made = await Store.connect(pg_dsn, timeout_s=5.0)
    yield made
    await made.aclose()


@pytest.fixture
async def hasty(own_stores):
    """Over a PostgreSQL of its own that the test pauses."""
    made = await Store.connect(own_stores.pg_dsn, timeout_s=1.0, max_connections=2)
    yield made
    own_stores.postgres.resume()
    await made.aclose()


async def asked_again(store: Store, question):
    """Once the pause that follows a failure is over."""
    store._circuit._next_try_at = 0.0
    return await question


def networks(binding: Binding) -> list[Network]:
    return [bound.network for bound in binding.networks]


# --- the statements --------------------------------------------------------------------------------------------------


async def test_a_claim_makes_the_binding_that_is_found_afterwards(store, pg):
    assert await store.find(KEY.fingerprint) is None
    claimed = await store.claim(KEY, HOME, NOW)
    assert claimed == Binding(
        claimed.id, KEY.fingerprint, KEY.hint, BindingStatus.ACTIVE, (BoundNetwork(HOME),), claimed.version
    )
    assert await store.find(KEY.fingerprint) == claimed
    row = await pg.fetchrow("SELECT first_used_at, last_used_at, source, created_at FROM binding, binding_network")
    assert set(row.values()) == {datetime.fromtimestamp(NOW, UTC), "first_use"}


async def test_a_second_claim_returns_the_first_ones_binding(store):
    first = await store.claim(KEY, HOME, NOW)
    assert await store.claim(KEY, AWAY, NOW) == first
    assert await store.claim(KEY, HOME, NOW) == first


async def test_of_racing_claims_one_wins_and_all_are_told_the_same(store):
    for number in range(20):
        key = identity(f"race {number}")
        answers = await asyncio.gather(
            *(store.claim(key, Network.parse(f"10.0.0.{client}/32"), NOW) for client in range(8))
        )
        assert len({(answer.id, networks(answer)[0].text) for answer in answers}) == 1
    assert store.bound == 20


async def test_everything_that_a_binding_shows_is_read(store, pg):
    await store.claim(KEY, HOME, NOW)
    await pg.execute(
        "UPDATE binding SET status = 'banned', ban_expires_at = to_timestamp($1), mode = 'observe'", NOW + 0.5
    )
    await pg.execute(
        "INSERT INTO binding_network (binding_id, network, source, expires_at)"
        " SELECT id, '2001:db8::/64', 'operator', to_timestamp($1) FROM binding",
        NOW + 60,
    )
    found = await store.find(KEY.fingerprint)
    assert (found.status, found.mode, found.ban_expires_at) == (BindingStatus.BANNED, Mode.OBSERVE, NOW + 0.5)
    assert found.networks == (BoundNetwork(HOME), BoundNetwork(AWAY, NOW + 60))


async def test_a_binding_without_networks_is_a_binding(store, pg):
    await store.claim(KEY, HOME, NOW)
    await pg.execute("DELETE FROM binding_network")
    found = await store.find(KEY.fingerprint)
    assert found.networks == ()
    assert await store.claim(KEY, AWAY, NOW) == found


async def test_learning_draws_a_higher_version_only_when_it_adds(store):
    bound = await store.claim(KEY, HOME, NOW)
    learned = await store.learn(bound, AWAY, 2, NOW)
    assert networks(learned) == [HOME, AWAY]
    assert learned.version > bound.version
    assert await store.learn(learned, AWAY, 3, NOW) == learned, "known already"
    assert await store.learn(learned, THIRD, 2, NOW) == learned, "no room"


async def test_networks_that_expired_leave_room_and_may_be_learned_again(store, pg):
    bound = await store.claim(KEY, HOME, NOW)
    await store.learn(bound, AWAY, 2, NOW)
    await pg.execute("UPDATE binding_network SET expires_at = to_timestamp($1) WHERE source = 'learned'", NOW + 10)
    assert networks(await store.learn(bound, THIRD, 2, NOW + 9)) == [HOME, AWAY]
    again = await store.learn(bound, AWAY, 2, NOW + 10)
    assert again.networks == (BoundNetwork(HOME), BoundNetwork(AWAY))


async def test_nothing_is_learned_for_a_row_that_is_another_or_gone(store, pg):
    bound = await store.claim(KEY, HOME, NOW)
    await pg.execute("DELETE FROM binding")
    assert await store.learn(bound, AWAY, 5, NOW) is None
    successor = await store.claim(KEY, THIRD, NOW)
    assert await store.learn(bound, AWAY, 5, NOW) == successor
    assert successor.version > bound.version


async def test_the_latest_settings_are_loaded(store, pg):
    assert await store.load_settings() is None
    for version, mode in ((1, "enforce"), (2, "observe")):
        await pg.execute(
            'INSERT INTO runtime_setting (version, "values", changed_by) VALUES ($1, $2, $3)',
            version,
            f'{{"mode": "{mode}"}}',
            "somebody",
        )
    assert await store.load_settings() == StoredSettings(2, b'{"mode": "observe"}')


# --- failures --------------------------------------------------------------------------------------------------------


async def test_no_call_outlasts_a_postgresql_that_hangs_and_it_is_used_again_afterwards(own_stores, hasty):
    """With idle connections, without, and with more callers than connections."""
    bound = await hasty.claim(KEY, HOME, NOW)
    own_stores.postgres.pause()
    asking = [asyncio.ensure_future(hasty.find(KEY.fingerprint)) for _ in range(5)]
    done, pending = await asyncio.wait(asking, timeout=LIMIT_S)
    assert not pending
    assert {type(asked.exception()) for asked in done} == {StoreUnavailable}
    assert not hasty.available
    with pytest.raises(StoreUnavailable):
        await asked_again(hasty, hasty.find(KEY.fingerprint))
    with pytest.raises(StoreUnavailable):
        await asked_again(hasty, hasty.learn(bound, AWAY, 2, NOW))
    own_stores.postgres.resume()
    assert await asked_again(hasty, hasty.find(KEY.fingerprint)) == bound
    assert hasty.available
    answers = await asyncio.gather(*(hasty.find(KEY.fingerprint) for _ in range(10)))
    assert answers == [bound] * 10
    assert hasty._pool.get_size() <= 2


async def test_a_failing_store_is_not_asked_again_at_once(own_stores, hasty):
    own_stores.postgres.stop()
    with pytest.raises(StoreUnavailable, match="postgresql"):
        await hasty.probe()
    own_stores.postgres.start()
    with pytest.raises(StoreUnavailable):
        await hasty.probe()
    await asked_again(hasty, hasty.probe())


async def test_connections_that_a_restart_cut_are_replaced(own_stores, hasty):
    bound = await hasty.claim(KEY, HOME, NOW)
    own_stores.postgres.stop()
    own_stores.postgres.start()
    await eventually(lambda: hasty._pool.get_size() == 0)
    assert await asked_again(hasty, hasty.find(KEY.fingerprint)) == bound


async def test_made_while_postgresql_is_away(own_stores):
    own_stores.postgres.stop()
    store = await Store.connect(own_stores.pg_dsn, timeout_s=5.0)
    with pytest.raises(StoreUnavailable):
        await store.find(KEY.fingerprint)
    own_stores.postgres.start()
    assert await asked_again(store, store.find(KEY.fingerprint)) is None
    await store.aclose()


async def test_a_caller_that_leaves_does_not_keep_its_connection(pg_dsn, pg):
    """Its statement may go on in the server, but the next caller gets a connection."""
    store = await Store.connect(pg_dsn, timeout_s=5.0, max_connections=1)
    bound = await store.claim(KEY, HOME, NOW)
    async with pg.transaction():
        await pg.execute("SELECT FROM binding FOR UPDATE")
        waiting = asyncio.ensure_future(store.learn(bound, AWAY, 2, NOW))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await store.find(KEY.fingerprint) == bound
    assert store.available
    await store.aclose()


async def test_a_refused_statement_names_no_value(store, pg, caplog):
    await pg.execute("ALTER TABLE binding ADD CHECK (key_hint <> 'abcd…wxyz')")
    with pytest.raises(StoreUnavailable) as failure:
        await store.claim(KEY, HOME, NOW)
    assert str(failure.value) == "postgresql: CheckViolationError"
    assert KEY.hint not in caplog.text


async def test_closing_does_not_wait_for_a_server_that_hangs(own_stores, hasty):
    await hasty.probe()
    own_stores.postgres.pause()
    asking = asyncio.ensure_future(hasty.find(KEY.fingerprint))
    await asyncio.sleep(0)
    await hasty.aclose()
    await hasty.aclose()
    with pytest.raises(StoreUnavailable):
        await asking
