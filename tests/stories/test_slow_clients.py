"""Clients that hardly read or hardly send hold nothing for ever: neither the upstream, nor a seat, nor a stop."""

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Iterator

import httpx
import psutil
import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.sockets import bearer, closed, opened, socket_upstream
from tests.support.vitals import counts_of
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

ENDLESS = 10_000_000_000
IMPATIENT = {
    "SENTINEL_CLIENT_STALL_TIMEOUT_S": "1",
    "SENTINEL_REQUEST_BODY_IDLE_TIMEOUT_S": "1",
    "SENTINEL_REQUEST_BODY_MIN_BYTES_PER_S": "10000",
    "SENTINEL_REQUEST_HEAD_TIMEOUT_S": "3600",
    "SENTINEL_DRAIN_TIMEOUT_S": "0",
}


@pytest.fixture(scope="module")
def gateway(stores, story_dsn) -> Iterator[GatewayProcess]:
    with running_gateway(
        pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=free_port(), name="impatient", **IMPATIENT
    ) as running:
        yield running
        assert "Traceback" not in running.log_text()


@contextlib.contextmanager
def reader_of(gateway: GatewayProcess, key: str, size: int) -> Iterator[socket.socket]:
    """A client that has asked for an answer of that size, and buffers next to nothing of it."""
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", gateway.port))
        reader.setblocking(False)  # noqa: FBT003 - the library's own signature
        head = f"GET /v1/download?bytes={size} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        reader.sendall(f"{head}x-real-ip: 203.0.113.7\r\n\r\n".encode())
        yield reader


async def rest_of(reader: socket.socket) -> int:
    """Reads to the end, whatever that is; how many bytes there were."""
    taken = 0
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            while data := await loop.sock_recv(reader, 1_000_000):
                taken += len(data)
    return taken


def connections_of(gateway: GatewayProcess) -> list[object]:
    """Those that clients have to the gateway, as the system sees them."""
    (worker,) = [
        process for process in psutil.Process(gateway.process.pid).children() if process.net_connections("tcp")
    ]
    return [one for one in worker.net_connections("tcp") if one.laddr.port == gateway.port and one.raddr]


async def count(stores, name: str) -> int:
    return (await counts_of(stores.redis_url, "impatient")).get(name, 0)


async def test_a_reader_that_stops_is_cut_and_recorded(gateway, stores, client, stub, key):
    """The upstream's connection is closed, and the client's; what it has then is no whole answer. Others go on."""
    before = await count(stores, "client_stalled")
    with reader_of(gateway, key, ENDLESS) as reader:
        await eventually(lambda: stub.stats.aborted == 1)
        assert (await client.get("/v1/models")).status_code == 200
        assert await rest_of(reader) < ENDLESS
    await eventually_async(lambda: counted(stores, before + 1))


async def counted(stores, number: int) -> bool:
    return await count(stores, "client_stalled") == number


async def test_a_reader_that_takes_a_byte_now_and_then_is_cut(gateway, stub, key):
    with reader_of(gateway, key, ENDLESS) as reader:

        def cut() -> bool:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                reader.recv(1)
            return stub.stats.aborted == 1

        await eventually(cut)


async def test_an_answer_that_nobody_fetches_leaves_the_server_too(gateway, stub, key):
    """The upstream has long done its part; only the server and the system still hold something."""
    with reader_of(gateway, key, 300_000):
        await eventually(lambda: stub.requests)
        await eventually(lambda: connections_of(gateway) == [])
        assert stub.stats.aborted == 0


async def test_a_websocket_whose_client_does_not_read_is_cut(gateway, stores, key):
    before = await count(stores, "client_stalled")

    async def pour(socket) -> None:
        while True:
            await socket.send(b"x" * 100_000)

    async with socket_upstream(gateway.upstream_port) as upstream:
        upstream.handler = pour
        async with opened(gateway, headers=bearer(key), max_size=None, max_queue=1):
            await eventually(lambda: upstream.sockets)
            assert (await closed(upstream.sockets[0]))[0] == 1001
    await eventually_async(lambda: counted(stores, before + 1))


@pytest.mark.parametrize("framing", ["content-length: 10000000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("refused", [False, True], ids=["passed", "refused"])
async def test_an_upload_of_a_byte_now_and_then_is_given_up(gateway, stub, client, key, framing, refused):
    """408 in the dialect, which says that it may be tried again; what is read only to be thrown away ends too."""
    assert (await client.get("/v1/models")).status_code == 200
    address = "198.51.100.9" if refused else "203.0.113.7"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\nx-real-ip: {address}\r\n{framing}\r\n\r\n"
    writer.write(head.encode())

    async def drip() -> None:
        while True:
            writer.write(b"1\r\na\r\n" if "chunked" in framing else b"a")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            while data := await reader.read(65_536):
                answer += data
    dripping.cancel()
    writer.close()
    assert answer.split(b" ")[1] == (b"403" if refused else b"408")
    assert b'"type":"permission_error"' in answer if refused else b'"type":"timeout_error"' in answer
    await eventually(lambda: all(not request.complete for request in stub.requests[1:]))


@pytest.mark.parametrize("size", [ENDLESS, 3_000_000], ids=["with the upstream's answer open", "with all of it here"])
async def test_a_client_that_does_not_read_does_not_hold_up_a_stop(stores, story_dsn, size):
    """The gateway ends by itself, its records told, and is not killed."""
    port = free_port()
    shared = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": port}
    with running_gateway(**shared, **{**IMPATIENT, "SENTINEL_CLIENT_STALL_TIMEOUT_S": "0"}) as gateway:
        async with StubServer(any_key=True, port=port) as stub, httpx.AsyncClient(base_url=gateway.url) as client:
            with reader_of(gateway, "sk-" + secrets.token_hex(24), size):
                await eventually(lambda: stub.requests)
                assert (await client.get("/health")).status_code == 200
                gateway.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(gateway.process.wait, 60) == 0
            assert "refused to gracefully stop" not in gateway.log_text()
