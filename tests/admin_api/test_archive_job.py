"""The archive job: what nobody used leaves the table, whole and restorable; what is banned or in use stays."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import async_sessionmaker

from admin_api.database import make_engine
from admin_api.jobs import apply
from admin_api.jobs.archive import BATCH, Archive
from admin_api.jobs.postgres import Postgres
from admin_api.rooms import Newsroom
from proxy_core import keyspace
from proxy_core.cache import Cache, connect
from proxy_core.contracts import LiveSettings
from proxy_core.errors import StoreUnavailable
from proxy_core.tasks import Tasks
from tests.admin_api.batches import batch, touch
from tests.admin_api.binding_rows import audit_of, bind, bind_many, connected, entry_of, new_key

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
UNUSED = NOW - timedelta(days=91)
USED = NOW - timedelta(days=89)
HOME = "203.0.113.7/32"


class House:
    def __init__(self, pg, redis, postgres: Postgres, news: Newsroom, dsn: str) -> None:
        self.pg, self.redis, self.postgres, self.news, self.dsn = pg, redis, postgres, news, dsn

    def job(self, batch: int = BATCH, **initial) -> Archive:
        return Archive(self.redis, self.postgres, self.news, LiveSettings(**initial), batch=batch)

    async def run(self, **given) -> int:
        return await self.job(**given).run(NOW)

    async def left(self) -> set[int]:
        return {row["id"] for row in await self.pg.fetch("SELECT id FROM binding")}

    async def runs(self) -> list[dict]:
        rows = await self.pg.fetch("SELECT * FROM admin_audit WHERE action = 'archive:run' ORDER BY id")
        return [dict(row) | {"after": json.loads(row["after"])} for row in rows]

    async def use(self, binding_id: int, at: datetime = NOW, **given) -> None:
        """A gateway's news of a use, ingested."""
        await apply.apply_batches(self.pg, [batch(touch(binding_id, at.timestamp(), **given))])


@contextlib.asynccontextmanager
async def housed(dsn: str, redis_url: str):
    engine, tasks = make_engine(dsn, "test"), Tasks()
    cache = Cache(connect(redis_url, timeout_s=2.0), timeout_s=2.0)
    postgres = await Postgres.connect(dsn)
    try:
        async with connected(dsn) as pg, Redis.from_url(redis_url) as redis:
            yield House(pg, redis, postgres, Newsroom(async_sessionmaker(engine), cache, tasks), dsn)
    finally:
        await tasks.aclose()
        await postgres.aclose()
        await cache.aclose()
        await engine.dispose()


@pytest.fixture
async def house(pg_dsn, redis_url):
    async with housed(pg_dsn, redis_url) as one:
        yield one


async def test_what_nobody_used_for_so_long_is_archived_and_the_rest_is_not(house, redis_url):
    """With its networks; and gateways are told, so that the next use binds the key anew."""
    key = new_key()
    gone = await bind(house.pg, key, HOME, "2001:db8::/64", last_used_at=UNUSED, note="n", mode="observe")
    stays = await bind(house.pg, new_key(), last_used_at=USED)
    assert await house.run() == 1
    assert await house.left() == {stays}
    row = dict(await house.pg.fetchrow("SELECT * FROM binding_archive"))
    assert (row["binding_id"], row["cause"], row["archived_by"], row["note"], row["mode"]) == (
        gone, "unused", "system", "n", "observe",
    )  # fmt: skip
    assert [network["network"] for network in json.loads(row["networks"])] == [HOME, "2001:db8::/64"]
    assert await house.pg.fetchval("SELECT count(*) FROM binding_network") == 0
    assert await entry_of(redis_url, key) is None


async def test_the_stored_setting_decides_and_zero_means_never(house):
    await bind(house.pg, new_key(), last_used_at=UNUSED)
    assert await house.run(archive_days=0) == 0
    stored = "INSERT INTO runtime_setting (version, values, changed_by) VALUES ($1, $2, 'me')"
    await house.pg.execute(stored, 1, '{"archive_days": 0}')
    assert await house.run() == 0
    await house.pg.execute(stored, 2, '{"archive_days": 92}')
    assert await house.run() == 0
    await house.pg.execute(stored, 3, '{"archive_days": 90}')
    assert await house.run(archive_days=0) == 1


