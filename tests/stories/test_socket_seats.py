"""An open WebSocket takes the seats of the concurrency limits, per key and per address, and gives them back on every
end: whoever ends it, and even when it never opened."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support import admin, databases
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.sockets import SocketUpstream, bearer, closed, opened, socket_upstream
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

LIMIT = 2
MESSAGE_MAX_BYTES = 1000
VALUES = {
    "key": f'{{"max_concurrent_per_key": {LIMIT}}}',
    "address": f'{{"max_concurrent_per_address": {LIMIT}}}',
}


@pytest.fixture(scope="module", params=VALUES)
def limited(request, stores, migrated_template) -> Iterator[GatewayProcess]:
    """A gateway whose operator has limited what one key, or one address, may have open."""
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        values = VALUES[request.param]
        insert = f"INSERT INTO runtime_setting (version, \"values\", changed_by) VALUES (1, '{values}', 'test')"
        databases.sql(stores.postgres, insert, urlsplit(dsn).path[1:])
        settings = {
            "SENTINEL_WEBSOCKET_MESSAGE_MAX_BYTES": str(MESSAGE_MAX_BYTES),
            "SENTINEL_WEBSOCKET_HANDSHAKE_TIMEOUT_S": "3600",
        }
        shared = {"pg_dsn": dsn, "redis_url": stores.redis_url, "upstream_port": free_port()}
        with running_gateway(**shared, **settings) as running:
            yield running
            assert "Traceback" not in running.log_text()


@pytest.fixture
async def upstream(limited: GatewayProcess) -> AsyncIterator[SocketUpstream]:
    async with socket_upstream(limited.upstream_port) as running:
        yield running


class Caller:
    """One key at one address, of which no other test knows."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self.gateway = gateway
        self.key = key
        self.address = f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"

    def open(self):
        return opened(self.gateway, headers=bearer(self.key), address=self.address)

    async def has_all_seats(self) -> bool:
        """As many sockets as the limit allows can be open at once, and not one more."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                for _ in range(LIMIT):
                    await stack.enter_async_context(self.open())
            except InvalidStatus as refused:
                if refused.response.status_code != 429:
                    raise
                return False
            with pytest.raises(InvalidStatus) as more:
                await self.open()
            assert more.value.response.status_code == 429
            assert more.value.response.headers["retry-after"] == "5"
            return True


@pytest.fixture
async def caller(limited: GatewayProcess, key: str) -> Caller:
    await eventually(lambda: "live settings in force" in limited.log_text())
    return Caller(limited, key)


async def client_closes(caller: Caller, upstream: SocketUpstream) -> None:
    async with caller.open() as socket:
        await socket.close(1000, "bye")


async def upstream_closes(caller: Caller, upstream: SocketUpstream) -> None:
    async with caller.open() as socket:
        await socket.send("close 1000 bye")
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def client_vanishes(caller: Caller, upstream: SocketUpstream) -> None:
    socket = await caller.open()
    await eventually(lambda: upstream.sockets)
    socket.transport.abort()
    await closed(upstream.sockets[-1])


async def upstream_vanishes(caller: Caller, upstream: SocketUpstream) -> None:
    async with caller.open() as socket:
        await eventually(lambda: upstream.sockets)
        upstream.sockets[-1].transport.abort()
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def client_breaks_a_limit(caller: Caller, upstream: SocketUpstream) -> None:
    async with caller.open() as socket:
        await socket.send("x" * (MESSAGE_MAX_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def upstream_breaks_the_protocol(caller: Caller, upstream: SocketUpstream) -> None:
    async def garble(socket) -> None:
        await socket.send(b"\xff\xfe", text=True)
        await socket.wait_closed()

    usual, upstream.handler = upstream.handler, garble
    async with caller.open() as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    upstream.handler = usual


async def upstream_refuses(caller: Caller, upstream: SocketUpstream) -> None:
    upstream.refuse(503, b"{}")
    with pytest.raises(InvalidStatus) as refused:
        await caller.open()
    assert refused.value.response.status_code == 503
    upstream.refusal = None


async def client_leaves_during_the_handshake(caller: Caller, upstream: SocketUpstream) -> None:
    """Before the upstream has said anything: its connection is closed, as is the seat's use."""
    thinking, let_go = asyncio.Event(), asyncio.Event()

    async def think() -> None:
        thinking.set()
        await let_go.wait()

    upstream.before_answer = think
    asking = asyncio.create_task(_open(caller))
    await thinking.wait()
    upstream.before_answer = None
    asking.cancel()
    await asyncio.wait((asking,))
    await eventually_async(caller.has_all_seats)
    let_go.set()


async def _open(caller: Caller) -> None:
    await caller.open()


ENDS: list[Callable[[Caller, SocketUpstream], Awaitable[None]]] = [
    client_closes,
    upstream_closes,
    client_vanishes,
    upstream_vanishes,
    client_breaks_a_limit,
    upstream_breaks_the_protocol,
    upstream_refuses,
    client_leaves_during_the_handshake,
]


@pytest.mark.parametrize("ending", ENDS, ids=lambda end: end.__name__)
async def test_a_seat_is_given_back_whatever_the_end(caller, upstream, ending):
    for _ in range(LIMIT):
        await ending(caller, upstream)
    await eventually_async(caller.has_all_seats)


async def test_a_revoked_socket_gives_its_seat_back(caller, upstream, limited, stores):
    """The operator bans the key and lets it in again."""
    dsn = limited.environment["PG_DSN"]
    with admin.running_admin(dsn, stores.redis_url) as server:
        token = await admin.token_for(dsn, f"operator-{secrets.token_hex(4)}", "operator")
        async with caller.open() as socket, caller.open() as other, admin.client(server.url, token) as operator:
            found = await operator.post("/bindings/lookup", json={"key": caller.key})
            ids = {"ids": [found.json()["binding"]["id"]]}
            assert (await operator.post("/bindings/ban", json={**ids, "reason": "story"})).status_code == 200
            for each in (socket, other):
                with pytest.raises(ConnectionClosed) as ended:
                    await each.recv()
                assert ended.value.rcvd is not None
                assert ended.value.rcvd.code == 1008
            assert (await operator.post("/bindings/unban", json=ids)).status_code == 200
            await eventually_async(lambda: _let_in(caller))


async def _let_in(caller: Caller) -> bool:
    try:
        return await caller.has_all_seats()
    except InvalidStatus:  # the gateway has not heard of it yet
        return False
