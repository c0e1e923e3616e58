"""Into the archive and back: the statements that operators' writes and the jobs have in common.

Where it stands in the walk: `operations` runs them in sessions (`for_session`), `jobs` with asyncpg as they stand here.
Whoever removes a binding locks its row first, archives what the lock returned, deletes it in the same transaction, and
publishes the version that the deletion drew after the commit.
"""

import re

from sqlalchemy import TextClause, text

ARCHIVE = """
INSERT INTO binding_archive (binding_id, key_hash, key_hint, mode, note, networks, first_used_at, last_used_at, last_ip,
    request_count, intercept_count, archived_by, cause)
SELECT b.id, b.key_hash, b.key_hint, b.mode, b.note, (
        SELECT coalesce(jsonb_agg(jsonb_build_object('network', n.network::text, 'source', n.source,
            'created_at', n.created_at, 'expires_at', n.expires_at) ORDER BY n.id), '[]')
        FROM binding_network n WHERE n.binding_id = b.id
    ), b.first_used_at, b.last_used_at, b.last_ip, b.request_count, b.intercept_count,
    CAST($2 AS text), CAST($3 AS text)
FROM binding b WHERE b.id = ANY (CAST($1 AS bigint[]))
"""
"""Ids, by whom, and the cause."""

DELETE = """
DELETE FROM binding WHERE id = ANY (CAST($1 AS bigint[])) RETURNING key_hash, nextval('binding_version_seq') AS version
"""

# Of several archived bindings of one key the latest is what "restore" means. One that was archived for want of use
# counts as used now, or it would be archived again the same night.
RESTORE = """
INSERT INTO binding (id, key_hash, key_hint, mode, note, first_used_at, last_used_at, last_ip, request_count,
    intercept_count)
OVERRIDING SYSTEM VALUE
SELECT DISTINCT ON (key_hash) binding_id, key_hash, key_hint, mode, note, first_used_at,
    CASE cause WHEN 'unused' THEN now() ELSE last_used_at END, last_ip, request_count, intercept_count
FROM binding_archive WHERE id = ANY (CAST($1 AS bigint[]))
ORDER BY key_hash, id DESC
ON CONFLICT DO NOTHING
RETURNING id
"""
"""The archive's ids; returns the bindings'. A key that somebody owns keeps its owner."""

RESTORE_NETWORKS = """
INSERT INTO binding_network (binding_id, network, source, created_at, expires_at)
SELECT a.binding_id, n.network, n.source, n.created_at, n.expires_at
FROM binding_archive a, jsonb_to_recordset(a.networks)
    AS n (network cidr, source text, created_at timestamptz, expires_at timestamptz)
WHERE a.id = ANY (CAST($1 AS bigint[]))
"""

MARK_RESTORED = "UPDATE binding_archive SET restored_at = now() WHERE id = ANY (CAST($1 AS bigint[]))"


def for_session(statement: str, *names: str) -> TextClause:
    """For SQLAlchemy: ``$1`` becomes the first of the names, and so on."""
    return text(re.sub(r"\$(\d+)", lambda place: f":{names[int(place[1]) - 1]}", statement))