async def test_a_banned_key_stays_and_one_whose_ban_is_over_counts_from_its_end(house):
    banned = {"last_used_at": UNUSED, "status": "banned"}
    for_good = await bind(house.pg, new_key(), **banned)
    still = await bind(house.pg, new_key(), **banned, ban_expires_at=NOW + timedelta(days=1))
    free_lately = await bind(house.pg, new_key(), **banned, ban_expires_at=USED)
    await bind(house.pg, new_key(), **banned, ban_expires_at=UNUSED)
    assert await house.run() == 1
    assert await house.left() == {for_good, still, free_lately}


async def test_a_run_is_one_line_in_the_audit_with_its_count_however_many_batches_it_took(house):
    await bind_many(house.pg, 7, last_used_at=UNUSED)
    assert await house.run(batch=3) == 7
    assert await house.run(batch=3) == 0
    [run] = await house.runs()
    assert (run["actor_kind"], run["actor"], run["subject_kind"]) == ("system", "system", "archive")
    assert run["after"] == {
        "archived": 7,
        "archive_days": 90,
        "unused_since": (NOW - timedelta(days=90)).isoformat().replace("+00:00", "Z"),
    }


async def test_a_run_that_archived_something_is_an_alert(house):
    await bind_many(house.pg, 7, last_used_at=UNUSED)
    for _ in range(2):
        await house.run(batch=3)
    rows = await house.pg.fetch("SELECT kind, facts ->> 'archived' AS archived FROM alert")
    assert [tuple(row) for row in rows] == [("archive_run", "7")]


async def test_a_run_that_is_cut_short_has_archived_what_the_audit_says(house):
    await bind_many(house.pg, 5, last_used_at=UNUSED)
    job = house.job(batch=2)
    await job._take_and_tell(NOW)
    await job._take_and_tell(NOW)
    assert len(await house.left()) == 1
    assert [run["after"]["archived"] for run in await house.runs()] == [4]


async def test_several_runs_at_once_archive_each_binding_once(house):
    ids = set(await bind_many(house.pg, 60, last_used_at=UNUSED))
    archived = await asyncio.gather(*(house.run(batch=7) for _ in range(3)))
    # Each leaves what the others hold at the moment; the next run takes it.
    archived.append(await house.run())
    assert sum(archived) == 60
    rows = await house.pg.fetch("SELECT binding_id FROM binding_archive")
    assert sorted(row["binding_id"] for row in rows) == sorted(ids)
    assert sum(run["after"]["archived"] for run in await house.runs()) == 60


async def test_who_holds_a_binding_is_not_waited_for_and_what_he_made_of_it_counts(house):
    """Ingestion notes a use, an operator adds a note: the job goes on without these, and sees them later."""
    used, noted, idle = await bind_many(house.pg, 3, last_used_at=UNUSED)
    async with connected(house.dsn) as other, connected(house.dsn) as operator:
        async with other.transaction(), operator.transaction():
            await other.execute("UPDATE binding SET last_used_at = now() WHERE id = $1", used)
            await operator.execute("UPDATE binding SET note = 'kept' WHERE id = $1", noted)
            assert await house.run() == 1
            assert await house.left() == {used, noted}
        assert await house.run() == 1
        assert await house.left() == {used}
    assert await house.pg.fetchval("SELECT note FROM binding_archive WHERE binding_id = $1", noted) == "kept"
    assert idle not in await house.left()


async def test_while_ingestion_lags_nothing_is_archived(house):
    """A use of the key may be among what waits."""
    await bind(house.pg, new_key(), last_used_at=UNUSED)
    seconds, _ = await house.redis.time()
    late = await house.redis.xadd(keyspace.EVENTS_STREAM, {b"a": b"b"}, id=f"{seconds - 60}000-0")
    assert await house.run() == 0
    await house.redis.xdel(keyspace.EVENTS_STREAM, late)
    assert await house.run() == 1


async def test_without_redis_nothing_is_archived(own_stores):
    async with housed(own_stores.pg_dsn, own_stores.redis_url) as house:
        kept = await bind(house.pg, new_key(), last_used_at=UNUSED)
        own_stores.valkey.stop()
        with pytest.raises(StoreUnavailable):
            await house.run()
        assert await house.left() == {kept}


