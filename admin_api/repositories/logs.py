"""Intercepts as lists and exports read them: newest first, each filter on an index of its own.

Where it stands in the walk: `jobs.apply` wrote the rows; `controllers.logs` shows and exports them.

Rules for whoever edits this file:

- Every value goes in as a parameter; what is put into the text is closed.
- The list and the export share `_conditions`, so that an export is exactly what was seen.
"""

import ipaddress
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.repositories import cursors
from admin_api.repositories.bindings import like_prefix
from admin_api.schemas.logs import InterceptPage, InterceptView
from proxy_core.contracts import Reason

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

SORT = "intercepts"
ROWS_AT_ONCE = 500

COLUMNS = """i.event_id, i.at, host(i.client) AS client, i.key_hint, i.key_hash,
    (SELECT b.id FROM binding b WHERE b.key_hash = i.key_hash) AS binding_id,
    CAST(i.bound_networks AS text[]) AS bound_networks, i.reason, i.enforced, i.repeat_count,
    i.method, i.path, i.user_agent, i.gateway, host(i.peer) AS peer"""


class LogFilter(msgspec.Struct, frozen=True):
    """None: any. ``since`` inclusive, ``until`` exclusive; ``network`` contains the client; ``hint`` begins so."""

    since: datetime | None = None
    until: datetime | None = None
    reason: Reason | None = None
    enforced: bool | None = None
    network: IPNetwork | None = None
    fingerprint: bytes | None = None
    binding_id: int | None = None
    hint: str | None = None
    gateway: str | None = None


async def page(session: AsyncSession, wanted: LogFilter, limit: int, cursor: str | None) -> InterceptPage:
    """Raises InvalidInput for a cursor of another list."""
    statement, values = page_statement(wanted, limit, cursor)
    rows = (await session.execute(text(statement), values)).all()
    items = [view(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return InterceptPage(items, None)
    last = rows[limit - 1]
    return InterceptPage(items, cursors.encode(SORT, last.at, bytes(last.event_id)))


def page_statement(wanted: LogFilter, limit: int, cursor: str | None) -> tuple[str, dict[str, Any]]:
    """The text and its parameters; one row more than the page, to know whether there is a next one."""
    conditions, values = _conditions(wanted)
    if cursor is not None:
        at, event_id = cursors.decode(cursor, SORT, (datetime, bytes))
        # The first part alone keeps newer partitions out: PostgreSQL does not prune by comparisons of rows.
        conditions += ["i.at <= :last_at", "(i.at, i.event_id) < (:last_at, :last_id)"]
        values |= {"last_at": at, "last_id": event_id}
    statement = f"""
SELECT {COLUMNS} FROM (
    SELECT * FROM intercept i {_where(conditions)} ORDER BY i.at DESC, i.event_id DESC LIMIT :limit
) i ORDER BY i.at DESC, i.event_id DESC
"""  # noqa: S608 - closed texts, see the rules
    return statement, values | {"limit": limit + 1}


async def every(session: AsyncSession, wanted: LogFilter) -> AsyncIterator[InterceptView]:
    """All that match, newest first, through a server-side cursor: memory for `ROWS_AT_ONCE` at a time."""
    conditions, values = _conditions(wanted)
    statement = f"""
SELECT {COLUMNS} FROM intercept i {_where(conditions)} ORDER BY i.at DESC, i.event_id DESC
"""  # noqa: S608 - closed texts, see the rules
    rows = await session.stream(text(statement), values, execution_options={"yield_per": ROWS_AT_ONCE})
    try:
        async for row in rows:
            yield view(row)
    finally:
        await rows.close()


def view(row: Any) -> InterceptView:
    return InterceptView(
        event_id=bytes(row.event_id).hex(),
        at=row.at,
        client=row.client,
        hint=row.key_hint,
        fingerprint=bytes(row.key_hash).hex(),
        binding_id=row.binding_id,
        bound_networks=list(row.bound_networks),
        reason=row.reason,
        enforced=row.enforced,
        repeat_count=row.repeat_count,
        method=row.method,
        path=row.path,
        user_agent=row.user_agent,
        gateway=row.gateway,
        peer=row.peer,
    )


def _where(conditions: list[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _conditions(wanted: LogFilter) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for name, condition, value in (
        ("since", "i.at >= :since", wanted.since),
        ("until", "i.at < :until", wanted.until),
        ("reason", "i.reason = :reason", None if wanted.reason is None else wanted.reason.value),
        ("fingerprint", "i.key_hash = :fingerprint", wanted.fingerprint),
        ("binding_id", f"i.key_hash = {OF_BINDING}", wanted.binding_id),
        ("hint", "lower(i.key_hint) LIKE :hint", None if wanted.hint is None else like_prefix(wanted.hint.lower())),
        ("gateway", "i.gateway = :gateway", wanted.gateway),
    ):
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.enforced is not None:  # in the text, so that the partial index of observed ones is found
        conditions.append("i.enforced" if wanted.enforced else "NOT i.enforced")
    if wanted.network is not None:
        conditions.append(_within(wanted.network, values))
    return conditions, values


OF_BINDING = """coalesce(
    (SELECT b.key_hash FROM binding b WHERE b.id = :binding_id),
    (SELECT a.key_hash FROM binding_archive a WHERE a.binding_id = :binding_id ORDER BY a.id DESC LIMIT 1))"""
"""The key of a binding, also of one that was removed."""


def _within(network: IPNetwork, values: dict[str, Any]) -> str:
    """Clients are single addresses, so a network is a range of them, which the index on (client, at) has in order."""
    if network.prefixlen == network.max_prefixlen:
        values["client"] = network.network_address
        return "i.client = CAST(:client AS inet)"
    values["first"], values["last"] = network.network_address, network.broadcast_address
    return "i.client BETWEEN CAST(:first AS inet) AND CAST(:last AS inet)"
