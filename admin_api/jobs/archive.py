"""The archive job: bindings that nobody used for the live setting ``archive_days`` leave the table, networks and all.

Where it stands in the walk: `schedule` runs it every hour. The next use of such a key binds it anew, from wherever it
comes; an operator finds it in the archive and can restore it.

What is never taken:

- a banned key: that would unban it. A ban that has expired is none, but the days are counted from its end at the
  earliest, so that the key of a long ban does not go the moment it is free;
- a key in use. The row's lock shows the latest use that was ingested. What gateways saw since is on its way for some
  seconds: nothing is archived while ingestion lags behind, and a use that arrives too late brings its binding back
  (`reprieve`).

Small transactions, each with its share of the run's one line in the audit: a worker that is killed has archived what
the audit says. Rows that somebody has locked are left for the next time, so neither traffic nor an operator waits.
Two runs at once archive different bindings.

Who wants to be told of runs finds in `Archive.run` the one place where a run has ended, with its count.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from admin_api import archiving, gateways
from admin_api.alerts.raising import Event, raise_on
from admin_api.jobs import live
from admin_api.jobs.postgres import Connection, Postgres
from admin_api.operations.publishing import Change, publish
from admin_api.rooms import Newsroom
from admin_api.schemas.alerts import AlertKind
from proxy_core.contracts import LiveSettings

log = structlog.get_logger(__name__)

BATCH = 500
BATCH_LIMIT_S = 30.0
RUN_S = 240.0
"""After that the rest is left for the next hour."""

LAG_MAX_S = 30.0
"""The age of the oldest event that was not ingested, beyond which a run waits for better times."""

BY = "system"

_BOUNDS_SQL = """
SELECT set_config('lock_timeout', '2s', true),
       set_config('idle_in_transaction_session_timeout', '5s', true),
       set_config('statement_timeout', '20s', true)
"""

_UNUSED_SQL = """
SELECT id FROM binding
WHERE last_used_at < $1 AND (status = 'active' OR ban_expires_at < $1)
ORDER BY last_used_at, id LIMIT $2
FOR UPDATE SKIP LOCKED
"""

_AUDIT_SQL = """
INSERT INTO admin_audit (actor_kind, actor, action, subject_kind, subject_id, after)
VALUES ('system', $1, 'archive:run', 'archive', $2, $3)
RETURNING id
"""

_AUDIT_MORE_SQL = "UPDATE admin_audit SET after = $2 WHERE id = $1"


class Report(msgspec.Struct, frozen=True):
    """A run, as the audit has it. ``unused_since``: bindings whose last use lies before it."""

    archived: int
    archive_days: int
    unused_since: datetime


class Archive:
    """One run. ``clock`` is monotonic."""

    def __init__(
        self,
        redis: Redis,
        postgres: Postgres,
        news: Newsroom,
        initial: LiveSettings,
        *,
        batch: int = BATCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._news = news
        self._initial = initial
        self._batch = batch
        self._clock = clock
        self._audit_id: int | None = None
        self._archived = 0

    async def run(self, now: datetime) -> int:
        """How many were archived. Raises `postgres.FAILURES`, StoreUnavailable without Redis, MsgspecError for live
        settings that cannot be read; what was archived before stays so."""
        ends_at = self._clock() + RUN_S
        more = True
        while more and self._clock() < ends_at:
            lag_s = (await gateways.stream(self._redis)).lag_s
            if lag_s > LAG_MAX_S:
                log.warning("nothing is archived while ingestion lags behind", lag_s=lag_s)
                break
            more = await self._take_and_tell(now) == self._batch
        if self._archived:
            log.info("unused bindings archived", bindings=self._archived)
            event = Event(AlertKind.ARCHIVE_RUN, {"archived": self._archived})
            await self._postgres.run(lambda connection: raise_on(connection, event), limit_s=BATCH_LIMIT_S)
        return self._archived

    async def _take_and_tell(self, now: datetime) -> int:
        gone = await self._postgres.run(lambda connection: self._take(connection, now), limit_s=BATCH_LIMIT_S)
        await publish(self._news, gone)
        return len(gone)

    async def _take(self, connection: Connection, now: datetime) -> list[Change]:
        """One batch, committed."""
        async with connection.transaction():
            await connection.execute(_BOUNDS_SQL)
            days = (await live.settings(connection, self._initial)).archive_days
            if not days:
                return []
            since = now - timedelta(days=days)
            ids = [row["id"] for row in await connection.fetch(_UNUSED_SQL, since, self._batch)]
            if not ids:
                return []
            await connection.execute(archiving.ARCHIVE, ids, BY, "unused")
            deleted = await connection.fetch(archiving.DELETE, ids)
            await self._note(connection, Report(self._archived + len(deleted), days, since), now)
        self._archived += len(deleted)
        return [Change(row["key_hash"], row["version"], None) for row in deleted]

    async def _note(self, connection: Connection, report: Report, now: datetime) -> None:
        after: Any = msgspec.json.encode(report).decode()
        if self._audit_id is None:
            self._audit_id = await connection.fetchval(_AUDIT_SQL, BY, now.isoformat(timespec="seconds"), after)
        else:
            await connection.execute(_AUDIT_MORE_SQL, self._audit_id, after)