async def test_a_use_that_was_on_its_way_brings_its_binding_back(house):
    """As it was, with its networks, under its id; the use counts; the audit says why."""
    key = new_key()
    binding_id = await bind(house.pg, key, HOME, "2001:db8::/64", last_used_at=UNUSED, request_count=7, note="n")
    await house.run()
    await house.use(binding_id, NOW, requests=3, ip="203.0.113.7")
    row = await house.pg.fetchrow("SELECT note, request_count, last_used_at, host(last_ip) AS ip FROM binding")
    assert (row["note"], row["request_count"], row["ip"]) == ("n", 10, "203.0.113.7")
    assert row["last_used_at"] >= NOW
    networks = await house.pg.fetch("SELECT network::text FROM binding_network ORDER BY id")
    assert [row["network"] for row in networks] == [HOME, "2001:db8::/64"]
    [line] = await audit_of(house.pg, binding_id)
    assert (line["action"], line["actor"], line["reason"]) == (
        "binding:restore", "system", "was in use while it was archived",
    )  # fmt: skip
    await house.use(binding_id, NOW, requests=1)
    assert await house.pg.fetchval("SELECT request_count FROM binding") == 11
    assert await house.pg.fetchval("SELECT restored_at IS NOT NULL FROM binding_archive")
    assert await house.run() == 0


async def test_a_key_that_somebody_owns_by_now_is_not_given_back(house):
    key = new_key()
    binding_id = await bind(house.pg, key, HOME, last_used_at=UNUSED)
    await house.run()
    owner = await bind(house.pg, key, "198.51.100.9/32", last_used_at=NOW)
    await house.use(binding_id)
    assert await house.left() == {owner}
    networks = await house.pg.fetch("SELECT network::text FROM binding_network")
    assert [row["network"] for row in networks] == ["198.51.100.9/32"]
    assert await house.pg.fetchval("SELECT restored_at IS NULL FROM binding_archive")


async def test_only_a_later_use_than_the_one_that_was_known_brings_back_and_nothing_that_was_unbound(house):
    """A use before the last known one says nothing new; who unbound a key wanted it to be free."""
    stale, unbound, back = await bind_many(house.pg, 3, last_used_at=UNUSED)
    await house.run()
    await house.pg.execute("UPDATE binding_archive SET cause = 'unbound' WHERE binding_id = $1", unbound)
    uses = batch(touch(stale, (UNUSED - timedelta(hours=1)).timestamp()), *(touch(id_) for id_ in (unbound, back)))
    await apply.apply_batches(house.pg, [uses])
    assert await house.left() == {back}


async def test_a_use_and_the_archive_at_the_same_moment_leave_the_binding_there(house):
    """Whoever comes first: ingestion waits for the row that is being archived, and finds it in the archive."""
    ids = await bind_many(house.pg, 20, last_used_at=UNUSED)
    async with connected(house.dsn) as other:
        uses = [batch(touch(id_)) for id_ in ids]
        await asyncio.gather(house.run(batch=1), apply.apply_batches(other, uses))
    assert await house.left() == set(ids)
    assert await house.pg.fetchval("SELECT min(request_count) FROM binding") == 1


async def test_what_was_archived_for_want_of_use_is_restored_through_the_api(api, admin_dsn, redis_url):
    key = new_key()
    async with housed(admin_dsn, redis_url) as house:
        binding_id = await bind(house.pg, key, HOME, last_used_at=UNUSED)
        assert await house.run() == 1
    [item] = (await api.get("/archive")).json()["items"]
    assert (item["binding_id"], item["cause"], item["archived_by"]) == (binding_id, "unused", "system")
    [run] = (await api.get("/audit", params={"action": "archive:run"})).json()["items"]
    assert run["after"]["archived"] == 1
    answer = await api.post("/archive/restore", json={"ids": [item["id"]], "reason": "mistake"})
    assert [result["outcome"] for result in answer.json()["results"]] == ["done"]
    found = (await api.get(f"/bindings/{binding_id}")).json()
    assert [network["network"] for network in found["networks"]] == [HOME]
    assert (await entry_of(redis_url, key)).id == binding_id
    async with housed(admin_dsn, redis_url) as house:
        assert await house.run() == 0
