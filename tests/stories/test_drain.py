"""A gateway that is told to stop: open answers are finished, or cut when the time is over; nobody new is served."""

import asyncio
import json
import secrets
import signal

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import free_port, running_gateway

pytestmark = pytest.mark.anyio

STREAMED = {"model": "m", "messages": [], "stream": True}


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
