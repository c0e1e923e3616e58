"""Stores that die or hang under a running gateway: known keys go on, unknown ones wait their turn, nothing is lost."""

import secrets
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from benchmarks.stub import StubServer
from sentinel.services import Stores
from tests.stories.owners import bound_networks, rows_of
from tests.support.gateways import GatewayProcess, free_port, running_gateway, running_worker
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
OWNER, STRANGER = "203.0.113.7", "198.51.100.9"


@pytest.fixture
def gateway(own_stores: Stores) -> Iterator[GatewayProcess]:
    with running_gateway(
        pg_dsn=own_stores.pg_dsn,
        redis_url=own_stores.redis_url,
        upstream_port=free_port(),
        SENTINEL_PG_TIMEOUT_MS="500",
    ) as running:
        yield running


@pytest.fixture
async def stub(gateway: GatewayProcess) -> AsyncIterator[StubServer]:
    async with StubServer(any_key=True, port=gateway.upstream_port) as running:
        yield running


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as running:
        yield running


def new_key() -> str:
    return "sk-" + secrets.token_hex(24)


async def use(client: httpx.AsyncClient, key: str, address: str) -> int:
    headers = {"authorization": f"Bearer {key}", "x-real-ip": address}
    return (await client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code


@pytest.mark.parametrize("how", ["killed", "hanging"])
async def test_without_postgresql_known_keys_go_on_and_new_ones_are_refused_until_it_is_back(
    client, stub, own_stores, how
):
    known, new = new_key(), new_key()
    assert await use(client, known, OWNER) == 200
    if how == "killed":
        own_stores.postgres.kill()
    else:
        own_stores.postgres.pause()
    assert await use(client, known, OWNER) == 200
    assert await use(client, known, STRANGER) == 403
    refused = await client.post(
        "/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {new}", "x-real-ip": OWNER}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "binding_store_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    if how == "killed":
        own_stores.postgres.start()
    else:
        own_stores.postgres.resume()

    async def served() -> bool:
        return await use(client, new, OWNER) == 200

    await eventually_async(served)
    assert await use(client, new, STRANGER) == 403


@pytest.mark.parametrize("how", ["killed", "hanging"])
async def test_without_redis_postgresql_alone_decides(client, stub, own_stores, how):
    known, new = new_key(), new_key()
    assert await use(client, known, OWNER) == 200
    if how == "killed":
        own_stores.valkey.kill()
    else:
        own_stores.valkey.pause()
    assert await use(client, known, OWNER) == 200
    assert await use(client, known, STRANGER) == 403
    assert await use(client, new, OWNER) == 200
    assert await use(client, new, STRANGER) == 403
    assert bound_networks(own_stores, own_stores.pg_dsn, new) == [f"{OWNER}/32"]
    if how == "hanging":
        own_stores.valkey.resume()


async def test_refusals_made_while_redis_was_away_become_rows_when_it_is_back(client, stub, own_stores, gateway):
    key = new_key()
    assert await use(client, key, OWNER) == 200
    own_stores.valkey.kill()
    for number in range(1, 6):
        assert await use(client, key, f"198.51.100.{number}") == 403
    own_stores.valkey.start()
    with running_worker(gateway):

        async def recorded() -> bool:
            rows = rows_of(own_stores, own_stores.pg_dsn, "SELECT client FROM intercept ORDER BY client")
            return rows == [f"198.51.100.{number}" for number in range(1, 6)]

        await eventually_async(recorded)


async def test_what_was_recorded_survives_the_gateway_and_the_worker(client, stub, own_stores, gateway):
    """Refusals and uses are rows in the end, with the counts that a user would count, also across a stop."""
    key = new_key()
    for _ in range(3):
        assert await use(client, key, OWNER) == 200
    assert await use(client, key, STRANGER) == 403
    assert await use(client, key, STRANGER) == 403
    assert gateway.stop() == 0
    with running_worker(gateway):
        statement = (
            "SELECT concat_ws('|', request_count, intercept_count, host(last_ip), "
            "(SELECT sum(repeat_count) FROM intercept), "
            "(SELECT string_agg(DISTINCT reason || '|' || host(peer), ',') FROM intercept)) "
            "FROM binding"
        )

        async def recorded() -> bool:
            rows = rows_of(own_stores, own_stores.pg_dsn, statement)
            return rows == [f"3|2|{OWNER}|2|key_bound_to_other_address|127.0.0.1"]

        await eventually_async(recorded)
