"""At most so many requests of a key, or from an address, are open at once: over two gateways, whatever their end."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support import databases
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

STREAMED = {"model": "m", "stream": True, "messages": []}
HELD = {"x-stub-frames": "100000", "x-stub-interval-ms": "50"}
VALUES = '{"max_concurrent_per_key": 2, "max_concurrent_per_address": 3}'


@pytest.fixture(scope="module")
def gateways(stores, migrated_template) -> Iterator[list[GatewayProcess]]:
    """Two, the second with two workers, whose operator has set both limits."""
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        insert = f"INSERT INTO runtime_setting (version, \"values\", changed_by) VALUES (1, '{VALUES}', 'test')"
        databases.sql(stores.postgres, insert, urlsplit(dsn).path[1:])
        shared = {"pg_dsn": dsn, "redis_url": stores.redis_url, "upstream_port": free_port()}
        limits = {"SENTINEL_REQUEST_BODY_IDLE_TIMEOUT_S": "0.5"}
        with (
            running_gateway(**shared, **limits, name="east") as east,
            running_gateway(**shared, **limits, name="west", workers=2) as west,
        ):
            yield [east, west]


@pytest.fixture
async def upstream(gateways) -> AsyncIterator[StubServer]:
    async with StubServer(any_key=True, port=gateways[0].upstream_port) as running:
        yield running


@pytest.fixture
async def callers(gateways, key) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One key at one address, of which no other test knows, through either gateway, once the limits are in force."""
    headers = {"authorization": f"Bearer {key}", "x-real-ip": f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.7"}
    for one in gateways:
        await eventually(
            lambda one=one: one.log_text().count("live settings in force") == int(one.environment["SENTINEL_WORKERS"])
        )
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(httpx.AsyncClient(base_url=one.url, headers=headers, timeout=60))
            for one in gateways
        ]


@contextlib.asynccontextmanager
async def held(caller: httpx.AsyncClient, **headers: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """A stream that goes on as long as this does; its pieces."""
    async with caller.stream("POST", "/v1/chat/completions", json=STREAMED, headers=HELD | headers) as response:
        assert response.status_code == 200
        pieces = response.aiter_raw()  # an iterator that is dropped ends the stream
        await anext(pieces)
        yield pieces


async def until_all_free(callers: list[httpx.AsyncClient]) -> None:
    """Both seats of the key can be taken at once: none is lost."""

    async def free() -> bool:
        try:
            async with held(callers[0]), held(callers[1]):
                return True
        except AssertionError:
            return False

    await eventually_async(free)


async def test_one_more_than_a_key_may_have_is_told_to_come_back(callers, upstream):
    """429, which SDKs repeat after the time that it names; a request of another key passes."""
    async with held(callers[0]), held(callers[1]):
        for caller in callers:
            response = await caller.post("/v1/chat/completions", json=STREAMED)
            assert (response.status_code, response.json()["error"]["code"]) == (429, "key_concurrency_exceeded")
            assert response.headers["retry-after"] == "5"
            assert "x-should-retry" not in response.headers
        async with held(callers[1], authorization="Bearer sk-another"):
            over = await callers[0].post(
                "/v1/messages", json=STREAMED, headers={"authorization": "Bearer sk-third", "anthropic-version": "1"}
            )
            assert (over.status_code, over.json()["error"]["type"]) == (429, "rate_limit_error")
    await until_all_free(callers)


async def leaves(caller: httpx.AsyncClient, upstream: StubServer) -> None:
    async with held(caller):
        pass


async def leaves_before_the_answer(caller: httpx.AsyncClient, upstream: StubServer) -> None:
    seen = len(upstream.requests)
    asking = asyncio.create_task(caller.post("/v1/chat/completions", json=STREAMED, headers={"x-stub-stall": "head"}))
    await eventually(lambda: len(upstream.requests) > seen)
    asking.cancel()
    await asyncio.wait((asking,))


async def is_cut(caller: httpx.AsyncClient, upstream: StubServer) -> None:
    with contextlib.suppress(httpx.RemoteProtocolError):
        await caller.post("/v1/chat/completions", json=STREAMED, headers={"x-stub-cut-after": "3 rst"})


async def stops_sending(caller: httpx.AsyncClient, upstream: StubServer) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"begin"
        await asyncio.Event().wait()

    sending = asyncio.create_task(caller.post("/v1/files", content=body(), headers={"content-length": "1000"}))
    seen = len(upstream.requests)
    await eventually(lambda: len(upstream.requests) > seen or sending.done())
    sending.cancel()
    await asyncio.wait((sending,))


async def is_refused(caller: httpx.AsyncClient, upstream: StubServer) -> None:
    response = await caller.post("/v1/files", content=b"x", headers={"x-real-ip": "198.51.100.9"})
    assert response.status_code == 403


async def ends(caller: httpx.AsyncClient, upstream: StubServer) -> None:
    await caller.post("/v1/chat/completions", json=STREAMED)


@pytest.mark.parametrize(
    "ending", [leaves, leaves_before_the_answer, is_cut, stops_sending, is_refused, ends], ids=lambda end: end.__name__
)
@pytest.mark.parametrize("where", [0, 1], ids=["east", "west"])
async def test_a_seat_is_given_back_whatever_the_end(callers, upstream, ending, where):
    await callers[0].get("/v1/models")
    await ending(callers[where], upstream)
    await until_all_free(callers)


async def test_a_stream_that_a_stopping_gateway_cuts_gives_its_seat_back(stores, gateways, callers, upstream):
    """The others need not wait until the dead one's seats run out."""
    shared = {
        "pg_dsn": gateways[0].environment["PG_DSN"],
        "redis_url": stores.redis_url,
        "upstream_port": gateways[0].upstream_port,
    }
    with running_gateway(**shared, name="north", SENTINEL_DRAIN_TIMEOUT_S="0") as north:
        async with (
            httpx.AsyncClient(base_url=north.url, headers=callers[0].headers, timeout=60) as caller,
            held(caller) as pieces,
        ):
            stopping = asyncio.create_task(asyncio.to_thread(north.stop))
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in pieces:
                    pass
            assert await stopping == 0
    async with held(callers[0]), held(callers[1]):
        pass
