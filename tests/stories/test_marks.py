"""What an answer says of the gateway itself: under which id the request ran, and how long it was held."""

import re

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import free_port, running_gateway
from tests.support.sockets import ELSEWHERE, HOME, bearer

pytestmark = pytest.mark.anyio

UNTRUSTED = "127.0.0.2"


async def test_a_trusted_peers_request_id_goes_up_and_comes_back(client, stub):
    answer = await client.get("/v1/models", headers={"x-request-id": "nginx-42"})
    assert answer.headers["x-sentinel-request-id"] == "nginx-42"
    assert stub.requests[-1].values("x-request-id") == ["nginx-42"]


async def test_a_request_without_an_id_gets_one_of_its_own(client, stub):
    answers = [await client.get("/v1/models") for _ in range(3)]
    ids = [answer.headers["x-sentinel-request-id"] for answer in answers]
    assert len(set(ids)) == 3
    assert [request.values("x-request-id") for request in stub.requests] == [[number] for number in ids]


async def test_whoever_is_no_trusted_peer_does_not_choose_its_id(gateway, stub, key):
    transport = httpx.AsyncHTTPTransport(local_address=UNTRUSTED)
    async with httpx.AsyncClient(base_url=gateway.url, transport=transport) as stranger:
        answer = await stranger.get("/v1/models", headers=bearer(key) | {"x-request-id": "nginx-42"})
    assert answer.headers["x-sentinel-request-id"] != "nginx-42"
    assert stub.requests[-1].values("x-request-id") == [answer.headers["x-sentinel-request-id"]]


async def test_the_upstreams_own_id_stays_its_own(client, stub, gateway):
    """New API's, which its operator looks for, and any ``x-request-id`` that it has not made up from ours."""
    answer = await client.get("/v1/models", headers={"x-request-id": "nginx-42"})
    assert re.fullmatch("[0-9A-Za-z-]+", answer.headers["x-oneapi-request-id"])
    assert answer.headers["x-oneapi-request-id"] != "nginx-42"
    assert "x-request-id" not in answer.headers


async def test_a_refusal_has_the_id_where_sdks_look_for_it_too(client, stub):
    await client.get("/v1/models")
    answer = await client.get("/v1/models", headers={"x-request-id": "nginx-42", "x-real-ip": ELSEWHERE})
    assert answer.status_code == 403
    assert answer.headers["x-request-id"] == answer.headers["x-sentinel-request-id"] == "nginx-42"


async def test_nobody_is_told_the_time_unless_the_setting_says_so(client, stub):
    assert "server-timing" not in (await client.get("/v1/models")).headers


async def test_the_time_that_a_request_was_held_is_told(stores, story_dsn, key):
    """In milliseconds, on answers, streams and refusals; the upstream's own time is not in it."""
    port = free_port()
    settings = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": port}
    with running_gateway(**settings, SENTINEL_SERVER_TIMING="true") as gateway:
        async with StubServer([key], port=port), httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            for address, status in ((HOME, 200), (HOME, 200), (ELSEWHERE, 403)):
                slow = {"x-real-ip": address, "x-stub-delay-ms": "2000"}
                answer = await client.get("/v1/models", headers=bearer(key) | slow)
                assert answer.status_code == status
                told = re.fullmatch(r"sentinel;dur=([0-9]+\.[0-9]{3})", answer.headers["server-timing"])
                assert told is not None
                assert float(told[1]) > 0
                if status == 200:
                    assert float(told[1]) < answer.elapsed.total_seconds() * 1000 - 1900
