"""Monthly partitions of `intercept`, made before their month begins.

Where it stands in the walk: `schedule` runs it at the start of a worker and every hour. Nothing depends on it in time:
`intercept_default` takes the rows of a month without a partition, and they are moved when it gets one.
"""

import structlog

from admin_api.jobs.postgres import Connection, Postgres

log = structlog.get_logger(__name__)

MONTHS_AHEAD = 3
"""This month and the two after it: workers may be away for weeks."""

LIMIT_S = 120.0

# Making a partition takes `intercept_default` for itself. Waiting for that lock would hold up ingestion, which queues
# behind the waiter: so not for long, the next hour will do.
_BOUNDS_SQL = "SELECT set_config('lock_timeout', '3s', true), set_config('statement_timeout', '110s', true)"
_ENSURE_SQL = "SELECT intercept_ensure_partitions(now(), $1)"


async def make_partitions(postgres: Postgres) -> int:
    """Returns how many were missing. Idempotent; several at once take turns. Raises `postgres.FAILURES`."""

    async def work(connection: Connection) -> int:
        async with connection.transaction():
            await connection.execute(_BOUNDS_SQL)
            made: int = await connection.fetchval(_ENSURE_SQL, MONTHS_AHEAD)
            return made

    made = await postgres.run(work, limit_s=LIMIT_S)
    if made:
        log.info("partitions of the intercept log made", partitions=made)
    return made
