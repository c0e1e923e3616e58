"""Ten thousand clients that keep their connections, each with an address and a key of its own, through one nginx."""

import asyncio
import contextlib
import os
import resource
from collections import Counter
from collections.abc import Iterator, Sequence

import asyncpg
import psutil
import pytest

from benchmarks.stub import StubServer
from sentinel.services import Stores
from tests.support.crowd import NETWORK, Crowd, running_crowd
from tests.support.edge import Edge, running_edge
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

CLIENTS = 10_000
CROWDS = 4
DESCRIPTORS = CLIENTS + 1_000
"""What one worker of nginx may need: they share clients out as they like."""

NGINX_BYTES_A_CLIENT = 64 * 1024
GATEWAY_DESCRIPTORS = 1_000
GATEWAY_BYTES = 200_000_000
"""By which a gateway may grow: 10,000 bindings in the memory of each of its two workers, and what serving takes."""

PATIENT = {"SENTINEL_REDIS_TIMEOUT_MS": "5000", "SENTINEL_PG_TIMEOUT_MS": "20000"}
"""For a machine that is busy with other tests: slow is no outage here."""


@pytest.fixture
def descriptors() -> None:
    """Enough of them for so many clients; in continuous integration their lack is a failure."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        lack = (
            f"{CLIENTS} clients need {DESCRIPTORS} descriptors in one process, this machine allows {hard} (ulimit -Hn)"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(lack)
        pytest.skip(lack)


@pytest.fixture
def gateways(descriptors: None, stores: Stores, edge_dsn: str) -> Iterator[list[GatewayProcess]]:
    shared = {"pg_dsn": edge_dsn, "redis_url": stores.redis_url, "upstream_port": free_port(), "workers": 2}
    with (
        running_gateway(**shared, **PATIENT, name="left") as left,
        running_gateway(**shared, **PATIENT, name="right") as right,
    ):
        yield [left, right]


@contextlib.contextmanager
def crowds(edge: Edge) -> Iterator[list[Crowd]]:
    each = CLIENTS // CROWDS
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running_crowd(edge, first=number * each, count=each)) for number in range(CROWDS)]


async def results(running: list[Crowd]) -> Counter[str]:
    counted = await asyncio.gather(*(asyncio.to_thread(crowd.results) for crowd in running))
    return sum(counted, Counter())


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


async def test_ten_thousand_keep_their_connections_keys_and_addresses(
    gateways: list[GatewayProcess], edge_dsn: str
) -> None:
    """Each is served with its own key and refused with another's, by its own address, on the connection that it opened
    first; the gateways know only of requests, not of clients that are silent."""
    with running_edge([gateway.port for gateway in gateways]) as edge:
        fresh_bytes = [memory_bytes(gateway.processes()) for gateway in gateways]
        async with StubServer(any_key=True, port=gateways[0].upstream_port, record=False) as stub:
            with crowds(edge) as running:
                assert await results(running) == {"200": CLIENTS}
                for key, status in (("other", "403"), ("own", "200")):
                    for crowd in running:
                        crowd.ask(key)
                    assert await results(running) == {status: CLIENTS}

                assert stub.stats.requests == 2 * CLIENTS
                nginx = [psutil.Process(number) for number in edge.workers()]
                assert CLIENTS <= sum(process.num_fds() for process in nginx) < CLIENTS + 1_000
                assert memory_bytes(nginx) < CLIENTS * NGINX_BYTES_A_CLIENT
                await eventually(lambda: not any(gateway.connections() for gateway in gateways))
                for gateway, before in zip(gateways, fresh_bytes, strict=True):
                    assert memory_bytes(gateway.processes()) - before < GATEWAY_BYTES
                    assert all(process.num_fds() < GATEWAY_DESCRIPTORS for process in gateway.processes())
        connection = await asyncpg.connect(edge_dsn)
        owners = await connection.fetchval(
            "SELECT count(DISTINCT (binding_id, network)) FROM binding_network WHERE network << $1::cidr", NETWORK
        )
        await connection.close()
        assert owners == CLIENTS
