"""A client that leaves ends its exchange at once: the upstream must not spend quota on unread tokens."""

import asyncio
import contextlib

import pytest

from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

STREAMED = {"model": "m", "stream": True, "messages": []}


async def test_in_the_middle_of_a_stream(client, stub):
    headers = {"x-stub-frames": "100000", "x-stub-interval-ms": "20"}
    async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=headers) as response:
        await anext(response.aiter_raw())
    await eventually(lambda: stub.stats.aborted == 1)


async def test_before_the_upstream_answers(client, stub):
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=STREAMED, headers={"x-stub-stall": "head"}))
    await eventually(lambda: stub.requests and stub.requests[-1].complete)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await eventually(lambda: stub.stats.aborted == 1)


async def test_in_the_middle_of_its_upload(client, stub, gateway, key):
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-real-ip: 203.0.113.7\r\n"
        "content-length: 1000000\r\n\r\nbegin".encode()
    )
    await eventually(lambda: stub.requests and stub.requests[-1].body_bytes)
    writer.close()
    await eventually(lambda: stub.stats.aborted == 1)


async def test_others_do_not_notice(client, stub):
    headers = {"x-stub-frames": "20", "x-stub-interval-ms": "20"}

    async def leaves() -> None:
        async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=headers) as response:
            await anext(response.aiter_raw())

    async def stays() -> bytes:
        return (await client.post("/v1/chat/completions", json=STREAMED, headers=headers)).content

    *_, whole = await asyncio.gather(*(leaves() for _ in range(20)), stays())
    assert whole.rstrip().endswith(b"[DONE]")
    await eventually(lambda: stub.stats.aborted == 20)
