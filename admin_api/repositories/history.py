"""History as the dashboard draws it: rolled-up hours of all gateways, by the hour or added up to days.

Where it stands in the walk: `jobs.rollup` wrote the rows; `controllers.dashboard` answers with these points.
Sums are made by PostgreSQL, so that a year of hours costs this process no more than a year of days.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.schemas.dashboard import History, HistoryPoint, HistoryStep
from proxy_core.histogram import percentile_ms

HOUR = timedelta(hours=1)
LENGTHS = {HistoryStep.HOUR: HOUR, HistoryStep.DAY: timedelta(days=1)}


class Span(msgspec.Struct, frozen=True):
    """``since`` and ``until`` (exclusive) in UTC, ``since`` at the beginning of a step."""

    step: HistoryStep
    since: datetime
    until: datetime

    def moments(self) -> Iterator[datetime]:
        at = self.since
        while at < self.until:
            yield at
            at += LENGTHS[self.step]


def beginning(at: datetime, step: HistoryStep) -> datetime:
    """Of the hour or day in UTC that ``at`` lies in."""
    at = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return at if step is HistoryStep.HOUR else at.replace(hour=0)


async def read(session: AsyncSession, span: Span, now: datetime) -> History:
    """``now`` decides which intervals are over."""
    end = beginning(span.until - timedelta(microseconds=1), span.step) + LENGTHS[span.step]
    values = {"step": span.step.value, "since": span.since, "until": end}
    sums = {row.point: row for row in await session.execute(_SUMS, values)}
    distinct = {row.at: row for row in await session.execute(_DISTINCT, values)}
    errors: dict[datetime, dict[str, int]] = defaultdict(dict)
    for row in await session.execute(_ERRORS, values):
        errors[row.point][row.code] = row.errors
    added = {row.point: row.counts for row in await session.execute(_ADDED, values)}
    items = [
        _point(at, span.step, now, sums.get(at), distinct.get(at), errors.get(at, {}), added.get(at, []))
        for at in span.moments()
    ]
    return History(span.step, span.since, span.until, items)


def _point(
    at: datetime, step: HistoryStep, now: datetime, row: Any, distinct: Any, errors: dict[str, int], added: list[int]
) -> HistoryPoint:
    length = LENGTHS[step]
    reported = row is not None and row.rows == row.hours == length // HOUR
    whole = reported and not row.partial and at + length <= now
    return HistoryPoint(
        at=at,
        partial=not whole,
        requests=row.requests if row else 0,
        allowed=row.allowed if row else 0,
        intercepted=row.intercepted if row else 0,
        observed=row.observed if row else 0,
        claims=row.claims if row else 0,
        errors=errors,
        keys=distinct.keys if distinct else 0,
        addresses=distinct.addresses if distinct else 0,
        bytes_in=row.bytes_in if row else 0,
        bytes_out=row.bytes_out if row else 0,
        added_p50_ms=_rounded(percentile_ms(added, 0.5)),
        added_p99_ms=_rounded(percentile_ms(added, 0.99)),
    )


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)


# More rows than hours: of one of them Redis lost the counters.
_SUMS = text("""
SELECT date_trunc(:step, at, 'UTC') AS point, count(*) AS rows, count(DISTINCT at) AS hours,
    bool_or(partial) AS partial, sum(requests)::bigint AS requests, sum(allowed)::bigint AS allowed,
    sum(intercepted)::bigint AS intercepted, sum(observed)::bigint AS observed, sum(claims)::bigint AS claims,
    sum(bytes_in)::bigint AS bytes_in, sum(bytes_out)::bigint AS bytes_out
FROM hourly_metric WHERE at >= :since AND at < :until GROUP BY 1
""")

_ERRORS = text("""
SELECT date_trunc(:step, at, 'UTC') AS point, e.key AS code, sum(e.value::bigint)::bigint AS errors
FROM hourly_metric, jsonb_each_text(errors) e WHERE at >= :since AND at < :until GROUP BY 1, 2 ORDER BY 1, 2
""")

_ADDED = text("""
SELECT point, array_agg(counted ORDER BY bucket) AS counts FROM (
    SELECT date_trunc(:step, at, 'UTC') AS point, b.bucket, sum(b.counted)::bigint AS counted
    FROM hourly_metric, unnest(added_time) WITH ORDINALITY AS b (counted, bucket)
    WHERE at >= :since AND at < :until GROUP BY 1, 2
) buckets GROUP BY 1
""")

_DISTINCT = text(
    'SELECT at, "keys", addresses FROM distinct_metric WHERE step = :step AND at >= :since AND at < :until'
)
