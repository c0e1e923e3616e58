"""How much a request may be: what is larger is refused in the caller's dialect, before the upstream pays for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import GatewayProcess, free_port, running_gateway

pytestmark = pytest.mark.anyio

BODY_MAX = 100_000
LIMITS = {
    "SENTINEL_REQUEST_TARGET_MAX_BYTES": "300",
    "SENTINEL_REQUEST_HEADERS_MAX_BYTES": "4096",
    "SENTINEL_REQUEST_HEADERS_MAX_COUNT": "20",
    "SENTINEL_REQUEST_BODY_MAX_BYTES": str(BODY_MAX),
}


@pytest.fixture(scope="module")
def limited(stores, story_dsn) -> Iterator[GatewayProcess]:
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=free_port(), **LIMITS) as running:
        yield running


@pytest.fixture
async def upstream(limited: GatewayProcess, key: str) -> AsyncIterator[StubServer]:
    async with StubServer([key], port=limited.upstream_port) as running:
        yield running


@pytest.fixture
async def caller(limited: GatewayProcess, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}", "x-real-ip": "203.0.113.7"}
    async with httpx.AsyncClient(base_url=limited.url, headers=headers, timeout=60) as running:
        yield running


async def pieces(size: int, piece: int = 10_000) -> AsyncIterator[bytes]:
    for _ in range(0, size, piece):
        yield b"a" * piece


def code_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["x-should-retry"] == "false"
    return response.status_code, response.json()["error"]["code"]


async def test_a_long_target(caller, upstream):
    assert (await caller.get("/v1/models?" + "a" * 290)).status_code == 200
    assert code_of(await caller.get("/v1/models?" + "a" * 291)) == (414, "target_too_long")
    assert len(upstream.requests) == 1


async def test_large_headers_and_many(caller, upstream):
    assert code_of(await caller.get("/v1/models", headers={"x-a": "a" * 4096})) == (431, "headers_too_large")
    many = [("x-a", "a")] * 20
    assert code_of(await caller.get("/v1/models", headers=many)) == (431, "headers_too_large")
    assert (await caller.get("/v1/models", headers=many[:10])).status_code == 200
    assert len(upstream.requests) == 1


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(caller, upstream):
    length = {"content-length": str(BODY_MAX + 1)}
    response = await caller.post("/v1/files", content=pieces(BODY_MAX + 1, BODY_MAX + 1), headers=length)
    assert code_of(response) == (413, "body_too_large")
    assert upstream.requests == []
    fits = await caller.post("/v1/files", content=pieces(BODY_MAX), headers={"content-length": str(BODY_MAX)})
    assert fits.status_code == 200


async def test_a_body_that_announces_nothing_is_counted_as_it_passes(caller, upstream):
    fits = await caller.post("/v1/files", content=pieces(BODY_MAX))
    assert (fits.status_code, upstream.requests[-1].body_bytes) == (200, BODY_MAX)
    refused = await caller.post("/v1/files", content=pieces(BODY_MAX + 1, BODY_MAX + 1))
    assert code_of(refused) == (413, "body_too_large")
    assert not upstream.requests[-1].complete


async def test_a_client_that_goes_on_sending_still_reads_why(limited, upstream, key):
    """The answer comes in the middle of the upload."""
    reader, writer = await asyncio.open_connection("127.0.0.1", limited.port)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\nx-real-ip: 203.0.113.7\r\n"
    writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
    chunk = b"2710\r\n" + b"a" * 10_000 + b"\r\n"
    for _ in range(BODY_MAX // 10_000 + 1):
        writer.write(chunk)
    answer = await reader.readuntil(b"request_id")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"type":"request_too_large"' in answer
    writer.close()
