"""nginx as it is shipped, over TLS, in front of two gateways with two workers each, in front of one stub model API."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from benchmarks.stub import StubServer
from sentinel.services import Stores
from tests.support import databases
from tests.support.edge import Edge, running_edge
from tests.support.gateways import GatewayProcess, free_port, running_gateway


@pytest.fixture(scope="module")
def edge_dsn(stores: Stores, migrated_template: str) -> Iterator[str]:
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def gateways(stores: Stores, edge_dsn: str) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    shared = {"pg_dsn": edge_dsn, "redis_url": stores.redis_url, "upstream_port": free_port(), "workers": 2}
    with running_gateway(**shared, name="east") as east, running_gateway(**shared, name="west") as west:
        yield east, west


@pytest.fixture(scope="module")
def edge(gateways: tuple[GatewayProcess, GatewayProcess]) -> Iterator[Edge]:
    with running_edge([gateway.port for gateway in gateways]) as running:
        yield running


@pytest.fixture
def key() -> str:
    """A model key that no other test uses."""
    return "sk-" + secrets.token_hex(24)


@pytest.fixture
async def stub(gateways: tuple[GatewayProcess, GatewayProcess], key: str) -> AsyncIterator[StubServer]:
    async with StubServer(any_key=True, port=gateways[0].upstream_port) as running:
        yield running
