"""What the upstream's failures look like to a client: an error in its dialect, or a break that no SDK takes for an
end."""

import asyncio

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import free_port, running_gateway

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
STREAMED = {**CHAT, "stream": True}


@pytest.mark.parametrize("cut", ["3", "3 rst"])
async def test_a_stream_that_breaks_off_breaks_off(client, stub, cut):
    headers = {"x-stub-cut-after": cut, "x-stub-interval-ms": "0"}
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/chat/completions", json=STREAMED, headers=headers)


@pytest.mark.parametrize("cut", ["20", "20 rst"])
async def test_a_body_with_a_length_that_breaks_off_breaks_off(client, stub, cut):
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/download?bytes=100000", headers={"x-stub-cut-after": cut})


async def test_a_break_leaves_no_traceback_and_the_gateway_at_work(client, stub, gateway):
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/download?bytes=100000", headers={"x-stub-cut-after": "20"})
    assert (await client.get("/v1/models")).status_code == 200
    assert "Traceback" not in gateway.log_text()


async def test_errors_of_the_upstream_pass_unchanged(client, stub):
    response = await client.post("/v1/chat/completions", json=CHAT, headers={"x-stub-status": "529"})
    assert response.status_code == 529


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/chat/completions", lambda body: body["error"]["code"]),
        ("/v1/messages", lambda body: {"error": "upstream_unavailable"}[body["type"]]),
    ],
)
async def test_nobody_there_is_a_502_in_the_dialect(client, path, code):
    """No stub is running."""
    response = await client.post(path, json=CHAT)
    assert response.status_code == 502
    assert code(response.json()) == "upstream_unavailable"


async def test_limits_for_the_head_and_for_uploads_without_progress(stores, story_dsn, key):
    limits = {"SENTINEL_UPSTREAM_HEAD_TIMEOUT_S": "0.3", "SENTINEL_REQUEST_BODY_IDLE_TIMEOUT_S": "0.3"}
    port = free_port()
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port, **limits) as gateway:
        headers = {"authorization": f"Bearer {key}", "x-real-ip": "203.0.113.7"}
        async with (
            StubServer([key], port=port),
            httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
        ):
            response = await client.post("/v1/chat/completions", json=CHAT, headers={"x-stub-stall": "head"})
            assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")

            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(
                f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Real-IP: 203.0.113.7\r\n"
                "Content-Length: 10\r\n\r\n".encode()
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            assert b"request_timeout" in await reader.read()
            writer.close()
