"""The outbox over a real Valkey: a batch is kept until it is known to be applied, and sent again when in doubt."""

import pytest
from redis.asyncio import Redis

from proxy_core.outbox import Outbox, OutboxLimits
from proxy_core.spool import SpoolUnavailable
from tests.support.clocks import FakeClock
from tests.support.event_parts import Ingestion, parcel

pytestmark = pytest.mark.anyio

LIMITS = OutboxLimits(send_timeout_s=1.0, spool_max_bytes=10_000, unconfirmed_max_bytes=1_000)
A_WHILE_S = 60.0


class Rig:
    """One outbox with a clock that the test moves; ``away`` makes its Redis unreachable."""

    def __init__(self, redis_url: str, folder, limits: OutboxLimits = LIMITS, name: str = "one") -> None:
        self.clock = FakeClock()
        self.redis = Redis.from_url(redis_url)
        self.nowhere = Redis.from_url(f"unix://{folder}/nobody.sock")
        self.outbox = Outbox(self.redis, folder, name, limits, clock=self.clock)

    def away(self) -> None:
        self.outbox._redis = self.nowhere

    def back(self) -> None:
        self.outbox._redis = self.redis
        self.clock.advance(A_WHILE_S)

    async def deliver(self, *names: str, durable: bool = True, size: int = 0) -> None:
        await self.outbox.deliver([parcel(name, durable=durable, size=size) for name in names])

    async def tend(self) -> None:
        self.clock.advance(A_WHILE_S)
        await self.outbox.tend()

    async def close(self) -> None:
        for spool in self.outbox._spools():
            spool.close()
        await self.redis.aclose()
        await self.nowhere.aclose()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
async def rig(redis_url, folder):
    made = Rig(redis_url, folder)
    made.outbox.open()
    yield made
    await made.close()


async def test_a_batch_is_forgotten_when_it_is_applied_and_not_before(rig, ingestion):
    await rig.deliver("a", "b")
    assert ingestion.names() == ["a", "b"]
    await rig.tend()
    assert rig.outbox.unconfirmed == 2
    assert ingestion.names() == ["a", "b"], "waiting in the stream is no reason to send again"
    ingestion.apply()
    await rig.tend()
    assert rig.outbox.unconfirmed == 0
    assert rig.outbox.spooled_bytes == 0
    assert rig.outbox._unconfirmed_bytes == 0


async def test_what_redis_lost_is_sent_again_under_the_same_identity(rig, ingestion):
    await rig.deliver("a", "b")
    await rig.deliver("touch", durable=False)
    ingestion.lose_everything()
    await rig.tend()
    assert sorted(ingestion.names()) == ["a", "b", "touch"]
    ingestion.apply()
    await rig.tend()
    assert rig.outbox.unconfirmed == 0


async def test_while_redis_is_away_intercepts_wait_on_disk_and_touches_in_memory(rig, ingestion, folder):
    rig.away()
    await rig.deliver("a")
    await rig.deliver("touch", durable=False)
    assert not rig.outbox.redis_reached
    assert rig.outbox.spooled_bytes > 0
    assert rig.outbox.touches_on_their_way
    assert b"touch" not in b"".join(path.read_bytes() for path in folder.iterdir())
    rig.back()
    await rig.deliver("b")
    await rig.tend()
    assert rig.outbox.redis_reached
    assert [name for name in ingestion.names() if name != "touch"] == ["a", "b"], "in order, also past what came later"
    assert "touch" in ingestion.names()
    ingestion.apply()
    await rig.tend()
    await rig.tend()
    assert rig.outbox.unconfirmed == rig.outbox.spooled_bytes == rig.outbox.dropped == 0
    assert all(path.stat().st_size == 0 for path in folder.iterdir())


async def test_a_spool_is_kept_until_what_was_replayed_is_applied(rig, ingestion, folder):
    rig.away()
    await rig.deliver("a", "b")
    rig.back()
    await rig.tend()
    ingestion.lose_everything()
    assert all(path.stat().st_size > 0 for path in folder.iterdir())
    await rig.tend()
    assert ingestion.names() == ["a", "b"]


