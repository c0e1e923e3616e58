"""WebSocket through nginx: the console's is a real one here; any other upgrade is not offered on."""

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.stub import StubServer
from tests.support.edge import CLIENT, Edge, running_edge
from tests.support.gateways import GatewayProcess

pytestmark = pytest.mark.anyio


async def test_the_console_keeps_its_socket(gateways: tuple[GatewayProcess, GatewayProcess]):
    """Messages both ways, the address that nginx saw, the host with its port (the console compares it with Origin)."""
    heads = []

    async def echo(connection: ServerConnection) -> None:
        assert connection.request is not None
        heads.append(connection.request.headers)
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with running_edge([gateway.port for gateway in gateways], console=port) as edge:
            url = f"wss://127.0.0.1:{edge.port}/admin/ui/_nicegui_ws/socket.io/"
            async with connect(
                url, ssl=edge.tls(), additional_headers={"X-Real-IP": "203.0.113.66"}, local_addr=(CLIENT, 0)
            ) as client:
                for message in ("hello", b"\x00\x01", "x" * 100_000):
                    await client.send(message)
                    assert await client.recv() == message
            assert heads[0]["x-real-ip"] == CLIENT
            assert heads[0]["host"] == f"127.0.0.1:{edge.port}"
            with pytest.raises(websockets.InvalidStatus):
                await connect(f"wss://127.0.0.1:{edge.port}/health", ssl=edge.tls())


async def test_a_realtime_socket_reaches_the_upstream(edge: Edge, stub: StubServer, key: str):
    """Through nginx and the gateway's relay; from another address it is refused before the upgrade."""
    url = f"wss://127.0.0.1:{edge.port}/v1/realtime?model=m"
    headers = {"Authorization": f"Bearer {key}", "X-Real-IP": "127.0.0.10"}
    async with connect(url, ssl=edge.tls(), additional_headers=headers, local_addr=(CLIENT, 0)) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    assert stub.requests[-1].values("x-real-ip") == [CLIENT]
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await connect(url, ssl=edge.tls(), additional_headers=headers, local_addr=("127.0.0.10", 0))


@pytest.mark.parametrize("offer", ["h2c", "h2c, websocket", "tls/1.3", "websocket2"])
async def test_no_other_upgrade_is_passed_on(edge: Edge, stub: StubServer, key: str, offer: str):
    """A tunnel that nginx opens without knowing its protocol would lead past everything that is decided here."""
    async with edge.connection() as (reader, writer):
        writer.write(
            f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nUpgrade: {offer}\r\n"
            "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n".encode()
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert not {"upgrade", "http2-settings", "connection"} & {
        name.lower().decode() for name, _ in stub.requests[-1].headers
    }
