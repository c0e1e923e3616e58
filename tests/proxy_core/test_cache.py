"""Redis for the data plane, against a real Valkey: what replaces what, what runs out, and what a hang costs."""

import asyncio
import contextlib

import pytest
from redis import Redis as SyncRedis
from redis.asyncio.client import PubSub

from proxy_core import keyspace
from proxy_core.cache import VERSION_DIGITS, Cache, Reservation, connect, decode_entry, encode_entry
from proxy_core.contracts import Binding, BindingStatus, BoundNetwork, Mode, Network, StoredSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.settings import Settings
from tests.support.binding_parts import identity
from tests.support.waiting import LIMIT_S, eventually

pytestmark = pytest.mark.anyio

FINGERPRINT = identity("a key").fingerprint
ENTRY, CLAIM = keyspace.binding(FINGERPRINT), keyspace.claim(FINGERPRINT)
HOME, AWAY = Network.parse("10.0.0.1/32"), Network.parse("2001:db8::/64")


def binding(version: int, **fields) -> Binding:
    whole = {"id": 7, "hint": "abcd…wxyz", "status": BindingStatus.ACTIVE, "networks": (BoundNetwork(HOME),)} | fields
    return Binding(fingerprint=FINGERPRINT, version=version, **whole)


class Ear:
    """A listener that remembers what it was told, in order."""

    def __init__(self) -> None:
        self.heard = []

    def channel_up(self) -> None:
        self.heard.append("up")

    def channel_down(self) -> None:
        self.heard.append("down")

    def changed(self, message: bytes) -> None:
        self.heard.append(message)


@pytest.fixture
async def cache(redis_url):
    client = connect(redis_url, timeout_s=5.0)
    yield Cache(client, timeout_s=5.0)
    await client.aclose()


@pytest.fixture
async def hasty(own_stores):
    """Over a Valkey of its own that the test pauses."""
    client = connect(own_stores.redis_url, timeout_s=1.0)
    yield Cache(client, timeout_s=1.0)
    own_stores.valkey.resume()
    await client.aclose()


# --- entries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept",
    [
        binding(1),
        binding(2**62, networks=(BoundNetwork(HOME, 12.5), BoundNetwork(AWAY)), mode=Mode.OBSERVE),
        binding(3, status=BindingStatus.BANNED, ban_expires_at=1e9, networks=()),
        None,
    ],
    ids=["plain", "every field", "banned", "unbound"],
)
async def test_an_entry_comes_back_as_it_was_put(cache, kept):
    await cache.fill(FINGERPRINT, kept)
    entry = await cache.get(FINGERPRINT)
    assert entry.binding == kept
    assert entry.value == encode_entry(kept)
    assert 0.0 <= entry.age_s < keyspace.UNBOUND_TTL_S


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"rubbish",
        b"0" * VERSION_DIGITS,
        b"0" * VERSION_DIGITS + b"\x81\xa2id",
        encode_entry(binding(1)).replace(b"10.0.0.1/32", b"10.0.0.1/99"),
        encode_entry(binding(1)).replace(FINGERPRINT, bytes(32)),
    ],
)
async def test_what_is_no_entry_of_this_key_is_dropped(cache, redis, value):
    await redis.set(ENTRY, value)
    with pytest.raises(StoreUnavailable):
        await cache.reserve(FINGERPRINT, Reservation(HOME, "0" * 16))
    assert await cache.get(FINGERPRINT) is None
    assert not await redis.exists(ENTRY)


async def test_a_fill_never_replaces_anything(cache):
    await cache.fill(FINGERPRINT, binding(1))
    await cache.fill(FINGERPRINT, binding(2))
    await cache.fill(FINGERPRINT, None)
    assert (await cache.get(FINGERPRINT)).binding == binding(1)


async def test_a_change_replaces_what_is_older_and_only_that(cache):
    for version in (9, 10, 10, 8):
        await cache.publish_change(FINGERPRINT, version, binding(version))
    assert (await cache.get(FINGERPRINT)).binding == binding(10)
    await cache.publish_change(FINGERPRINT, 9, None)
    assert (await cache.get(FINGERPRINT)).binding == binding(10)
    await cache.publish_change(FINGERPRINT, 11, None)
    assert (await cache.get(FINGERPRINT)).binding is None
    await cache.publish_change(FINGERPRINT, 10, binding(10))
    assert (await cache.get(FINGERPRINT)).binding is None


async def test_a_tombstone_keeps_fills_out_for_longer_than_any_read_lasts(cache, redis):
    await cache.publish_change(FINGERPRINT, 5, None)
    await cache.fill(FINGERPRINT, binding(4))
    assert (await cache.get(FINGERPRINT)).binding is None
    lifetime_s = await redis.pttl(ENTRY) / 1000
    longest = {name: Settings.model_fields[name].metadata for name in ("pg_timeout_ms", "redis_timeout_ms")}
    longest_read_s = sum(max(bound.le for bound in of if hasattr(bound, "le")) for of in longest.values()) / 1000
    assert lifetime_s > keyspace.TOMBSTONE_TTL_S - 5
    assert 2 * longest_read_s <= keyspace.TOMBSTONE_TTL_S


