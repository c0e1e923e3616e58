"""Bindings as lists, pages and edits read them: SQL text, each sort and filter on an index of its own.

Where it stands in the walk: controllers read through it; `operations` read what they are about to change, and what it
became, in the same shape.

Rules for whoever edits this file:

- Every value goes in as a parameter. What is put into the text comes from the closed tables below.
- A list takes its page from the index first and looks up networks for that page only.
"""

import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.repositories import cursors
from admin_api.schemas.bindings import (
    NETWORKS_IN_LISTS,
    BindingMode,
    BindingPage,
    BindingSort,
    BindingStatus,
    BindingView,
    BoundNetwork,
    Order,
)
from proxy_core import contracts

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

BANNED = "(b.status = 'banned' AND (b.ban_expires_at IS NULL OR b.ban_expires_at > now()))"

COLUMNS = f"""b.id, b.key_hash, b.key_hint, {BANNED} AS banned, b.ban_reason, b.ban_expires_at, b.mode, b.note,
    b.first_used_at, b.last_used_at, host(b.last_ip) AS last_ip, b.request_count, b.intercept_count, b.version"""

NETWORKS = """
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object('network', n.network::text, 'source', n.source,
        'created_at', n.created_at, 'expires_at', n.expires_at) ORDER BY n.id), '[]')::text AS networks
    FROM (SELECT * FROM binding_network WHERE binding_id = b.id ORDER BY id LIMIT CAST(:networks AS bigint)) n
) shown
CROSS JOIN LATERAL (SELECT count(*) AS network_count FROM binding_network WHERE binding_id = b.id) counted
"""

RARE_MAX = 5000
"""Bindings of one hint, mode, … that are read and sorted for a page: some tens of milliseconds."""

SORTS: dict[BindingSort, type] = {
    BindingSort.ID: int,
    BindingSort.LAST_USED_AT: datetime,
    BindingSort.FIRST_USED_AT: datetime,
    BindingSort.INTERCEPT_COUNT: int,
    BindingSort.REQUEST_COUNT: int,
}


class BindingFilter(msgspec.Struct, frozen=True):
    """None: any. ``network``: bindings with a network that overlaps it. ``hint``: how the hint begins."""

    status: BindingStatus | None = None
    mode: BindingMode | None = None
    note: str | None = None
    hint: str | None = None
    fingerprint: bytes | None = None
    network: IPNetwork | None = None
    used_from: datetime | None = None
    used_to: datetime | None = None


class Paging(msgspec.Struct, frozen=True):
    sort: BindingSort = BindingSort.LAST_USED_AT
    order: Order = Order.DESC
    limit: int = 50
    cursor: str | None = None


async def page(session: AsyncSession, wanted: BindingFilter, paging: Paging) -> BindingPage:
    """Raises InvalidInput for a cursor of another list."""
    statement, values = page_statement(wanted, paging, rare=await _rare(session, wanted))
    rows = (await session.execute(text(statement), values)).all()
    items = [view(row) for row in rows[: paging.limit]]
    if len(rows) <= paging.limit:
        return BindingPage(items, None)
    last = items[-1]
    return BindingPage(items, cursors.encode(_made_for(paging), getattr(last, paging.sort.value), last.id))


def page_statement(
    wanted: BindingFilter, paging: Paging, *, rare: "Indexed | None" = None
) -> tuple[str, dict[str, Any]]:
    """The text and its parameters; one row more than the page, to know whether there is a next one.

    ``rare``: so few bindings are in this index of `INDEXED` that they are all read and sorted.
    """
    conditions, values = _conditions(wanted)
    # OFFSET 0 keeps the planner from walking a sort order through what is outside.
    source = f"(SELECT * FROM binding WHERE {rare.condition} OFFSET 0)" if rare else "binding"  # noqa: S608 - the same
    column, direction = f"b.{paging.sort.value}", paging.order.value
    by = "b.id" if paging.sort is BindingSort.ID else f"{column} {direction}, b.id"
    if paging.cursor is not None:
        at, last_id = cursors.decode(paging.cursor, _made_for(paging), (SORTS[paging.sort], int))
        beyond = "<" if paging.order is Order.DESC else ">"
        conditions.append(
            f"b.id {beyond} :last_id" if paging.sort is BindingSort.ID else f"({column}, b.id) {beyond} (:at, :last_id)"
        )
        values |= {"last_id": last_id} if paging.sort is BindingSort.ID else {"at": at, "last_id": last_id}
    values |= {"limit": paging.limit + 1, "networks": NETWORKS_IN_LISTS}
    where = " AND ".join(conditions) or "true"
    statement = f"""
WITH b AS (SELECT * FROM {source} b WHERE {where} ORDER BY {by} {direction} LIMIT :limit)
SELECT {COLUMNS}, networks, network_count FROM b {NETWORKS} ORDER BY {by} {direction}
"""  # noqa: S608 - closed texts, see the rules
    return statement, values


async def _rare(session: AsyncSession, wanted: BindingFilter) -> "Indexed | None":
    """Which of the wanted has so few bindings that all of them are to be read.

    Where PostgreSQL takes them for many, or for evenly spread, it looks for a page of them along the sort order, and
    that is half the table if they are not: a hint counts as one in a hundred if a bucket of the statistics begins with
    it, and of the keys that are banned none was used lately.
    """
    _, values = _conditions(wanted)
    for name, indexed in INDEXED.items():
        if not indexed.serves(wanted):
            continue
        counted = f"SELECT FROM binding WHERE {indexed.condition} {indexed.order} LIMIT :limit"
        given = {"limit": RARE_MAX + 1} | ({name: values[name]} if f":{name}" in indexed.condition else {})
        found = await session.execute(text(f"SELECT count(*) FROM ({counted}) found"), given)  # noqa: S608 - closed
        if int(found.scalar_one()) <= RARE_MAX:
            return indexed
    return None


