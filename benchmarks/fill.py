"""``python -m benchmarks.fill``: a database as a large installation has it, to measure lists on.

Fills the empty tables of PG_DSN with COPY: bindings with one network each (a tenth IPv6), last used over the last
ninety days, and intercepts over the same time, most of them of few keys, as leaks are. The same number gives the same
rows. Indexes and unique constraints are taken off first and made again afterwards: quicker by far. Needs a superuser.
"""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import click

ROWS_AT_ONCE = 20_000
DAYS = 90
LEAKED_SHARE = 1_000
"""One key in so many is leaked and has nearly all intercepts."""

INDEXES = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY($1::regclass[]) AND NOT i.indisunique
  AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = i.indexrelid)
"""

UNIQUE = """
SELECT conrelid::regclass::text AS of, conname AS name, pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE conrelid = ANY($1::regclass[]) AND contype = 'u'
"""

TABLES = ["binding", "binding_network", "intercept"]


@click.command()
@click.option("--bindings", default=1_000_000, show_default=True)
@click.option("--intercepts", default=1_000_000, show_default=True)
def command(bindings: int, intercepts: int) -> None:
    """Fill the empty database of PG_DSN."""
    dsn = os.environ.get("PG_DSN")
    if not dsn:
        sys.exit("fill: PG_DSN is missing: a migrated, empty database")
    asyncio.run(fill(dsn, bindings, intercepts))


async def fill(dsn: str, bindings: int, intercepts: int) -> None:
    """Refuses tables that have rows: this is for databases that nobody needs."""
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM binding) OR EXISTS (SELECT FROM intercept)"):
            sys.exit("fill: the tables have rows already; give it an empty database")
        now = datetime.now(UTC)
        await connection.execute(
            "SELECT intercept_ensure_partitions($1, $2)", now - timedelta(days=DAYS + 1), DAYS // 28 + 2
        )
        uniques = await connection.fetch(UNIQUE, TABLES)
        for unique in uniques:
            await connection.execute(f"ALTER TABLE {unique['of']} DROP CONSTRAINT {unique['name']}")
        indexes = await connection.fetch(INDEXES, TABLES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        await connection.execute("SET session_replication_role = replica")  # no look-up for each foreign key
        await _copy(connection, "binding", BINDING_COLUMNS, bindings, lambda n: _binding(n, now))
        await _copy(connection, "binding_network", NETWORK_COLUMNS, bindings, _network)
        await connection.execute("SELECT setval('binding_id_seq', $1)", bindings)
        await _copy(connection, "intercept", INTERCEPT_COLUMNS, intercepts, lambda n: _intercept(n, bindings, now))
        await connection.execute("SET maintenance_work_mem = '1GB'")
        for unique in uniques:
            made = f"ALTER TABLE {unique['of']} ADD CONSTRAINT {unique['name']} {unique['definition']}"
            await _timed(f"constraint {unique['name']}", connection.execute(made, timeout=None))
        for index in indexes:
            await _timed(f"index {index['name']}", connection.execute(_whole(index["definition"]), timeout=None))
        await _timed("analyze", connection.execute("ANALYZE", timeout=None))
    finally:
        await connection.close()


def _whole(definition: str) -> str:
    """PostgreSQL gives a partitioned table's index without those of its partitions."""
    return definition.replace(" ON ONLY ", " ON ", 1)


async def _copy(connection: Any, table: str, columns: list[str], rows: int, line_of: Callable[[int], str]) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for start in range(1, rows + 1, ROWS_AT_ONCE):
            yield "".join(line_of(n) for n in range(start, min(start + ROWS_AT_ONCE, rows + 1))).encode()

    await _timed(f"{rows:,} rows of {table}", connection.copy_to_table(table, source=lines(), columns=columns))


async def _timed(what: str, work: Any) -> None:
    began = time.monotonic()
    await work
    print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


BINDING_COLUMNS = ["id", "key_hash", "key_hint", "first_used_at", "last_used_at", "last_ip", "request_count"]
NETWORK_COLUMNS = ["binding_id", "network", "source"]
INTERCEPT_COLUMNS = [
    *("event_id", "at", "key_hash", "key_hint", "client", "reason", "enforced"),
    *("method", "path", "user_agent", "gateway", "repeat_count"),
]


def _digest(kind: bytes, number: int) -> bytes:
    """The chances of one row: a seeded generator for each would take longer than everything else."""
    return hashlib.sha256(b"%b %d" % (kind, number)).digest()


def _share(digest: bytes, start: int) -> float:
    """Between 0 and 1, from four bytes of it."""
    return int.from_bytes(digest[start : start + 4]) / 2**32


def _hint(key: str) -> str:
    return f"{key[:4]}…{key[-4:]}"


def _address(number: int) -> str:
    if number % 10 == 0:
        return f"2001:db8:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}::1"
    return f"{10 + number % 90}.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def _binding(number: int, now: datetime) -> str:
    digest = _digest(b"key", number)
    key = digest.hex()
    # Not by the digest's ends, which the hint shows: hints and times would belong together as they never do.
    used = now - timedelta(seconds=_share(digest, 12) * DAYS * 86_400)
    first = used - timedelta(days=_share(digest, 4) * 300)
    requests = int(1 / (_share(digest, 8) + 1e-6))
    return (
        f"{number}\t\\\\x{key}\t{_hint(key)}\t{first.isoformat()}\t{used.isoformat()}\t{_address(number)}\t{requests}\n"
    )


def _network(number: int) -> str:
    address = _address(number)
    network = f"{address[:-1]}/64" if ":" in address else f"{address}/32"
    return f"{number}\t{network}\tfirst_use\n"


def _intercept(number: int, bindings: int, now: datetime) -> str:
    digest = _digest(b"event", number)
    leaked = _share(digest, 0) < 0.95
    of = 1 + int(_share(digest, 4) * bindings)
    if leaked:
        of = 1 + of // LEAKED_SHARE * LEAKED_SHARE % bindings
    key = _digest(b"key", of).hex()
    at = now - timedelta(seconds=_share(digest, 8) * DAYS * 86_400)
    event_id = int(at.timestamp() * 1000).to_bytes(6, "big").hex() + digest[12:22].hex()
    client = _address(int.from_bytes(digest[22:26]) >> 1)
    enforced = "f" if number % 50 == 0 else "t"
    return (
        f"\\\\x{event_id}\t{at.isoformat()}\t\\\\x{key}\t{_hint(key)}\t{client}\tkey_bound_to_other_address"
        f"\t{enforced}\tPOST\t/v1/chat/completions\tOpenAI/Python 2.1\tgateway-{number % 4}\t1\n"
    )


if __name__ == "__main__":
    command()