async def test_replacing_needs_the_entry_that_was_compared(cache):
    await cache.fill(FINGERPRINT, binding(1))
    old = (await cache.get(FINGERPRINT)).value
    await cache.publish_change(FINGERPRINT, 2, binding(2))
    await cache.replace(FINGERPRINT, old, binding(1, id=8))
    assert (await cache.get(FINGERPRINT)).binding == binding(2)
    await cache.replace(FINGERPRINT, encode_entry(binding(2)), None)
    assert (await cache.get(FINGERPRINT)).binding is None


# --- reservations ----------------------------------------------------------------------------------------------------


async def test_of_two_reservations_the_first_stands(cache):
    first, second = Reservation(HOME, "a" * 16), Reservation(AWAY, "b" * 16)
    assert await cache.reserve(FINGERPRINT, first) == first
    assert await cache.reserve(FINGERPRINT, second) == first
    await cache.drop(FINGERPRINT, second)
    assert await cache.reservation(FINGERPRINT) == first
    await cache.drop(FINGERPRINT, first)
    assert await cache.reserve(FINGERPRINT, second) == second


async def test_a_bound_key_cannot_be_reserved_and_an_unbound_one_can(cache):
    mine = Reservation(HOME, "a" * 16)
    await cache.fill(FINGERPRINT, None)
    assert await cache.reserve(FINGERPRINT, mine) == mine
    await cache.publish_change(FINGERPRINT, 1, binding(1))
    assert await cache.reserve(FINGERPRINT, mine) == binding(1)
    assert await cache.reservation(FINGERPRINT) is None


KEPT = [
    ("", "c1 home", "c1 home"),
    ("c1 home", "c1 home", "c1 home"),
    ("c2 home", "c1 home", "c2 home"),
    ("c2 away", "c1 home", "c2 away"),
    ("a2 away", "c1 home", "a2 away"),
    ("a2 home", "c1 home", "a2 home"),
    ("c1 home", "a1 home", "a1 home"),
    ("c2 home", "a1 home", "a1 home"),
    ("a2 home", "a1 home", "a1 home"),
    ("c2 away", "a1 home", "a1 home"),
    ("a2 away", "a1 home", "a2 away"),
]


@pytest.mark.parametrize(("there", "mine", "afterwards"), KEPT)
async def test_keeping_a_reservation(cache, redis, there, mine, afterwards):
    """c: claimed, a: accepted; the digit is the claimer. An acceptance outranks a claim, the first of two stands."""

    def read(text: str) -> Reservation:
        head, network = text.split()
        return Reservation({"home": HOME, "away": AWAY}[network], head[1] * 16, accepted=head[0] == "a")

    if there:
        await redis.set(CLAIM, read(there).encode(), px=1_000_000)
    assert await cache.keep([(FINGERPRINT, read(mine))]) == [read(afterwards)]
    assert await cache.reservation(FINGERPRINT) == read(afterwards)
    left_s = await redis.pttl(CLAIM) / 1000
    if afterwards == mine or there == "c2 home":
        assert left_s <= read(mine).ttl_s
        assert left_s > read(mine).ttl_s - 5
    else:
        assert 900 < left_s <= 1_000, "another's lifetime is its own business"


async def test_an_unreadable_reservation_is_a_failure_of_the_store(cache, redis):
    for value in (b"", b"\xff", b"c" + b"0" * 16 + b" nonsense"):
        await redis.set(CLAIM, value)
        with pytest.raises(StoreUnavailable):
            await cache.reservation(FINGERPRINT)


# --- settings --------------------------------------------------------------------------------------------------------


async def test_an_older_settings_snapshot_does_not_replace_a_newer_one(cache, redis):
    assert await cache.get_settings() is None
    for version in (2, 10, 9):
        await cache.publish_settings(StoredSettings(version, b'{"v": %d}' % version))
    assert await cache.get_settings() == StoredSettings(10, b'{"v": 10}')
    await redis.set(keyspace.SETTINGS, b"rubbish")
    with pytest.raises(StoreUnavailable):
        await cache.get_settings()


# --- the channel -----------------------------------------------------------------------------------------------------


async def test_followers_hear_of_every_change_even_of_a_late_one(cache):
    ear = Ear()
    following = asyncio.ensure_future(cache.follow(ear))
    await eventually(lambda: ear.heard == ["up"])
    await cache.publish_change(FINGERPRINT, 2, None)
    await cache.publish_change(FINGERPRINT, 1, binding(1))
    await cache.publish_settings(StoredSettings(1, b"{}"))
    message = keyspace.binding_changed(FINGERPRINT)
    await eventually(lambda: ear.heard == ["up", message, message, keyspace.SETTINGS_CHANGED])
    following.cancel()
    await asyncio.wait([following])
    assert ear.heard[-1] == "down"


