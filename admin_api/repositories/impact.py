"""What enforcement would have refused: observed intercepts, judged again by what their keys are bound to now.

Where it stands in the walk: `controllers.settings` shows it. Bounded: it looks at the newest `ROWS_MAX` rows.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.schemas.impact import AffectedKey, Impact
from proxy_core.contracts import Reason

ROWS_MAX = 50_000
TOP = 20

_IMPACT = text("""
WITH newest AS MATERIALIZED (
    SELECT at, key_hash, client, repeat_count, reason FROM intercept
    WHERE NOT enforced AND at >= :since ORDER BY at DESC LIMIT :most
), refused AS MATERIALIZED (
    SELECT b.id, i.at, i.client, i.repeat_count FROM newest i JOIN binding b USING (key_hash)
    WHERE i.reason = :reason AND b.mode IS DISTINCT FROM 'observe' AND NOT EXISTS (
        SELECT FROM binding_network n
        WHERE n.binding_id = b.id AND n.network >>= i.client AND (n.expires_at IS NULL OR n.expires_at > now())
    )
), top AS (
    SELECT id, sum(repeat_count)::bigint AS requests, count(DISTINCT client) AS addresses, max(at) AS last_at
    FROM refused GROUP BY id ORDER BY requests DESC, id LIMIT :top
)
SELECT (SELECT count(*) FROM newest) AS seen, (SELECT min(at) FROM newest) AS oldest,
    (SELECT coalesce(sum(repeat_count), 0)::bigint FROM refused) AS all_requests,
    (SELECT count(DISTINCT id) FROM refused) AS all_keys, (SELECT count(DISTINCT client) FROM refused) AS all_addresses,
    top.*, b.key_hash, b.key_hint, b.note
FROM (SELECT) one LEFT JOIN top ON true LEFT JOIN binding b ON b.id = top.id ORDER BY top.requests DESC, top.id
""")


async def of_enforcing(session: AsyncSession, days: int) -> Impact:
    since = datetime.now(UTC) - timedelta(days=days)
    reason = Reason.KEY_BOUND_TO_OTHER_ADDRESS.value
    values = {"since": since, "most": ROWS_MAX, "top": TOP, "reason": reason}
    rows = (await session.execute(_IMPACT, values)).all()
    bounded = rows[0].seen >= ROWS_MAX
    most = [
        AffectedKey(row.id, row.key_hash.hex(), row.key_hint, row.note, row.requests, row.addresses, row.last_at)
        for row in rows
        if row.id is not None
    ]
    whole = rows[0]
    return Impact(
        whole.oldest if bounded else since, bounded, whole.all_requests, whole.all_keys, whole.all_addresses, most
    )
