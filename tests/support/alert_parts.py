"""Targets and alerts straight in the tables, and what lies there."""

import json
from typing import Any

from admin_api.alerts import signing
from admin_api.alerts.raising import Event, raise_on
from admin_api.schemas.alerts import AlertKind

INTERCEPTED = {
    "addresses": [{"address": "198.51.100.7", "count": 5}],
    "address_count": 1,
    "bound_networks": ["203.0.113.0/24"],
    "enforced_count": 5,
    "observed_count": 0,
    "since": "2026-11-25T17:55:00+00:00",
}


async def new_target(pg: Any, url: str, *secrets: signing.Secret, **given: Any) -> int:
    """A webhook that wants everything, unless told otherwise."""
    values = {
        "kind": "webhook",
        "events": [kind.value for kind in AlertKind],
        "enabled": True,
        "language": "en",
    } | given
    target_id: int = await pg.fetchval(
        "INSERT INTO alert_target (name, kind, url, events, language, enabled, secrets, created_by) "
        "VALUES ('on-call', $1, $2, $3, $4, $5, $6::jsonb, 'root') RETURNING id",
        *(values["kind"], url, values["events"], values["language"], values["enabled"]),
        json.dumps(signing.stored(secrets)),
    )
    return target_id


async def new_alert(pg: Any, kind: AlertKind = AlertKind.KEY_INTERCEPTED, **facts: Any) -> int:
    async with pg.transaction():
        event = Event(kind, facts or INTERCEPTED, hint="abcd…wxyz", binding_id=7, fingerprint=b"k" * 32)
        alert_id = await raise_on(pg, event)
    assert alert_id is not None
    return alert_id


async def attempts(pg: Any) -> list[list[str]]:
    """Of each delivery, what its attempts came to."""
    rows = await pg.fetch("SELECT attempts FROM alert_delivery ORDER BY id")
    return [[each["outcome"] for each in json.loads(row["attempts"])] for row in rows]


async def time_passes(pg: Any) -> None:
    """What waits for its next attempt is due now."""
    await pg.execute("UPDATE alert_delivery SET next_at = now() WHERE state = 'pending'")
