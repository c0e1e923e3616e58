"""A gateway that is told to stop: open answers are finished, or cut when the time is over; nobody new is served."""

import asyncio
import json
import secrets
import signal

import httpx
import pytest
import redis

from benchmarks.stub import StubServer
from proxy_core import keyspace
from tests.support.gateways import free_port, running_gateway
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
STREAMED = {**CHAT, "stream": True}


def headers(**more: str) -> dict[str, str]:
    return {"authorization": "Bearer sk-" + secrets.token_hex(24), "x-real-ip": "203.0.113.7", **more}


async def test_an_open_stream_is_finished_before_the_gateway_ends(stores, story_dsn):
    port = free_port()
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port) as gateway:
        async with StubServer(any_key=True, port=port), httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            paced = headers(**{"x-stub-interval-ms": "50", "x-stub-frames": "20"})
            async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=paced) as response:
                lines = response.aiter_lines()
                await anext(lines)
                gateway.process.send_signal(signal.SIGTERM)
                rest = [line async for line in lines]
            assert rest[-2:] == ["data: [DONE]", ""] or rest[-1] == "data: [DONE]"
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0


async def test_a_stream_without_end_is_cut_when_the_drain_time_is_over(stores, story_dsn):
    port = free_port()
    with running_gateway(
        pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port, SENTINEL_DRAIN_TIMEOUT_S="0.5"
    ) as gateway:
        async with StubServer(any_key=True, port=port), httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            stalled = headers(**{"x-stub-stall": "3", "x-stub-interval-ms": "0"})
            async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=stalled) as response:
                lines = response.aiter_lines()
                first = await anext(lines)
                assert json.loads(first.removeprefix("data: "))
                gateway.process.send_signal(signal.SIGTERM)
                with pytest.raises(httpx.RemoteProtocolError):
                    async for _ in lines:
                        pass
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0
            assert "Traceback" not in gateway.log_text()


async def test_notice_is_given_while_requests_are_still_served(stores, story_dsn):
    """Whoever asks is answered, and told to ask elsewhere next time; a second signal ends the notice."""
    port = free_port()
    with running_gateway(
        pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port, SENTINEL_DRAIN_NOTICE_S="3600"
    ) as gateway:
        async with StubServer(any_key=True, port=port), httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            assert "connection" not in (await client.post("/v1/chat/completions", json=CHAT, headers=headers())).headers
            slow = asyncio.create_task(
                client.post("/v1/chat/completions", json=CHAT, headers=headers(**{"x-stub-delay-ms": "1000"}))
            )
            gateway.process.send_signal(signal.SIGTERM)
            await eventually_async(lambda: says_that_it_drains(client))
            assert (await client.get("/health")).status_code == 200
            for asked in (await client.post("/v1/chat/completions", json=CHAT, headers=headers()), await slow):
                assert (asked.status_code, asked.headers["connection"]) == (200, "close")
            refused = await client.post("/v1/chat/completions", json=CHAT, headers={"x-real-ip": "no address"})
            assert (refused.status_code, refused.headers["connection"]) == (400, "close")
            gateway.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0


async def says_that_it_drains(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/ready")
    return answer.status_code == 503 and answer.json()["draining"]


async def test_the_last_use_of_a_key_is_recorded(stores, story_dsn):
    """Uses are written every few seconds, and at the stop: a gateway that ends takes none with it."""
    port = free_port()
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port) as gateway:
        async with StubServer(any_key=True, port=port), httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            used = headers(**{"x-real-ip": "192.0.2.201"})  # no other test's address
            assert (await client.post("/v1/chat/completions", json=CHAT, headers=used)).status_code == 200
            gateway.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0
    with redis.Redis.from_url(stores.redis_url) as left:
        batches = [fields for _, fields in left.xrange(keyspace.EVENTS_STREAM)]
    assert b"192.0.2.201" in repr(batches).encode()
