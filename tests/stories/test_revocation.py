"""What is under way when a key is banned, released or bound elsewhere, and when the gateway stops."""

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from proxy_core.roster import LOOK_EVERY_S
from tests.support import admin
from tests.support.gateways import free_port, running_gateway
from tests.support.sockets import SocketUpstream, bearer, closed, opened, socket_upstream
from tests.support.vitals import counts_of
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

STREAMED = {"model": "m", "messages": [], "stream": True}
STALLED = {"x-stub-stall": "3", "x-stub-interval-ms": "0"}


async def ban(operator: httpx.AsyncClient, binding_id: int) -> httpx.Response:
    return await operator.post("/bindings/ban", json={"ids": [binding_id], "reason": "story"})


async def unbind(operator: httpx.AsyncClient, binding_id: int) -> httpx.Response:
    return await operator.post("/bindings/unbind", json={"ids": [binding_id]})


async def bind_elsewhere(operator: httpx.AsyncClient, binding_id: int) -> httpx.Response:
    return await operator.put("/bindings/ip", json={"id": binding_id, "networks": ["192.0.2.0/24"]})


async def bind_wider(operator: httpx.AsyncClient, binding_id: int) -> httpx.Response:
    return await operator.put("/bindings/ip", json={"id": binding_id, "networks": ["203.0.113.0/24"]})


@pytest.fixture
async def upstream(gateway) -> AsyncIterator[SocketUpstream]:
    async with socket_upstream(gateway.upstream_port) as running:
        yield running


async def binding_of(operator: httpx.AsyncClient, key: str) -> int:
    found = await operator.post("/bindings/lookup", json={"key": key})
    return int(found.json()["binding"]["id"])


async def end_of(socket: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the gateway closed it."""
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionClosed) as ended:
            await socket.recv()
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code, ended.value.rcvd.reason


async def works(socket: ClientConnection) -> bool:
    await socket.send("still here")
    return await socket.recv() == "still here"


@pytest.mark.parametrize(
    ("write", "reason"),
    [(ban, "key_banned"), (unbind, "key_released"), (bind_elsewhere, "key_bound_to_other_address")],
)
async def test_an_open_websocket_of_a_revoked_key_is_closed_at_once(gateway, upstream, operator, key, write, reason):
    """And no other: neither a second key's, nor the same address'."""
    other = "sk-" + secrets.token_hex(24)
    async with opened(gateway, headers=bearer(key)) as socket, opened(gateway, headers=bearer(other)) as untouched:
        assert await works(socket)
        binding_id = await binding_of(operator, key)
        assert (await write(operator, binding_id)).status_code == 200
        code, text = await end_of(socket)
        assert (code, text.partition(":")[0]) == (1008, reason)
        assert (await closed(upstream.sockets[0]))[0] == 1001
        assert await works(untouched)


async def test_sockets_are_closed_by_message_and_not_by_the_look_now_and_then(gateway, upstream, operator):
    """One ban after the other, each when the last has had its effect, so that no look can find two of them: more than
    there can have been looks. What it takes is measured by `benchmarks.revocation`."""
    keys = ["sk-" + secrets.token_hex(24) for _ in range(15)]
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(opened(gateway, headers=bearer(key))) for key in keys]
        ids = [await binding_of(operator, key) for key in keys]
        began_at = time.monotonic()
        for socket, binding_id in zip(sockets, ids, strict=True):
            assert (await ban(operator, binding_id)).status_code == 200
            assert (await end_of(socket))[0] == 1008
        looks = 1 + (time.monotonic() - began_at) // LOOK_EVERY_S
    assert len(keys) > looks


async def test_an_open_websocket_survives_a_change_that_still_allows_it(gateway, upstream, operator, key):
    async with opened(gateway, headers=bearer(key)) as socket:
        assert await works(socket)
        binding_id = await binding_of(operator, key)
        assert (await bind_wider(operator, binding_id)).status_code == 200
        assert await works(socket)
        assert (await ban(operator, binding_id)).status_code == 200  # heard after the other: it would have closed it
        assert (await end_of(socket))[1].startswith("key_banned")


async def test_a_websocket_that_a_slow_client_does_not_read_is_taken_from_the_upstream(
    gateway, upstream, operator, key
):
    """What the client has not fetched yet cannot be called back; no more is read for it."""

    async def pour(socket) -> None:
        while True:
            await socket.send(b"x" * 1_000_000)

    upstream.handler = pour
    async with opened(gateway, headers=bearer(key), max_size=None, max_queue=1):
        await eventually(lambda: upstream.sockets)
        assert (await ban(operator, await binding_of(operator, key))).status_code == 200
        await closed(upstream.sockets[0])


@pytest.fixture
async def cutting_streams(gateway, admin_server, story_dsn) -> AsyncIterator[None]:
    """With ``cut_on_revocation`` in force at the gateway."""
    token = await admin.token_for(story_dsn, f"admin-{secrets.token_hex(4)}", "admin")
    async with admin.client(admin_server.url, token) as api, httpx.AsyncClient(base_url=gateway.url) as client:
        version = (await api.get("/settings")).json()["version"]

        async def put(version: int, *, on: bool) -> None:
            answer = await api.put("/settings", json={"version": version, "values": {"cut_on_revocation": on}})
            assert answer.status_code == 200, answer.text

            async def in_force() -> bool:
                return bool((await client.get("/ready")).json()["settings_version"] == version + 1)

            await eventually_async(in_force)

        await put(version, on=True)
        yield
        await put(version + 1, on=False)


async def test_a_running_stream_is_broken_off_when_the_setting_says_so(cutting_streams, client, stub, operator, key):
    """Broken off and not ended, so that nobody takes the part for the whole; and the upstream stops at once."""
    async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=STALLED) as response:
        lines = response.aiter_lines()
        await anext(lines)
        assert (await ban(operator, await binding_of(operator, key))).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in lines:
                pass
    await stub.until(lambda stats: stats.aborted == 1)


async def test_a_running_stream_goes_on_otherwise(client, stub, operator, gateway, key):
    """A socket of the same key is closed, so the news has come; the stream is finished."""
    paced = {"x-stub-interval-ms": "40", "x-stub-frames": "50"}
    async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=paced) as response:
        lines = response.aiter_lines()
        await anext(lines)
        async with opened(gateway, headers=bearer(key)) as socket:
            assert (await ban(operator, await binding_of(operator, key))).status_code == 200
            assert (await end_of(socket))[0] == 1008
        assert "data: [DONE]" in [line async for line in lines]
    assert (await client.get("/v1/models")).status_code == 403


async def test_open_websockets_are_told_that_the_gateway_stops(stores, story_dsn):
    """Both ends, at once: nobody waits for a limit, and the process ends well. Each was counted as one request."""
    port = free_port()
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port, name="ending") as gateway:
        async with socket_upstream(port) as upstream, contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(opened(gateway, headers=bearer("sk-" + secrets.token_hex(24))))
                for _ in range(20)
            ]
            assert [await works(socket) for socket in sockets] == [True] * 20

            async def counted() -> bool:
                counts = await counts_of(stores.redis_url, "ending")
                return {counts.get(name) for name in ("requests", "answered_1xx", "websocket_opened", "bound")} == {20}

            await eventually_async(counted)
            gateway.process.send_signal(signal.SIGTERM)
            assert {await end_of(socket) for socket in sockets} == {(1001, "the gateway is stopping")}
            assert {(await closed(socket))[0] for socket in upstream.sockets} == {1001}
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0
            assert "Traceback" not in gateway.log_text()
