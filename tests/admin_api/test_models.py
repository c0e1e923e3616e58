"""The tables that the migrations make: the same as the models say, and safe to make."""

import subprocess
import sys
from datetime import UTC, datetime

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from admin_api.models import metadata
from migrations import run
from sentinel.services import Stores
from tests.support import databases

pytestmark = pytest.mark.anyio


def is_partition(name: str) -> bool:
    return name == "alembic_version" or (name.startswith("intercept_") and name != "intercept")


async def test_models_and_migrations_describe_the_same_schema(pg_dsn):
    def difference(connection):
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "table" or not is_partition(name),
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(pg_dsn), poolclass=NullPool
    )
    async with engine.connect() as connection:
        found = await connection.run_sync(difference)
    await engine.dispose()
    assert found == []


async def test_what_models_promise_by_check_is_in_the_database(pg):
    """Alembic does not compare CHECK constraints."""
    promised = {
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    present = await pg.fetch(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
    )
    assert {name["conname"] for name in present} == promised
    assert promised


def test_two_processes_may_migrate_at_once(stores: Stores):
    databases.sql(stores.postgres, "DROP DATABASE IF EXISTS migrated_twice WITH (FORCE)")
    databases.sql(stores.postgres, "CREATE DATABASE migrated_twice")
    dsn = stores.postgres.dsn_of("migrated_twice")
    assert run.current(dsn) is None
    command = [sys.executable, "-c", "import sys; from migrations.run import upgrade; upgrade(sys.argv[1])", dsn]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert run.current(dsn) == run.head()


INTERCEPT = """
INSERT INTO intercept (event_id, at, key_hash, key_hint, client, reason, enforced, method, path, user_agent, gateway)
VALUES ($1, $2, '', '', '10.0.0.1', 'key_banned', true, 'POST', '/', '', 'test') ON CONFLICT DO NOTHING
"""


async def test_intercepts_of_a_month_without_partition_are_kept_and_move_when_it_gets_one(pg):
    at = datetime(2031, 5, 31, 23, 59, 59, tzinfo=UTC)
    await pg.execute("SET timezone = 'Asia/Shanghai'")
    for _ in range(2):
        await pg.execute(INTERCEPT, b"one", at)
    assert await pg.fetch("SELECT tableoid::regclass::text AS place FROM intercept") == [("intercept_default",)]
    ensure = "SELECT intercept_ensure_partitions($1, 2)"
    assert await pg.fetchval(ensure, at) == 2
    assert await pg.fetchval(ensure, at) == 0
    await pg.execute(INTERCEPT, b"one", at)
    await pg.execute(INTERCEPT, b"two", datetime(2031, 6, 1, tzinfo=UTC))
    placed = await pg.fetch("SELECT event_id, tableoid::regclass::text FROM intercept ORDER BY at")
    assert placed == [(b"one", "intercept_2031_05"), (b"two", "intercept_2031_06")]


async def test_partitions_have_the_indexes_and_are_made_ahead_by_the_migration(pg):
    partitions = await pg.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'intercept'::regclass"
    )
    now = datetime.now(UTC)
    assert f"intercept_{now:%Y_%m}" in {row["name"] for row in partitions}
    assert len(partitions) == 4
    indexes = await pg.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = $1", f"intercept_{now:%Y_%m}")
    assert indexes == 8


async def test_versions_grow_over_unbinding_and_binding_again(pg):
    insert = (
        "INSERT INTO binding (key_hash, key_hint, first_used_at, last_used_at) "
        "VALUES ($1, '', now(), now()) RETURNING version"
    )
    first = await pg.fetchval(insert, b"k" * 32)
    tombstone = await pg.fetchval("DELETE FROM binding RETURNING nextval('binding_version_seq')")
    assert first < tombstone < await pg.fetchval(insert, b"k" * 32)


async def test_looking_for_keys_around_an_address_can_use_the_index(pg):
    await pg.execute("SET enable_seqscan = off")
    plan = await pg.fetch("EXPLAIN SELECT binding_id FROM binding_network WHERE network >>= '10.0.0.1'::inet")
    assert any("ix_binding_network_network" in row[0] for row in plan)
