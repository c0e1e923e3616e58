"""What the dashboard asks of PostgreSQL, bounded so that it answers as quickly at ten million rows as at ten.

Where it stands in the walk: `controllers.dashboard` calls it. Up to `COUNT_MAX` rows are counted, more are estimated
from the statistics that vacuum and analyze keep.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.repositories.bindings import BANNED
from admin_api.schemas.dashboard import InterceptedKey, NewBinding, TopIntercepted, Total, Totals

COUNT_MAX = 10_000
INTERCEPTS_MAX = 20_000
"""The newest intercepts that are looked at for `most_intercepted`: under a flood, the last minutes of it."""

TOP = 10
NEWEST = 10
WINDOW = timedelta(hours=24)

# A ban that is over leaves its row as it is: of `most` of them it is counted how many still hold.
_COUNTS = text(f"""
SELECT (SELECT count(*) FROM (SELECT 1 FROM binding LIMIT :most) b) AS bindings,
       banned.ever AS banned_ever, banned.still AS banned,
       (SELECT count(*) FROM (SELECT 1 FROM binding_archive LIMIT :most) a) AS archived,
       (SELECT count(*) FROM (SELECT 1 FROM intercept LIMIT :most) i) AS intercepts
FROM (SELECT count(*) AS ever, count(*) FILTER (WHERE banned) AS still
      FROM (SELECT {BANNED} AS banned FROM binding b WHERE status = 'banned' LIMIT :most) b) banned
""")  # noqa: S608 - a closed text
_ESTIMATES = text("""
SELECT (SELECT reltuples FROM pg_class WHERE oid = 'binding'::regclass)::bigint AS bindings,
       (SELECT reltuples FROM pg_class WHERE oid = 'ix_binding_banned'::regclass)::bigint AS banned_ever,
       (SELECT reltuples FROM pg_class WHERE oid = 'binding_archive'::regclass)::bigint AS archived,
       (SELECT sum(greatest(c.reltuples, 0)) FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
        WHERE p.inhparent = 'intercept'::regclass)::bigint AS intercepts
""")
_MOST_INTERCEPTED = text("""
WITH newest AS MATERIALIZED (
    SELECT at, key_hash, key_hint, repeat_count FROM intercept WHERE at > :since ORDER BY at DESC LIMIT :most
), top AS (
    SELECT key_hash, max(key_hint) AS key_hint, sum(repeat_count)::bigint AS intercepts, max(at) AS last_at
    FROM newest GROUP BY key_hash ORDER BY intercepts DESC, key_hash LIMIT :top
)
SELECT top.*, b.id AS binding_id, (SELECT count(*) FROM newest) AS seen, (SELECT min(at) FROM newest) AS oldest
FROM top LEFT JOIN binding b USING (key_hash) ORDER BY top.intercepts DESC, key_hash
""")
_NEWEST = text(f"""
SELECT b.id, b.key_hash, b.key_hint, CASE WHEN {BANNED} THEN 'banned' ELSE 'active' END AS status, b.first_used_at,
       ARRAY(SELECT network::text FROM binding_network WHERE binding_id = b.id ORDER BY id LIMIT 8) AS networks
FROM (SELECT * FROM binding ORDER BY first_used_at DESC, id DESC LIMIT :newest) b
ORDER BY b.first_used_at DESC, b.id DESC
""")  # noqa: S608 - a closed text


async def totals(session: AsyncSession) -> Totals:
    counts = (await session.execute(_COUNTS, {"most": COUNT_MAX + 1})).one()
    estimates = (await session.execute(_ESTIMATES)).one()

    def total(name: str) -> Total:
        counted = getattr(counts, name)
        return Total(counted, estimated=False) if counted <= COUNT_MAX else _estimated(getattr(estimates, name))

    bindings, banned = total("bindings"), total("banned_ever")
    if counts.banned_ever:
        banned = Total(round(banned.count * counts.banned / counts.banned_ever), banned.estimated)
    active = Total(max(0, bindings.count - banned.count), bindings.estimated or banned.estimated)
    return Totals(bindings, active, banned, total("archived"), total("intercepts"))


async def most_intercepted(session: AsyncSession) -> TopIntercepted:
    """The keys with the most intercepts of the last 24 hours, by the newest `INTERCEPTS_MAX` rows."""
    since = datetime.now(UTC) - WINDOW
    wanted = {"since": since, "most": INTERCEPTS_MAX, "top": TOP}
    rows = (await session.execute(_MOST_INTERCEPTED, wanted)).all()
    bounded = bool(rows) and rows[0].seen >= INTERCEPTS_MAX
    items = [
        InterceptedKey(bytes(row.key_hash).hex(), row.key_hint, row.binding_id, row.intercepts, row.last_at)
        for row in rows
    ]
    return TopIntercepted(rows[0].oldest if bounded else since, bounded, items)


async def newest_bindings(session: AsyncSession) -> list[NewBinding]:
    rows = await session.execute(_NEWEST, {"newest": NEWEST})
    return [
        NewBinding(row.id, row.key_hash.hex(), row.key_hint, row.status, list(row.networks), row.first_used_at)
        for row in rows
    ]


def _estimated(statistics: int | None) -> Total:
    """Never below what was counted: statistics are -1 before the first analyze."""
    return Total(max(statistics or 0, COUNT_MAX + 1), estimated=True)
