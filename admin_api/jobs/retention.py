"""Retention of the intercept log: whole months leave when all of them is older than ``log_retention_days``.

Where it stands in the walk: `schedule` runs it every hour; `partitions` made the months.

How a month leaves. Detaching it without locking the table (``CONCURRENTLY``) is not possible beside a default
partition, so it takes the table for itself for the moment in which the month is dropped. Waiting for that moment would
hold up everybody who comes after, so it waits for `LOCK_WAIT_MS` only, and then leaves the queue and lets all pass
before it tries again. A long export reads the whole table under one lock: as long as it runs nothing is dropped, and
after `TRIES` the next hour will do. The table is locked before the month, in the order in which readers and ingestion
lock them; whoever waited for it plans anew without the month and notices nothing.

Rows of `intercept_default` (what came when there was no partition) are deleted by the same rule, a few at a time.
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from admin_api.jobs import live
from admin_api.jobs.postgres import Connection, Postgres
from proxy_core.contracts import LiveSettings

log = structlog.get_logger(__name__)

LOCK_WAIT_MS = 200
TRIES = 10
PAUSE_S = 2.0
ROWS_AT_ONCE = 5_000
LIMIT_S = 30.0

_MONTHS_SQL = """
SELECT c.relname FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
WHERE p.inhparent = 'intercept'::regclass ORDER BY 1
"""
_NAME = re.compile(r"intercept_(\d{4})_(\d{2})")

_DEFAULT_SQL = """
DELETE FROM intercept_default WHERE (event_id, at) IN (
    SELECT event_id, at FROM intercept_default WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""


class Retention:
    """One run."""

    def __init__(
        self, postgres: Postgres, initial: LiveSettings, *, tries: int = TRIES, pause_s: float = PAUSE_S
    ) -> None:
        self._postgres = postgres
        self._initial = initial
        self._tries = tries
        self._pause_s = pause_s

    async def run(self, now: datetime) -> list[str]:
        """The months that were dropped. Raises `postgres.FAILURES`, MsgspecError for unreadable live settings."""
        settings = await self._postgres.run(
            lambda connection: live.settings(connection, self._initial), limit_s=LIMIT_S
        )
        if not settings.log_retention_days:
            return []
        keep_from = first_kept(now, settings.log_retention_days)
        dropped = [month for month in await self._months(keep_from) if await self._drop(month)]
        if dropped:
            log.info("months of the intercept log dropped", months=dropped, kept_from=keep_from.isoformat())
        await self._delete_from_default(keep_from)
        return dropped

    async def _months(self, keep_from: datetime) -> list[str]:
        names = await self._postgres.run(lambda connection: connection.fetch(_MONTHS_SQL), limit_s=LIMIT_S)
        return [row["relname"] for row in names if _ends_by(row["relname"], keep_from)]

    async def _drop(self, month: str) -> bool:
        """False: it is read all the time, or another run was faster."""

        async def work(connection: Connection) -> bool:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
                await connection.execute("LOCK TABLE intercept IN ACCESS EXCLUSIVE MODE")
                if await connection.fetchval("SELECT to_regclass($1)", month) is None:
                    return False
                await connection.execute(f"DROP TABLE {month}")
                return True

        for tried in range(1, self._tries + 1):
            try:
                return await self._postgres.run(work, limit_s=LIMIT_S)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                if tried < self._tries:
                    await asyncio.sleep(self._pause_s)
        log.warning("a month of the intercept log is not dropped while it is read, trying again later", month=month)
        return False

    async def _delete_from_default(self, keep_from: datetime) -> None:
        async def work(connection: Connection) -> str:
            status: str = await connection.execute(_DEFAULT_SQL, keep_from, ROWS_AT_ONCE)
            return status

        while await self._postgres.run(work, limit_s=LIMIT_S) == f"DELETE {ROWS_AT_ONCE}":
            pass


def first_kept(now: datetime, days: int) -> datetime:
    """The beginning of the month (UTC) in which the retention begins."""
    at = now.astimezone(UTC) - timedelta(days=days)
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _ends_by(name: str, at: datetime) -> bool:
    """Whether it is a month that is over by then. The default partition never is."""
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    return (int(found[1]), int(found[2])) < (at.year, at.month)
