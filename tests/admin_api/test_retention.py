"""Retention: months whose time is over leave the log, and nobody who reads or writes it notices."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from admin_api.jobs import apply, retention
from admin_api.jobs.postgres import Postgres
from admin_api.jobs.retention import Retention, first_kept
from proxy_core.contracts import LiveSettings
from tests.admin_api.batches import batch, intercept
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
LIVE = LiveSettings(log_retention_days=60)
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock')"


def months_ago(count: int) -> datetime:
    """The middle of that month."""
    at = NOW.replace(day=15)
    for _ in range(count):
        at = (at.replace(day=1) - timedelta(days=1)).replace(day=15)
    return at


def partition(at: datetime) -> str:
    return f"intercept_{at:%Y_%m}"


class Log:
    def __init__(self, pg, postgres: Postgres, dsn: str) -> None:
        self.pg, self.postgres, self.dsn = pg, postgres, dsn

    async def fill(self, months: int, rows: int = 3) -> None:
        """Rows in each of the last months, which have partitions."""
        await self.pg.execute("SELECT intercept_ensure_partitions($1, $2)", months_ago(months), months)
        for back in range(months + 1):
            await self.add(months_ago(back), rows)

    async def add(self, at: datetime, rows: int = 1) -> None:
        await self.pg.execute(
            "INSERT INTO intercept (event_id, at, key_hash, key_hint, client, reason, enforced, method, path,"
            " user_agent, gateway) SELECT sha256(($1 || n)::bytea), $2, 'k', 'k', '10.0.0.1', 'key_banned', true,"
            " 'GET', '/', '', 'g' FROM generate_series(1, $3::integer) n",
            os.urandom(8).hex(), at, rows,
        )  # fmt: skip

    def job(self, live: LiveSettings = LIVE, *, tries: int = 3) -> Retention:
        return Retention(self.postgres, live, tries=tries, pause_s=0.01)

    async def months(self) -> list[str]:
        rows = await self.pg.fetch(
            "SELECT DISTINCT to_char(at AT TIME ZONE 'UTC', 'YYYY_MM') FROM intercept ORDER BY 1"
        )
        return [f"intercept_{row[0]}" for row in rows]

    async def partitions(self) -> set[str]:
        rows = await self.pg.fetch(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'intercept'::regclass"
        )
        return {row[0] for row in rows}


async def log_of(dsn: str):
    pg = await asyncpg.connect(dsn)
    postgres = await Postgres.connect(dsn)
    yield Log(pg, postgres, dsn)
    await postgres.aclose()
    await pg.close()


@pytest.fixture
async def log(pg_dsn):
    async for one in log_of(pg_dsn):
        yield one


@pytest.fixture
async def shown(admin_dsn):
    """The log that the API reads; afterwards its partitions are those that it had."""
    async for one in log_of(admin_dsn):
        yield one
        for name in await one.partitions() - {"intercept_default"}:
            if name < partition(NOW):
                await one.pg.execute(f"DROP TABLE {name}")


def test_a_month_is_kept_while_any_of_its_days_is():
    assert first_kept(datetime(2030, 5, 31, 12, tzinfo=UTC), 30) == datetime(2030, 5, 1, tzinfo=UTC)
    assert first_kept(datetime(2030, 5, 30, 12, tzinfo=UTC), 30) == datetime(2030, 4, 1, tzinfo=UTC)
    assert first_kept(datetime(2030, 1, 1, tzinfo=UTC), 1) == datetime(2029, 12, 1, tzinfo=UTC)


async def test_months_that_are_over_for_longer_than_the_retention_are_dropped_and_the_others_kept(log):
    await log.fill(6)
    kept_from = first_kept(NOW, 60)
    expected = [partition(months_ago(back)) for back in range(6, -1, -1) if months_ago(back) >= kept_from]
    dropped = await log.job().run(NOW)
    assert dropped == [partition(months_ago(back)) for back in range(6, 0, -1) if months_ago(back) < kept_from]
    assert len(dropped) >= 3
    assert await log.months() == expected
    assert not await log.partitions() & set(dropped)
    assert await log.job().run(NOW) == []


async def test_the_stored_setting_decides_and_zero_keeps_everything(log):
    await log.fill(6)
    before = await log.months()
    assert await log.job(LiveSettings(log_retention_days=0)).run(NOW) == []
    stored = "INSERT INTO runtime_setting (version, values, changed_by) VALUES ($1, $2, 'me')"
    await log.pg.execute(stored, 1, '{"log_retention_days": 0}')
    assert await log.job().run(NOW) == []
    assert await log.months() == before
    await log.pg.execute(stored, 2, '{"log_retention_days": 60}')
    assert len(await log.job(LiveSettings(log_retention_days=0)).run(NOW)) >= 3


async def test_rows_without_a_partition_of_their_own_leave_by_the_same_rule(log, monkeypatch):
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    old, kept = months_ago(12), months_ago(2)
    await log.add(old, 5)
    await log.add(kept, 2)
    await log.add(NOW + timedelta(days=400))
    await log.job().run(NOW)
    assert await log.months() == [partition(kept), partition(NOW + timedelta(days=400))]


async def test_several_runs_at_once_drop_everything_once_and_none_fails(log):
    """However they share it: one may be done before another has looked."""
    await log.fill(8)
    await log.add(months_ago(20), 50)
    over = {month for month in await log.partitions() if month < partition(first_kept(NOW, 60))}
    runs = await asyncio.gather(*(log.job(tries=50).run(NOW) for _ in range(3)))
    assert sorted(month for months in runs for month in months) == sorted(over)
    assert not over & await log.partitions()
    assert min(await log.months()) >= partition(first_kept(NOW, 60))


async def test_while_the_log_is_read_the_whole_time_nothing_is_dropped_and_nobody_waits_for_it(log):
    """Such as by an export: other readers and ingestion get in between the tries, and the month leaves afterwards."""
    await log.fill(6)
    before = await log.months()
    reader, writer = await asyncpg.connect(log.dsn), await asyncpg.connect(log.dsn)
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM intercept")
        run = asyncio.create_task(log.job(tries=2).run(NOW))
        await eventually_async(lambda: log.pg.fetchval(WAITS))
        await apply.apply_batches(writer, [batch(intercept())])
        assert await log.pg.fetchval("SELECT count(*) FROM intercept") > 0
        assert await run == []
        assert await log.months() == before
    assert len(await log.job().run(NOW)) >= 3
    await reader.close()
    await writer.close()


async def test_reading_the_log_through_the_api_while_months_are_dropped_is_never_a_fault(api, shown):
    """Pages, a page behind a cursor, an export, and ingestion: all of them at once with the dropping."""
    for _ in range(4):
        await shown.fill(8, rows=30)
        cursor = (await api.get("/logs", params={"limit": 50})).json()["next"]
        over = asyncio.Event()
        answered: list[int] = []
        asked = ({}, {"cursor": cursor}, {"hint": "k"})
        readers = [asyncio.create_task(read(api, "/logs", over, answered, **each)) for each in asked]
        readers.append(asyncio.create_task(read(api, "/logs/export", over, answered)))
        writer = asyncio.create_task(write(shown.dsn, over))
        await eventually(lambda: len(answered) >= 8)  # noqa: B023 - awaited within the round
        dropped = await Retention(shown.postgres, LIVE, tries=200, pause_s=0.02).run(NOW)
        over.set()
        await asyncio.gather(*readers, writer)
        assert set(answered) == {200}
        assert len(dropped) >= 5
    assert min(await shown.months()) >= partition(first_kept(NOW, 60))


async def read(api, path: str, over: asyncio.Event, answered: list[int], **asking) -> None:
    while not over.is_set():
        answered.append((await api.get(path, params=asking)).status_code)


async def write(dsn: str, over: asyncio.Event) -> None:
    connection = await asyncpg.connect(dsn)
    while not over.is_set():
        await apply.apply_batches(connection, [batch(intercept(fingerprint=os.urandom(32)))])
    await connection.close()
