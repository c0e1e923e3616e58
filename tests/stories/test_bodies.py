"""Large bodies pass byte for byte and in bounded memory, whoever is slow."""

import asyncio
import hashlib
import socket
from pathlib import Path

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

SIZE = 50_000_000
GROWTH_LIMIT = 64_000_000


def resident(gateway: GatewayProcess) -> int:
    """Bytes of all processes of the gateway."""
    return sum(process.memory_info().rss for process in gateway.processes())


def peak(gateway: GatewayProcess) -> int:
    """The highest resident size that each process of the gateway ever had, in bytes, added up."""
    total = 0
    for process in gateway.processes():
        status = Path(f"/proc/{process.pid}/status").read_text()
        total += 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return total


def pieces(size: int, seed: bytes = b"piece"):
    block = hashlib.sha512(seed).digest() * 1000
    for start in range(0, size, len(block)):
        yield block[: min(len(block), size - start)]


async def upload(size: int):
    for piece in pieces(size):
        yield piece


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_fifty_megabytes_up(client, stub, gateway, framing):
    before = resident(gateway)
    digest = hashlib.sha256()
    for piece in pieces(SIZE):
        digest.update(piece)
    headers = {"content-length": str(SIZE)} if framing == "length" else {}
    response = await client.post("/v1/files", content=upload(SIZE), headers=headers)
    assert response.json()["sha256"] == digest.hexdigest()
    assert peak(gateway) - before < GROWTH_LIMIT
    recorded = {name.lower() for name, _ in stub.requests[-1].headers}
    assert (b"content-length" in recorded) == (framing == "length")
    assert (b"transfer-encoding" in recorded) == (framing == "chunked")


async def test_fifty_megabytes_down(client, stub, gateway):
    before = resident(gateway)
    digest, direct = hashlib.sha256(), hashlib.sha256()
    async with client.stream("GET", f"/v1/download?bytes={SIZE}") as response:
        async for chunk in response.aiter_raw():
            digest.update(chunk)
    async with (
        httpx.AsyncClient(base_url=stub.url, headers=client.headers) as other,
        other.stream("GET", f"/v1/download?bytes={SIZE}") as response,
    ):
        async for chunk in response.aiter_raw():
            direct.update(chunk)
    assert digest.hexdigest() == direct.hexdigest()
    assert peak(gateway) - before < GROWTH_LIMIT


async def test_a_reader_who_does_not_read_stops_the_upstream_and_costs_bounded_memory(client, stub, gateway, key):
    await client.get("/v1/models")
    before = resident(gateway)
    reader = socket.create_connection(("127.0.0.1", gateway.port))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    headers = f"host: x\r\nauthorization: Bearer {key}\r\nx-real-ip: 203.0.113.7\r\n"
    request = f"GET /v1/download?bytes={10 * SIZE} HTTP/1.1\r\n{headers}\r\n"
    reader.sendall(request.encode())
    try:
        await eventually(lambda: any(connection.paused for connection in stub.connections))
        assert resident(gateway) - before < GROWTH_LIMIT
        assert (await client.get("/v1/models")).status_code == 200
    finally:
        reader.close()
    await eventually(lambda: stub.stats.aborted == 1)


async def test_expect_continue_is_answered_and_a_refused_client_is_spared_the_upload(client, stub, gateway, key):
    first = await client.get("/v1/models")
    assert first.status_code == 200

    async def ask(address: str, body: bytes | None) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-real-ip: {address}\r\n"
            "expect: 100-continue\r\ncontent-length: 5\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if body is not None and head.startswith(b"HTTP/1.1 100 "):
            writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return head

    assert (await ask("203.0.113.7", b"hello")).startswith(b"HTTP/1.1 200 ")
    assert (await ask("198.51.100.9", None)).startswith(b"HTTP/1.1 403 ")


async def test_a_connection_that_was_given_back_is_the_next_requests_alone(stores, story_dsn, key):
    """One connection to the upstream, and requests that queue for it, their bodies in two pieces as nginx passes them
    on: the one that ends must not take the connection away from the one that has it now."""
    limits = {"SENTINEL_UPSTREAM_CONNECTIONS": "1", "SENTINEL_UPSTREAM_POOL_WAIT_S": "60"}
    shared = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": free_port()}
    with running_gateway(**shared, **limits) as gateway:
        async with StubServer([key], port=gateway.upstream_port) as stub:

            async def ask(number: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                writer.write(
                    f"POST /v1/files?number={number} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
                    "x-real-ip: 203.0.113.7\r\nx-stub-delay-ms: 200\r\ncontent-length: 10\r\n\r\nfirst".encode()
                )
                mine = f"number={number}".encode()
                await eventually(lambda: any(request.query == mine and request.body_bytes for request in stub.requests))
                writer.write(b"other")
                status = await reader.readline()
                writer.close()
                return status

            async with asyncio.timeout(60):
                answers = await asyncio.gather(*(ask(number) for number in range(8)))
            assert set(answers) == {b"HTTP/1.1 200 OK\r\n"}
