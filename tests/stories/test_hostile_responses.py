"""Whatever an upstream answers: 502 in the dialect before the head, a cut after it, and not a word of it to others."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.stories.test_bodies import GROWTH_LIMIT, peak, resident
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.recording_upstream import RecordingUpstream, recording_upstream

pytestmark = pytest.mark.anyio

CLOSE = RecordingUpstream.CLOSE
HEAD = b"HTTP/1.1 200 OK\r\n"
BEGUN = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"
POISON = HEAD + b"X-Poison: 1\r\nContent-Length: 6\r\n\r\npoison"

BEFORE_THE_HEAD = {
    "no HTTP": b"SMTP ready\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status that is no number": b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "negative status": b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
    "no version": b"200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0 as text": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "both framings": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + POISON,
    "lengths in a list": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "length beyond 64 bits": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "NUL in a value": HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "bare CR in a value": HEAD + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "blank in a name": HEAD + b"X Y: a\r\nContent-Length: 0\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "endless 1xx": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10_000,
    "endless header": HEAD + b"X: " + b"a" * 1_000_000,
    "endless headers": HEAD + b"X: a\r\n" * 100_000,
    "nothing": CLOSE,
    "half a status line": b"HTTP/1.1 20" + CLOSE,
    "half a head": HEAD + b"Content-Le" + CLOSE,
}
AFTER_THE_HEAD = {
    "chunk size that is no number": BEGUN + b"zz\r\nlo\r\n0\r\n\r\n",
    "negative chunk": BEGUN + b"-2\r\nlo\r\n0\r\n\r\n",
    "chunk beyond 64 bits": BEGUN + b"f" * 20 + b"\r\nlo\r\n0\r\n\r\n",
    "chunk longer than its size": BEGUN + b"1\r\nlo\r\n0\r\n\r\n",
    "end in the middle of a chunk": BEGUN + b"5\r\nlo" + CLOSE,
    "end before the last chunk": BEGUN + CLOSE,
    "end before the length": HEAD + b"Content-Length: 50\r\n\r\nhello" + CLOSE,
}
WHOLE_AND_MORE = {
    "a second answer": HEAD + b"Content-Length: 5\r\n\r\nhello" + POISON,
    "junk": HEAD + b"Content-Length: 5\r\n\r\nhello" + b"x" * 10,
    "a chunk after the last": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n5\r\nworld\r\n0\r\n\r\n",
    "an answer after chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + POISON,
}


@pytest.fixture(scope="module")
def gateway(stores, story_dsn) -> Iterator[GatewayProcess]:
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=free_port()) as running:
        yield running
        assert "Traceback" not in running.log_text()


@pytest.fixture
async def upstream(gateway: GatewayProcess) -> AsyncIterator[RecordingUpstream]:
    async with recording_upstream(gateway.upstream_port) as running:
        yield running


async def assert_next_is_clean(client: httpx.AsyncClient, upstream: RecordingUpstream) -> None:
    """The next request has a connection of its own, and its own answer."""
    used = len(upstream.connections)
    response = await client.get("/v1/next")
    assert (response.status_code, response.json()) == (200, {"ok": True})
    assert "x-poison" not in response.headers
    assert len(upstream.connections) == used + 1


@pytest.mark.parametrize("answer", BEFORE_THE_HEAD.values(), ids=BEFORE_THE_HEAD)
async def test_no_head_is_a_502_in_the_dialect(client, upstream, answer):
    upstream.answers[b"/v1/messages"] = answer
    response = await client.post("/v1/messages", json={})
    assert response.status_code == 502
    assert (response.json()["type"], response.json()["error"]["type"]) == ("error", "api_error")
    assert "x-poison" not in response.headers
    await assert_next_is_clean(client, upstream)


@pytest.mark.parametrize("answer", AFTER_THE_HEAD.values(), ids=AFTER_THE_HEAD)
async def test_a_broken_body_is_a_cut(client, upstream, answer):
    """The client sees a break or, where nothing of the answer had been passed on yet, a 502; never an end."""
    upstream.answers[b"/v1/x"] = answer
    try:
        response = await client.get("/v1/x")
    except httpx.RemoteProtocolError:
        pass
    else:
        assert response.status_code == 502
    await assert_next_is_clean(client, upstream)


@pytest.mark.parametrize("answer", WHOLE_AND_MORE.values(), ids=WHOLE_AND_MORE)
async def test_what_follows_an_answer_is_nobodys(client, upstream, answer):
    """The answer that was asked for passes; what comes after it is thrown away with the connection."""
    upstream.answers[b"/v1/x"] = answer
    response = await client.get("/v1/x")
    assert (response.status_code, response.content) == (200, b"hello")
    await assert_next_is_clean(client, upstream)


async def test_a_folded_header_reaches_no_client_as_two(client, upstream):
    """A server before RFC 7230 may fold lines: refused, or one line with a blank, never a header of the second half."""
    upstream.answers[b"/v1/x"] = HEAD + b"X-A: a\r\n X-Poison: b\r\nContent-Length: 5\r\n\r\nhello"
    response = await client.get("/v1/x")
    assert response.status_code in (200, 502)
    assert "x-poison" not in response.headers


async def test_floods_cost_bounded_memory(client, upstream, gateway):
    before = resident(gateway)
    upstream.answers[b"/v1/x"] = HEAD + b"X: " + b"a" * 5_000_000
    statuses = await asyncio.gather(*(client.get("/v1/x") for _ in range(20)))
    assert {response.status_code for response in statuses} == {502}
    assert peak(gateway) - before < GROWTH_LIMIT
