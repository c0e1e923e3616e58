"""A WebSocket through the gateway behaves like one to the upstream itself: each story here is run both ways."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus

from tests.support.sockets import HOME, Handler, SocketUpstream, closed, echo, socket_upstream
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

Opener = Callable[..., "connect"]
MEGABYTE = b"x" * 1_000_000


@pytest.fixture
async def upstream(gateway) -> AsyncIterator[SocketUpstream]:
    async with socket_upstream(gateway.upstream_port) as running:
        yield running


@pytest.fixture(params=["direct", "through the gateway"])
def opened(request, gateway, upstream, key) -> Opener:
    """Connects to the same path, with a key, straight to the upstream or through the gateway."""
    port = gateway.upstream_port if request.param == "direct" else gateway.port

    def open_socket(path: str = "/v1/realtime?model=m", **more) -> "connect":
        headers = {"authorization": f"Bearer {key}", "x-real-ip": HOME, **more.pop("headers", {})}
        options = {"max_size": None, "ping_interval": None, "compression": None, "close_timeout": 5} | more
        return connect(f"ws://127.0.0.1:{port}{path}", additional_headers=headers, **options)

    return open_socket


async def test_messages_come_back_as_they_went(opened):
    async with opened() as socket:
        for message in ("hello", "grüße 🎧", "", b"\x00\xff binary", b"", "x" * 125, "x" * 126, "x" * 65_536):
            await socket.send(message)
            assert await socket.recv() == message


async def test_many_messages_stay_in_order(opened):
    async with opened() as socket:
        sent = [f"{number} " + "x" * (number * 37 % 5000) for number in range(500)]

        async def send() -> None:
            for message in sent:
                await socket.send(message)

        sending = asyncio.create_task(send())
        assert [await socket.recv() for _ in sent] == sent
        await sending


@pytest.mark.parametrize("whole", ["fragmented text ä", b"fragmented \x00 bytes"])
async def test_a_fragmented_message_arrives_whole(opened, whole):
    async with opened() as socket:
        await socket.send(whole[number : number + 3] for number in range(0, len(whole), 3))
        assert await socket.recv() == whole


async def test_a_fragmented_answer_arrives_whole(opened, upstream):
    async def answer(socket) -> None:
        await socket.send(["eins ", "zwei ", "drei"])
        await socket.send([b"a", b"", b"b"])
        await socket.wait_closed()

    upstream.handler = answer
    async with opened() as socket:
        assert await socket.recv() == "eins zwei drei"
        assert await socket.recv() == b"ab"


async def test_a_message_of_twelve_megabytes_passes_both_ways(opened):
    async with opened() as socket:
        message = "0123456789ab" * 1_000_000
        await socket.send(message)
        assert await socket.recv() == message


async def test_pings_are_answered_at_both_ends(opened, upstream):
    async with opened() as socket:
        await asyncio.wait_for(await socket.ping(b"from the client"), 10)
        await eventually(lambda: upstream.sockets)
        await asyncio.wait_for(await upstream.sockets[0].ping(b"from the upstream"), 10)
        await socket.send("still here")
        assert await socket.recv() == "still here"


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1001, ""), (1011, "grüße"), (4001, "r" * 123)])
async def test_the_upstreams_close_arrives_with_code_and_reason(opened, code, reason):
    async with opened() as socket:
        await socket.send(f"close {code} {reason}")
        with pytest.raises(ConnectionClosed) as ended:
            await socket.recv()
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (code, reason)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_the_clients_close_arrives_with_its_code(opened, upstream, code):
    async with opened() as socket:
        await socket.send("x")
        await socket.recv()
        await socket.close(code, "bye")
        assert socket.close_code == code
    assert (await closed(upstream.sockets[0]))[0] == code


async def test_what_was_sent_before_a_close_arrives_before_it(opened, upstream):
    got: list[str | bytes] = []

    async def listen(socket) -> None:
        got.extend([message async for message in socket])

    upstream.handler = listen
    async with opened() as socket:
        for number in range(100):
            await socket.send(str(number))
    await closed(upstream.sockets[0])
    await eventually(lambda: got)
    assert got == [str(number) for number in range(100)]


async def test_answers_sent_before_the_upstreams_close_arrive_before_it(opened, upstream):
    async def talk(socket) -> None:
        for number in range(100):
            await socket.send(str(number))

    upstream.handler = talk
    async with opened() as socket:
        got = [message async for message in socket]
    assert got == [str(number) for number in range(100)]


async def test_a_client_that_vanishes_is_gone_for_the_upstream_too(opened, upstream):
    socket = await opened()
    await eventually(lambda: upstream.sockets)
    socket.transport.abort()
    await closed(upstream.sockets[0])


async def test_an_upstream_that_vanishes_is_no_clean_end(opened, upstream):
    async with opened() as socket:
        await eventually(lambda: upstream.sockets)
        upstream.sockets[0].transport.abort()
        with pytest.raises(ConnectionClosed) as ended:
            await socket.recv()
        assert not isinstance(ended.value, ConnectionClosedOK)
        assert ended.value.rcvd is None or ended.value.rcvd.code == 1011


def beside_echo(handler: Handler) -> Handler:
    """With a place for others at the same upstream."""

    async def choose(socket) -> None:
        await (echo if socket.request.path == "/v1/other" else handler)(socket)

    return choose


async def stands_still(opened: Opener, progress: Callable[[], int]) -> int:
    """Where it stands once it does: while another socket goes a hundred times the same way, it makes no progress."""
    async with opened("/v1/other") as other:
        before = -1
        while (now := progress()) != before:
            before = now
            for _ in range(100):
                await other.send("x")
                await other.recv()
        return before


async def test_whoever_does_not_read_makes_the_other_wait(opened, upstream):
    """What is on the way stays bounded, and all of it arrives in the end."""
    sent = 0

    async def pour(socket) -> None:
        nonlocal sent
        for _ in range(200):
            await socket.send(MEGABYTE)
            sent += 1

    upstream.handler = beside_echo(pour)
    async with opened(max_queue=1) as socket:
        await socket.recv()
        assert await stands_still(opened, lambda: sent) < 100
        assert sum([len(message) async for message in socket]) == 199 * len(MEGABYTE)


async def test_an_upstream_that_does_not_read_makes_the_client_wait(opened, upstream):
    go_on, taken, sent = asyncio.Event(), 0, 0

    async def sip(socket) -> None:
        nonlocal taken
        await go_on.wait()
        async for message in socket:
            taken += len(message)

    async def pour(socket) -> None:
        nonlocal sent
        for _ in range(200):
            await socket.send(MEGABYTE)
            sent += 1

    upstream.handler = beside_echo(sip)
    async with opened() as socket:
        pouring = asyncio.create_task(pour(socket))
        assert await stands_still(opened, lambda: sent) < 100
        go_on.set()
        await pouring
    await eventually(lambda: taken == 200 * len(MEGABYTE))


@pytest.mark.parametrize("path", ["/v1/realtime?model=a%20b&x=%2f", "/v1/responses", "/some/other/path"])
async def test_any_path_can_be_a_websocket(opened, upstream, path):
    async with opened(path) as socket:
        await socket.send("x")
        assert await socket.recv() == "x"
    assert upstream.handshakes[0].path == path


async def test_the_selected_subprotocol_comes_back(opened, upstream, key):
    """As a browser connects, which has no other place for its key."""
    offered = ["realtime", f"openai-insecure-api-key.{key}", "openai-beta.realtime-v1"]
    async with opened(subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
        assert "sec-websocket-extensions" not in socket.response.headers
    assert upstream.handshakes[0].headers["sec-websocket-protocol"] == ", ".join(offered)


async def test_a_refusal_of_the_upstream_arrives_as_it_is(opened, upstream):
    body = b'{"error":{"code":"model_not_found","message":"no channel","type":"new_api_error"}}'
    upstream.refuse(503, body, **{"content-type": "application/json", "x-oneapi-request-id": "2026"})
    with pytest.raises(InvalidStatus) as refused:
        await opened()
    response = refused.value.response
    assert (response.status_code, response.body) == (503, body)
    assert response.headers["x-oneapi-request-id"] == "2026"


async def test_nothing_is_compressed(opened):
    async with opened(compression="deflate") as socket:
        await socket.send("x" * 10_000)
        assert await socket.recv() == "x" * 10_000
