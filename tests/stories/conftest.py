"""Real processes for the stories: a gateway under Granian in front of a stub model API, on real stores."""

import contextlib
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from benchmarks.stub import StubServer
from sentinel.services import Stores
from tests.support import admin, databases
from tests.support.gateways import GatewayProcess, free_port, running_gateway


@pytest.fixture(scope="session")
def story_dsn(stores: Stores, migrated_template: str) -> Iterator[str]:
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def gateway(stores: Stores, story_dsn: str) -> Iterator[GatewayProcess]:
    """One gateway with one worker for the stories that leave it as they found it: each uses keys of its own."""
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=free_port()) as running:
        yield running


@pytest.fixture
def key() -> str:
    """A model key that no other test uses."""
    return "sk-" + uuid.uuid4().hex + secrets.token_hex(8)


@pytest.fixture
async def stub(gateway: GatewayProcess, key: str) -> AsyncIterator[StubServer]:
    """The upstream behind `gateway`, accepting `key`."""
    async with StubServer([key], port=gateway.upstream_port) as running:
        yield running


@pytest.fixture
async def client(gateway: GatewayProcess, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway with `key`, whose address nginx (here: 127.0.0.1, which is trusted) has seen."""
    headers = {"authorization": f"Bearer {key}", "x-real-ip": "203.0.113.7"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as running:
        yield running
        with contextlib.suppress(httpx.HTTPError):
            await running.aclose()


@pytest.fixture(scope="module")
def admin_server(stores: Stores, story_dsn: str) -> Iterator[admin.AdminServer]:
    """The admin API over the stores that the stories' gateways have."""
    with admin.running_admin(story_dsn, stores.redis_url) as server:
        yield server


@pytest.fixture
async def operator(admin_server: admin.AdminServer, story_dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    token = await admin.token_for(story_dsn, f"operator-{secrets.token_hex(4)}", "operator")
    async with admin.client(admin_server.url, token) as client:
        yield client
