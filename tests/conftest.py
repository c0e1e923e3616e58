"""Real stores for tests: PostgreSQL and Valkey as `sentinel up` embeds them, one pair per test worker."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from sentinel.services import Stores
from tests.support import databases


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """Shared by all tests of this worker: leave it running. Tests that break a store take `own_stores`."""
    with databases.private_stores() as running:
        yield running


@pytest.fixture(scope="session")
def migrated_cluster() -> Iterator[Path]:
    with databases.migrated_cluster() as cluster:
        yield cluster


@pytest.fixture
def own_stores(migrated_cluster: Path) -> Iterator[Stores]:
    """A pair for this test alone, migrated: stop, kill, pause it (``own_stores.postgres.pause()`` …)."""
    with databases.private_stores(migrated_cluster) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(stores: Stores) -> str:
    return databases.make_template(stores.postgres)


@pytest.fixture
def pg_dsn(stores: Stores, migrated_template: str) -> Iterator[str]:
    """A database of this test's own with the migrations applied."""
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        yield dsn


@pytest.fixture
async def pg(pg_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(pg_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def redis_url(stores: Stores) -> str:
    """An empty Valkey."""
    databases.empty(stores.redis_url)
    return stores.redis_url
