"""Raising an alert: its row and a delivery for each target that wants it, in the transaction of what it tells.

Where it stands in the walk: `operations.alerts.raise_event` does it in an operator's transaction, jobs in theirs;
`jobs.deliveries` finds what is due. Nothing is sent here, and nothing here needs Redis.

The statements are written once, for asyncpg (``$1``); `for_session` gives them names for SQLAlchemy. Casts are
written as CAST because of that.
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import TextClause, text

from admin_api.schemas.alerts import AlertKind

KEYS_SHOWN = 10
"""Of many keys in one alert, those that are named."""


class Event(msgspec.Struct, frozen=True):
    """Something to tell. ``facts``: what the message and the API show, by kind; see `schemas.alerts.AlertView`.

    ``if_wanted``: without a target that wants it there is no row either, for what happens all the time.
    """

    kind: AlertKind
    facts: dict[str, Any]
    hint: str = ""
    binding_id: int | None = None
    fingerprint: bytes | None = None
    since: datetime | None = None
    if_wanted: bool = False

    def parameters(self) -> list[Any]:
        """Those of `RAISE_SQL`."""
        return [
            self.kind.value,
            self.fingerprint,
            self.hint,
            self.binding_id,
            self.since or datetime.now(UTC),
            msgspec.json.encode(self.facts).decode(),
            self.if_wanted,
        ]


DELIVER = """
INSERT INTO alert_delivery (alert_id, target_id, target_name, target_kind)
SELECT r.id, t.id, t.name, t.kind FROM raised r JOIN alert_target t ON t.enabled AND r.kind = ANY (t.events)
"""

RAISE_SQL = f"""
WITH raised AS (
    INSERT INTO alert (kind, key_hash, key_hint, binding_id, since, facts)
    SELECT CAST($1 AS text), CAST($2 AS bytea), CAST($3 AS text), CAST($4 AS bigint), CAST($5 AS timestamptz),
        CAST($6 AS jsonb)
    WHERE NOT CAST($7 AS boolean)
        OR EXISTS (SELECT FROM alert_target WHERE enabled AND CAST($1 AS text) = ANY (events))
    RETURNING id, kind
), sent AS ({DELIVER})
SELECT id FROM raised
"""  # noqa: S608 - closed texts

FOLLOW_SETTING_SQL = """
INSERT INTO alert_target (name, kind, url, events, language, from_setting, created_by)
SELECT 'alert_webhook_url', 'webhook', CAST($1 AS text), '{key_intercepted}', 'en', true, 'settings'
WHERE NOT EXISTS (SELECT FROM alert_target WHERE from_setting AND url = CAST($1 AS text)) AND CAST($1 AS text) <> ''
ON CONFLICT (from_setting) WHERE from_setting DO UPDATE SET url = excluded.url, enabled = true,
    disabled_because = NULL, changed_at = now(), version = alert_target.version + 1
WHERE alert_target.url <> excluded.url
"""
"""The live setting's webhook is a target as the others are; a new URL enables it."""

UNFOLLOW_SETTING_SQL = """
UPDATE alert_target SET url = '', enabled = false, disabled_because = 'setting', changed_at = now(),
    version = version + 1
WHERE from_setting AND url <> ''
"""


def for_session(statement: str) -> TextClause:
    """``$1`` becomes ``:p1``."""
    return text(re.sub(r"\$(\d+)", r":p\1", statement))


def named(parameters: list[Any]) -> dict[str, Any]:
    return {f"p{number}": value for number, value in enumerate(parameters, 1)}


async def raise_on(connection: Any, event: Event) -> int | None:
    """With asyncpg, in the caller's transaction. The alert's id; None: nobody wants it."""
    raised: int | None = await connection.fetchval(RAISE_SQL, *event.parameters())
    return raised