async def every(session: AsyncSession, wanted: BindingFilter) -> AsyncIterator[BindingView]:
    """All that match, by id, through a server-side cursor: memory for a few hundred at a time."""
    conditions, values = _conditions(wanted)
    statement = f"""
SELECT {COLUMNS}, networks, network_count FROM binding b {NETWORKS} WHERE {" AND ".join(conditions) or "true"}
ORDER BY b.id
"""  # noqa: S608 - closed texts, see the rules
    rows = await session.stream(text(statement), values | {"networks": None}, execution_options={"yield_per": 200})
    try:
        async for row in rows:
            yield view(row)
    finally:
        await rows.close()


async def find(session: AsyncSession, binding_id: int) -> BindingView | None:
    return (await find_many(session, [binding_id])).get(binding_id)


async def find_many(session: AsyncSession, ids: Sequence[int]) -> dict[int, BindingView]:
    rows = await session.execute(_BY_IDS, {"ids": list(ids), "networks": None})
    return {row.id: view(row) for row in rows}


async def find_keys(session: AsyncSession, fingerprints: Sequence[bytes]) -> dict[str, BindingView]:
    """By fingerprint in hex."""
    rows = await session.execute(_BY_KEYS, {"fingerprints": list(fingerprints), "networks": None})
    return {row.key_hash.hex(): view(row) for row in rows}


def view(row: Any) -> BindingView:
    return BindingView(
        id=row.id,
        fingerprint=row.key_hash.hex(),
        hint=row.key_hint,
        status=BindingStatus.BANNED if row.banned else BindingStatus.ACTIVE,
        ban_reason=row.ban_reason if row.banned else None,
        ban_expires_at=row.ban_expires_at if row.banned else None,
        mode=BindingMode(row.mode or "inherit"),
        note=row.note,
        networks=networks(row.networks),
        network_count=row.network_count,
        first_used_at=row.first_used_at,
        last_used_at=row.last_used_at,
        last_ip=row.last_ip,
        request_count=row.request_count,
        intercept_count=row.intercept_count,
        version=row.version,
    )


def to_binding(view: BindingView) -> contracts.Binding:
    """As the data plane reads it."""
    return contracts.Binding(
        id=view.id,
        fingerprint=bytes.fromhex(view.fingerprint),
        hint=view.hint,
        status=contracts.BindingStatus(view.status.value),
        networks=tuple(
            contracts.BoundNetwork(
                contracts.Network.parse(each.network), each.expires_at.timestamp() if each.expires_at else None
            )
            for each in view.networks
        ),
        version=view.version,
        mode=None if view.mode is BindingMode.INHERIT else contracts.Mode(view.mode.value),
        ban_expires_at=view.ban_expires_at.timestamp() if view.ban_expires_at else None,
    )


def networks(stored: str) -> list[BoundNetwork]:
    """What PostgreSQL made JSON of."""
    return _networks.decode(stored)


def like_prefix(start: str) -> str:
    """A LIKE pattern for texts that begin so, whatever characters it has."""
    return _escaped(start) + "%"


def _made_for(paging: Paging) -> str:
    return f"bindings:{paging.sort.value}:{paging.order.value}"


def _conditions(wanted: BindingFilter) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for name, condition in _FILTERS.items():
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.status is not None:
        # The plain comparison beside it is what the partial index answers.
        conditions.append(f"b.status = 'banned' AND {BANNED}" if wanted.status == "banned" else f"NOT {BANNED}")
    if wanted.mode is not None:
        conditions.append("b.mode IS NULL" if wanted.mode is BindingMode.INHERIT else "b.mode = :mode")
        values |= {} if wanted.mode is BindingMode.INHERIT else {"mode": wanted.mode.value}
    if wanted.hint is not None:
        values["hint"] = like_prefix(wanted.hint.lower())
    if wanted.note is not None:
        values["note"] = f"%{_escaped(wanted.note)}%"
    return conditions, values


def _escaped(wanted: str) -> str:
    return wanted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_networks = msgspec.json.Decoder(list[BoundNetwork])


class Indexed(msgspec.Struct, frozen=True):
    """What an index has together; ``order`` where counting would not take the index otherwise."""

    condition: str
    serves: Callable[[BindingFilter], bool]
    order: str = ""


INDEXED = {
    "hint": Indexed(
        "lower(key_hint) LIKE :hint", lambda wanted: wanted.hint is not None, "ORDER BY lower(key_hint) USING ~<~"
    ),
    "mode": Indexed("mode = :mode", lambda wanted: wanted.mode not in (None, BindingMode.INHERIT)),
    "status": Indexed("status = 'banned'", lambda wanted: wanted.status is BindingStatus.BANNED),
    "note": Indexed("note <> ''", lambda wanted: wanted.note is not None),
}

_FILTERS = {
    "note": "b.note <> '' AND b.note ILIKE :note",
    "hint": "lower(b.key_hint) LIKE :hint",
    "fingerprint": "b.key_hash = :fingerprint",
    "network": "b.id IN (SELECT binding_id FROM binding_network WHERE network && CAST(:network AS inet))",
    "used_from": "b.last_used_at >= :used_from",
    "used_to": "b.last_used_at < :used_to",
}

_BY_IDS = text(
    f"SELECT {COLUMNS}, networks, network_count FROM binding b {NETWORKS} WHERE b.id = ANY (:ids)"  # noqa: S608
)
_BY_KEYS = text(
    f"SELECT {COLUMNS}, networks, network_count FROM binding b {NETWORKS} WHERE b.key_hash = ANY (:fingerprints)"  # noqa: S608
)
