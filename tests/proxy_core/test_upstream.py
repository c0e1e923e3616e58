"""The pool of upstream connections, over real sockets."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy_core.errors import UpstreamBusy, UpstreamCut, UpstreamError, UpstreamTimeout
from proxy_core.exchange import Connection, Limits
from proxy_core.upstream import Origin, Upstream
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
    writer.close()


@contextlib.asynccontextmanager
async def listening(talk: Talk = polite, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[str]]]:
    """A server; yields its port and a growing list with one entry per accepted connection."""
    accepted: list[str] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append("connection")
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], accepted
    finally:
        server.close()


@contextlib.asynccontextmanager
async def pool(port: int, host: str = "127.0.0.1", **limits) -> AsyncIterator[Upstream]:
    upstream = Upstream(Origin(host, port), Limits(**limits))
    upstream.start()
    try:
        yield upstream
    finally:
        await upstream.aclose()


async def ask(connection: Connection) -> bytes:
    connection.begin(bodiless=False)
    connection.write(REQUEST)
    connection.request_sent()
    await connection.response_head()
    return await connection.read() + await connection.read()


async def test_a_connection_is_used_again_and_the_last_one_returned_comes_first():
    async with listening() as (port, accepted), pool(port) as upstream:
        first, second = await upstream.acquire(), await upstream.acquire()
        assert [await ask(first), await ask(second)] == [b"ok", b"ok"]
        upstream.release(first)
        upstream.release(second)
        assert await upstream.acquire() is second
        assert await upstream.acquire() is first
        assert len(accepted) == 2


async def test_releasing_twice_does_not_lend_a_connection_twice():
    async with listening() as (port, _), pool(port) as upstream:
        connection = await upstream.acquire()
        await ask(connection)
        upstream.release(connection)
        upstream.release(connection)
        assert await upstream.acquire() is connection
        assert upstream.take_idle() is None


async def test_a_connection_that_the_upstream_closed_meanwhile_is_not_used():
    closed = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with listening(once) as (port, accepted), pool(port) as upstream:
        connection = await upstream.acquire()
        await ask(connection)
        upstream.release(connection)
        await closed.wait()
        await eventually(lambda: not connection.is_open)
        assert await ask(await upstream.acquire()) == b"ok"
        assert len(accepted) == 2


async def test_no_connection_is_kept_when_keeping_is_switched_off():
    async with listening() as (port, _), pool(port, keepalive_s=0.0) as upstream:
        connection = await upstream.acquire()
        await ask(connection)
        upstream.release(connection)
        assert not connection.is_open
        assert upstream.take_idle() is None


async def test_idle_connections_age_away(monkeypatch):
    async with listening() as (port, _), pool(port, keepalive_s=10.0) as upstream:
        connection = await upstream.acquire()
        await ask(connection)
        upstream.release(connection)
        upstream._sweep()
        assert connection.is_open
        now = time.monotonic()
        monkeypatch.setattr("proxy_core.upstream.time.monotonic", lambda: now + 11)
        upstream._sweep()
        assert not connection.is_open


async def test_over_the_limit_a_request_waits_its_turn_and_then_is_turned_away():
    async with listening() as (port, accepted), pool(port, connections=1, pool_wait_s=30.0) as upstream:
        connection = await upstream.acquire()
        waiting = [asyncio.create_task(upstream.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        assert repr(upstream) == "<Upstream 1 open, 0 idle, 2 waiting>"
        await ask(connection)
        upstream.release(connection)
        assert await waiting[0] is connection
        waiting[1].cancel()
        await asyncio.wait(waiting)
        await ask(connection)
        upstream.release(connection)
        assert upstream.take_idle() is connection
        assert len(accepted) == 1

    async with listening() as (port, _), pool(port, connections=1, pool_wait_s=0.0) as upstream:
        await upstream.acquire()
        with pytest.raises(UpstreamBusy):
            await upstream.acquire()


async def test_a_lost_connection_makes_room_for_one_who_waits():
    async with listening() as (port, accepted), pool(port, connections=1, pool_wait_s=30.0) as upstream:
        connection = await upstream.acquire()
        waiting = asyncio.create_task(upstream.acquire())
        await asyncio.sleep(0)
        connection.begin(bodiless=False)
        upstream.release(connection)  # unfinished: cannot be kept
        assert await ask(await waiting) == b"ok"
        assert len(accepted) == 2


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_loses_nothing():
    async with listening() as (port, _), pool(port, connections=1, pool_wait_s=30.0) as upstream:
        connection = await upstream.acquire()
        waiting = asyncio.create_task(upstream.acquire())
        await asyncio.sleep(0)
        await ask(connection)
        upstream.release(connection)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert upstream.take_idle() is connection


async def test_nobody_listening_and_nobody_answering_are_different_errors():
    async with listening() as (port, _):
        pass
    async with pool(port) as upstream:
        with pytest.raises(UpstreamError, match="cannot be reached"):
            await upstream.acquire()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as (port, _), pool(port, head_s=0.01) as upstream:
        with pytest.raises(UpstreamTimeout):
            await ask(await upstream.acquire())


async def test_a_connect_that_takes_too_long_is_given_up(monkeypatch):
    async def never(*args, **kwargs) -> None:
        await asyncio.Event().wait()

    async with pool(1, connect_s=0.01) as upstream:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        with pytest.raises(UpstreamTimeout):
            await upstream.acquire()


async def test_closing_the_pool_breaks_off_what_is_under_way():
    in_flight = asyncio.Event()

    async def begin_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER[:-1])
        in_flight.set()
        await reader.read()

    async with listening(begin_only) as (port, _), pool(port) as upstream:
        asking = asyncio.create_task(ask(await upstream.acquire()))
        await in_flight.wait()
        await upstream.aclose()
        with pytest.raises((UpstreamCut, UpstreamError)):
            await asking


async def test_ipv6():
    async with listening(host="::1") as (port, _), pool(port, host="::1") as upstream:
        assert await ask(await upstream.acquire()) == b"ok"


async def test_an_upstream_whose_certificate_is_not_vouched_for_is_refused():
    async with listening() as (port, _):
        upstream = Upstream(Origin("127.0.0.1", port, ssl.create_default_context()), Limits())
        with pytest.raises(UpstreamError):
            await upstream.acquire()
        await upstream.aclose()


async def test_bytes_are_counted_over_all_connections_also_those_that_are_gone():
    async with listening() as (port, _), pool(port) as upstream:
        for number in range(1, 4):
            connection = await upstream.acquire()
            connection.begin(bodiless=False)
            connection.write(REQUEST)
            connection.request_sent()
            await connection.response_head()
            await connection.read()
            upstream.release(connection)
            if number == 2:
                connection.abort()
                await eventually(lambda: not connection.is_open)  # noqa: B023 - awaited within the round
            assert (upstream.sent_bytes, upstream.received_bytes) == (number * len(REQUEST), number * len(ANSWER))
