"""What was archived for want of use and turns out to have been in use is given back.

Where it stands in the walk: `apply` comes here with uses of bindings that are not there. A use is known to a gateway
seconds before it is a row, and the `archive` job may come in between; Redis may have been away in those seconds.
A key that somebody else made its own meanwhile stays with him: one key never gets two owners.

Gateways need not be told: they hold a binding or know of none, and who claims a key is shown what PostgreSQL has.
"""

from collections.abc import Sequence

from admin_api import archiving
from admin_api.jobs.postgres import Connection
from proxy_core.contracts import Touch

_IN_USE_SQL = """
SELECT a.id, a.binding_id FROM binding_archive a
JOIN unnest($1::bigint[], $2::float8[]) AS used (id, at) ON a.binding_id = used.id
WHERE a.cause = 'unused' AND a.restored_at IS NULL AND to_timestamp(used.at) > a.last_used_at
  AND NOT EXISTS (SELECT FROM binding b WHERE b.key_hash = a.key_hash OR b.id = a.binding_id)
ORDER BY a.id FOR UPDATE OF a
"""

_AUDIT_SQL = """
INSERT INTO admin_audit (actor_kind, actor, action, subject_kind, subject_id, subject_name, reason)
SELECT 'system', 'system', 'binding:restore', 'binding', b.id::text, b.key_hint, 'was in use while it was archived'
FROM binding b WHERE b.id = ANY ($1::bigint[]) ORDER BY b.id
"""


async def give_back(connection: Connection, uses: Sequence[Touch]) -> set[int]:
    """In the caller's transaction; returns the ids of the bindings that are there again."""
    ids, times = [use.binding_id for use in uses], [use.last_used_at for use in uses]
    archived = {row["id"]: row["binding_id"] for row in await connection.fetch(_IN_USE_SQL, ids, times)}
    if not archived:
        return set()
    restored = {row["id"] for row in await connection.fetch(archiving.RESTORE, list(archived))}
    back = [id_ for id_, binding_id in archived.items() if binding_id in restored]
    await connection.execute(archiving.RESTORE_NETWORKS, back)
    await connection.execute(archiving.MARK_RESTORED, back)
    await connection.execute(_AUDIT_SQL, list(restored))
    return restored
