"""Bindings straight in the tables, and what PostgreSQL and Redis hold of them afterwards."""

import contextlib
import ipaddress
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from redis.asyncio import Redis

from admin_api import keys
from proxy_core import keyspace
from proxy_core.cache import decode_entry
from proxy_core.contracts import Binding, KeyIdentity, UpstreamProfile
from proxy_core.credentials import Credentials
from tests.support.admin import HMAC_SECRET

CREDENTIALS = Credentials(HMAC_SECRET.encode(), UpstreamProfile.NEW_API)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def new_key() -> str:
    return "sk-" + secrets.token_hex(24)


def identity(key: str) -> KeyIdentity:
    return keys.identify(CREDENTIALS, key)


async def bind(pg: Any, key: str, *networks: str, **columns: Any) -> int:
    """The id of a new binding, first used long ago; ``columns`` replaces what the row would have."""
    known = identity(key)
    row = {
        "key_hash": known.fingerprint,
        "key_hint": known.hint,
        "first_used_at": LONG_AGO,
        "last_used_at": LONG_AGO + timedelta(hours=1),
        **columns,
    }
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    binding_id = await pg.fetchval(
        f"INSERT INTO binding ({', '.join(row)}) VALUES ({places}) RETURNING id", *row.values()
    )
    for network in networks:
        await pg.execute(
            "INSERT INTO binding_network (binding_id, network, source, created_at) VALUES ($1, $2, 'first_use', $3)",
            binding_id, ipaddress.ip_network(network), LONG_AGO,
        )  # fmt: skip
    return int(binding_id)


async def bind_many(pg: Any, count: int, **columns: Any) -> list[int]:
    return [await bind(pg, new_key(), f"198.51.{n // 256}.{n % 256}/32", **columns) for n in range(count)]


async def entry_of(redis_url: str, key: str) -> Binding | str | None:
    """What gateways read in Redis; ``"absent"`` if nothing is there."""
    fingerprint = identity(key).fingerprint
    async with Redis.from_url(redis_url) as redis:
        value = await redis.get(keyspace.binding(fingerprint))
    return "absent" if value is None else decode_entry(value, fingerprint)


async def audit_of(pg: Any, binding_id: int) -> list[Any]:
    return await pg.fetch(
        "SELECT action, actor, reason, before, after FROM admin_audit"
        " WHERE subject_kind = 'binding' AND subject_id = $1 ORDER BY id",
        str(binding_id),
    )