async def test_while_nothing_is_ingested_only_so_much_waits_in_redis(rig, ingestion):
    for number in range(10):
        await rig.deliver(f"batch {number}", size=300)
    assert ingestion.names() == ["batch 0", "batch 1", "batch 2"]
    for _ in range(10):
        await rig.tend()
        assert rig.outbox._unconfirmed_bytes <= LIMITS.unconfirmed_max_bytes + 10_000
        if not ingestion.apply():
            break
    await rig.tend()
    assert rig.outbox.unconfirmed == rig.outbox.spooled_bytes == 0
    assert rig.outbox.dropped == 0


async def test_a_full_spool_drops_and_counts_and_keeps_what_it_has(rig, ingestion):
    rig.away()
    for number in range(30):
        await rig.deliver(f"batch {number}", size=1_000)
    kept = 10_000 // (1_000 + 16 + 8)
    assert rig.outbox.dropped == 30 - kept
    rig.back()
    seen = []
    for _ in range(kept + 2):
        await rig.tend()
        seen += ingestion.names()
        ingestion.apply()
    assert seen == [f"batch {number}" for number in range(kept)]


async def test_without_a_spool_what_redis_does_not_take_is_dropped_and_counted(redis_url, folder, ingestion):
    rig = Rig(redis_url, folder, OutboxLimits(spool_max_bytes=0))
    rig.outbox.open()
    rig.away()
    await rig.deliver("a", "b")
    assert rig.outbox.dropped == 2
    assert not folder.exists()
    rig.back()
    await rig.deliver("c")
    assert ingestion.names() == ["c"]
    await rig.close()


async def test_a_redis_that_failed_is_left_alone_for_a_while(rig, ingestion):
    rig.away()
    await rig.deliver("a")
    rig.outbox._redis = rig.redis
    await rig.outbox.tend()
    assert ingestion.names() == []
    rig.clock.advance(LIMITS.backoff_max_s)
    await rig.outbox.tend()
    assert ingestion.names() == ["a"]


async def test_a_redis_that_hangs_costs_one_time_limit(own_stores, folder):
    rig = Rig(own_stores.redis_url, folder)
    rig.outbox.open()
    await rig.deliver("a")
    own_stores.valkey.pause()
    await rig.deliver("b", "c")
    assert rig.outbox.spooled_bytes > 0
    own_stores.valkey.resume()
    await rig.tend()
    ingestion = Ingestion(own_stores.redis_url)
    assert list(dict.fromkeys(ingestion.names())) == ["a", "b", "c"], "each at least once, in order"
    ingestion.close()
    await rig.close()


async def test_a_full_redis_refuses_events_and_none_is_lost(rig, ingestion):
    await rig.redis.config_set("maxmemory", "1")
    try:
        await rig.deliver("a", "b")
        assert not rig.outbox.redis_reached
        assert rig.outbox.spooled_bytes > 0
    finally:
        await rig.redis.config_set("maxmemory", "0")
    await rig.tend()
    assert ingestion.names() == ["a", "b"]


async def test_a_dead_processs_spool_is_replayed_before_our_own(rig, redis_url, folder, ingestion):
    dead = Rig(redis_url, folder, name="dead")
    dead.outbox.open()
    dead.away()
    await dead.deliver("old 1", "old 2")
    await dead.close()
    rig.away()
    await rig.deliver("new")
    rig.back()
    await rig.tend()
    assert ingestion.names() == ["old 1", "old 2", "new"]
    ingestion.apply()
    await rig.tend()
    await rig.tend()
    assert [path.stem for path in folder.iterdir()] == ["one"]


async def test_closing_leaves_the_unconfirmed_for_the_next_process(rig, redis_url, folder, ingestion):
    await rig.deliver("a")
    await rig.deliver("touch", durable=False)
    ingestion.lose_everything()
    rig.away()
    await rig.outbox.tend()
    await rig.deliver("b")
    await rig.outbox.aclose(0.0)
    following = Rig(redis_url, folder, name="two")
    following.outbox.open()
    await following.tend()
    assert sorted(ingestion.names()) == ["a", "b", "touch"]
    await following.close()


async def test_closing_with_everything_applied_leaves_no_file(rig, folder, ingestion):
    await rig.deliver("a")
    ingestion.apply()
    await rig.outbox.aclose(5.0)
    assert list(folder.iterdir()) == []


async def test_a_folder_that_cannot_be_used_is_refused_at_the_start(redis_url, tmp_path):
    (tmp_path / "spool").write_text("in the way")
    rig = Rig(redis_url, tmp_path / "spool")
    with pytest.raises(SpoolUnavailable):
        rig.outbox.open()
    await rig.close()