async def test_a_follower_comes_back_after_its_connection_was_cut(cache, redis):
    ear = Ear()
    following = asyncio.ensure_future(cache.follow(ear, pause_s=0.01))
    for round_number in range(1, 4):
        await eventually(lambda number=round_number: ear.heard.count("up") == number)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
    await eventually(lambda: ear.heard.count("up") == 4)
    await redis.publish(keyspace.CHANGED_CHANNEL, b"hello")
    await eventually(lambda: ear.heard[-1] == b"hello")
    following.cancel()
    await asyncio.wait([following])


async def test_a_follower_notices_a_redis_that_hangs(own_stores, hasty):
    ear = Ear()
    following = asyncio.ensure_future(hasty.follow(ear, probe_s=0.5, pause_s=0.01))
    await eventually(lambda: ear.heard == ["up"])
    own_stores.valkey.pause()
    await eventually(lambda: ear.heard[-1] == "down")
    assert ear.heard.count("up") == 1
    own_stores.valkey.resume()
    await eventually(lambda: ear.heard[-1] == "up")
    following.cancel()
    await asyncio.wait([following])


async def test_a_quiet_channel_is_probed_and_stays_up(cache, redis_url, redis):
    ear = Ear()
    following = asyncio.ensure_future(cache.follow(ear, probe_s=0.5))
    await eventually(lambda: ear.heard == ["up"])
    with SyncRedis.from_url(redis_url) as watching:
        before = pings(watching)
        await eventually(lambda: pings(watching) >= before + 2)
    await redis.publish(keyspace.CHANGED_CHANNEL, b"hello")
    await eventually(lambda: ear.heard == ["up", b"hello"])
    following.cancel()
    await asyncio.wait([following])


def pings(redis: SyncRedis) -> int:
    return redis.info("commandstats").get("cmdstat_ping", {}).get("calls", 0)


async def test_a_follower_ends_even_if_its_cancellation_was_swallowed(cache, monkeypatch):
    """As redis-py does when it comes while a probe is being sent: `asyncio.wait_for` of Python 3.11."""
    probing = asyncio.Event()
    ping = PubSub.ping

    async def swallows(channel) -> None:
        await ping(channel)
        if not probing.is_set():
            probing.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    monkeypatch.setattr(PubSub, "ping", swallows)
    ear = Ear()
    following = asyncio.ensure_future(cache.follow(ear, probe_s=0.2))
    await probing.wait()
    following.cancel()
    done, _ = await asyncio.wait([following], timeout=LIMIT_S)
    assert done
    assert following.cancelled()
    assert ear.heard == ["up", "down"]


# --- time limits -----------------------------------------------------------------------------------------------------


async def test_no_call_outlasts_a_redis_that_hangs_and_no_answer_is_mixed_up_later(own_stores, hasty):
    other = identity("another").fingerprint
    await hasty.fill(FINGERPRINT, binding(1))
    own_stores.valkey.pause()
    outcomes = await asyncio.gather(*(hasty.get(FINGERPRINT) for _ in range(40)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert not hasty.available
    with pytest.raises(StoreUnavailable, match="redis"):
        await hasty.get(FINGERPRINT)
    own_stores.valkey.resume()
    hasty._circuit._next_try_at = 0.0
    await hasty.probe()
    assert hasty.available
    for _ in range(40):
        assert await hasty.get(other) is None
        assert (await hasty.get(FINGERPRINT)).binding == binding(1)


async def test_a_restarted_redis_is_used_again_scripts_included(own_stores, hasty):
    mine = Reservation(HOME, "a" * 16)
    assert await hasty.reserve(FINGERPRINT, mine) == mine
    own_stores.valkey.kill()
    with pytest.raises(StoreUnavailable):
        await hasty.reservation(FINGERPRINT)
    own_stores.valkey.start()
    hasty._circuit._next_try_at = 0.0
    assert await hasty.keep([(FINGERPRINT, mine)]) == [mine]
    assert await hasty.reserve(FINGERPRINT, Reservation(AWAY, "b" * 16)) == mine


async def test_made_while_redis_is_away(own_stores):
    own_stores.valkey.stop()
    client = connect(own_stores.redis_url, timeout_s=1.0)
    cache = Cache(client, timeout_s=1.0)
    with pytest.raises(StoreUnavailable):
        await cache.get(FINGERPRINT)
    own_stores.valkey.start()
    cache._circuit._next_try_at = 0.0
    assert await cache.get(FINGERPRINT) is None
    await client.aclose()


def test_an_entrys_version_can_be_compared_as_text():
    assert encode_entry(binding(9)) < encode_entry(binding(10))
    assert decode_entry(encode_entry(binding(9)), FINGERPRINT) == binding(9)
