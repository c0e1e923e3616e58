"""The admin API over real HTTP: one server process per test worker, emptied stores for each test that takes `api`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import redis

from sentinel.services import Stores
from tests.support import admin, databases
from tests.support.admin import AdminServer
from tests.support.receivers import Receiver, receiver

AsRole = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def admin_database(stores: Stores, migrated_template: str) -> Iterator[str]:
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def admin_server(stores: Stores, admin_database: str) -> Iterator[AdminServer]:
    """Shared by all tests of this worker: leave it running. Tests that break something start `running_admin`."""
    with admin.running_admin(admin_database, stores.redis_url) as server:
        yield server


@pytest.fixture
async def admin_dsn(admin_database: str) -> str:
    """The server's database with every table empty: the operator `admin` comes back with the first login."""
    connection = await asyncpg.connect(admin_database)
    try:
        await connection.execute(f"TRUNCATE {admin.TABLES} CASCADE")
    finally:
        await connection.close()
    return admin_database


@pytest.fixture
async def admin_pg(admin_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(admin_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def admin_url(admin_server: AdminServer, admin_dsn: str, redis_url: str) -> str:
    """The server's URL without a path, its PostgreSQL and Valkey empty."""
    return admin_server.url


@pytest.fixture
async def as_role(admin_url: str, admin_dsn: str) -> AsyncIterator[AsRole]:
    """``await as_role("viewer")``: a client signed in as a new operator of that role.

    Its paths are relative to ``/admin/api``. ``name`` (by default the role and a number) and ``address`` can be chosen.
    """
    clients: list[httpx.AsyncClient] = []

    async def sign_in(role: str, *, name: str | None = None, address: str = admin.ADDRESS) -> httpx.AsyncClient:
        token = await admin.token_for(admin_dsn, name or f"{role}-{len(clients)}", role)
        clients.append(admin.client(admin_url, token, address=address))
        return clients[-1]

    yield sign_in
    for each in clients:
        await each.aclose()


@pytest.fixture
async def api(as_role: AsRole) -> httpx.AsyncClient:
    """Signed in as the administrator `root`: ``await api.get("/bindings")``."""
    return await as_role("admin", name="root")


@pytest.fixture
async def anonymous(admin_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The same without a token."""
    async with admin.client(admin_url) as client:
        yield client


@pytest.fixture
def ask(stores: Stores, pg_dsn: str) -> Callable[[str], str]:
    """Asks the test's own database for one value, without an event loop: for `eventually`."""
    return lambda statement: databases.sql(stores.postgres, statement, urlsplit(pg_dsn).path[1:])


@pytest.fixture
def stream(redis_url: str) -> Iterator[redis.Redis]:
    """The emptied Valkey, as tests write events to it."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def there() -> Iterator[Receiver]:
    """Where alerts can be sent to on this machine; `Receiver` says how it can be told to answer."""
    with receiver() as running:
        yield running
