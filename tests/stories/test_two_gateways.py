"""Two gateways over the same stores: one key has one owner, whoever was asked first and whatever happens in between."""

import asyncio
import secrets
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.stories.owners import bound_networks
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
RACES = 40


@pytest.fixture(scope="module")
def gateways(stores, story_dsn) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    upstream_port = free_port()
    shared = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": upstream_port}
    with running_gateway(**shared, name="east") as east, running_gateway(**shared, name="west", workers=2) as west:
        yield east, west


async def use(gateway: GatewayProcess, client: httpx.AsyncClient, key: str, address: str, **headers: str) -> int:
    sent = {"authorization": f"Bearer {key}", "x-real-ip": address, **headers}
    return (await client.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers=sent)).status_code


async def test_first_uses_that_race_on_two_gateways_make_exactly_one_owner(gateways, stores, story_dsn):
    """The loser's request never reaches the upstream's answer, and the winner stays the owner on both gateways."""
    keys = ["sk-" + secrets.token_hex(24) for _ in range(RACES)]
    east_address, west_address = "203.0.113.7", "198.51.100.9"
    async with StubServer(keys, port=gateways[0].upstream_port), httpx.AsyncClient(timeout=30) as client:
        for key in keys:
            statuses = await asyncio.gather(
                use(gateways[0], client, key, east_address), use(gateways[1], client, key, west_address)
            )
            assert sorted(statuses) == [200, 403]
            owner = east_address if statuses[0] == 200 else west_address
            assert bound_networks(stores, story_dsn, key) == [f"{owner}/32"]
            for gateway in gateways:
                assert await use(gateway, client, key, east_address) == (200 if owner == east_address else 403)
                assert await use(gateway, client, key, west_address) == (200 if owner == west_address else 403)


async def test_while_a_first_use_is_in_flight_others_are_refused_on_both(gateways):
    """The first answer takes as long as it likes: nobody else gets in meanwhile, but the same address does."""
    key = "sk-" + secrets.token_hex(24)
    async with StubServer([key], port=gateways[0].upstream_port) as stub, httpx.AsyncClient(timeout=30) as client:
        slow = asyncio.create_task(use(gateways[0], client, key, "203.0.113.7", **{"x-stub-delay-ms": "1500"}))
        await eventually(lambda: stub.requests)
        for gateway in gateways:
            assert await use(gateway, client, key, "198.51.100.9") == 403
            assert await use(gateway, client, key, "203.0.113.7") == 200
        assert await slow == 200


async def test_a_gateway_that_dies_with_a_first_use_in_flight_leaves_no_owner_behind(stores, story_dsn):
    key = "sk-" + secrets.token_hex(24)
    shared = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": free_port()}
    with running_gateway(**shared, name="dies") as dying:
        async with StubServer([key], port=dying.upstream_port) as stub, httpx.AsyncClient(timeout=30) as client:
            first = asyncio.create_task(use(dying, client, key, "203.0.113.7", **{"x-stub-stall": "head"}))
            await eventually(lambda: stub.requests)
            dying.process.kill()
            with pytest.raises(httpx.TransportError):
                await first
            assert bound_networks(stores, story_dsn, key) == []
