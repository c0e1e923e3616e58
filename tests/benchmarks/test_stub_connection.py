"""HTTP/1.1 as clients really send it: kept alive, pipelined, chunked, in pieces, and left in the middle."""

import asyncio
import hashlib

import pytest

from benchmarks.stub import StubServer
from tests.benchmarks.wire import AUTHORIZATION, KEY, Wire, ask, ask_bare, request

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


async def test_requests_are_recorded_byte_for_byte(stub: StubServer) -> None:
    head = (
        b"POST /v1/files?a=%41 HTTP/1.1\r\nHOST: Stub\r\nX-Twice:  one \r\nx-tWICE: two\r\n"
        b"authorization: Bearer " + KEY.encode() + b"\r\ncontent-LENGTH: 9\r\n\r\n"
    )
    async with Wire(stub.port) as wire:
        await wire.send(head + b"\r\n\r\n12345")
        assert (await wire.answer()).json()["bytes"] == 9
    (recorded,) = stub.requests
    assert recorded.head == head
    assert recorded.target == b"/v1/files?a=%41"
    assert [name for name, _ in recorded.headers] == [
        b"HOST", b"X-Twice", b"x-tWICE", b"authorization", b"content-LENGTH",
    ]  # fmt: skip
    assert [value.strip() for value in recorded.values("x-twice")] == ["one", "two"]
    assert recorded.body_sha256 == hashlib.sha256(b"\r\n\r\n12345").hexdigest()


async def test_a_connection_serves_many_requests(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        for _ in range(3):
            await wire.send(request("POST", CHAT, AUTHORIZATION, body=b"{}"))
            assert (await wire.answer()).status == 200
    assert stub.stats.connections == 1


async def test_pipelined_requests_are_answered_in_order(stub: StubServer) -> None:
    slow = request("POST", "/v1/files", AUTHORIZATION, ("x-stub-delay-ms", "30"), body=b"a" * 5)
    async with Wire(stub.port) as wire:
        await wire.send(slow + request("POST", "/v1/files", AUTHORIZATION, body=b"b" * 7) + slow)
        assert [(await wire.answer()).json()["bytes"] for _ in range(3)] == [5, 7, 5]
    assert [recorded.head.count(b"POST") for recorded in stub.requests] == [1, 1, 1]


CHUNKED = (
    b"POST /v1/files HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer "
    + KEY.encode()
    + b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n6;x=y\r\nabcdef\r\n0\r\nX-Sum: 1\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_chunked_uploads_in_pieces_of_any_size(stub: StubServer, size: int) -> None:
    data = CHUNKED * 2
    async with Wire(stub.port) as wire:
        for start in range(0, len(data), size):
            await wire.send(data[start : start + size])
            await asyncio.sleep(0)
        for _ in range(2):
            assert (await wire.answer()).json()["sha256"] == hashlib.sha256(b"\r\n\r\nabcdef").hexdigest()
    assert [recorded.trailers for recorded in stub.requests] == [[(b"X-Sum", b"1")]] * 2
    assert {recorded.head for recorded in stub.requests} == {CHUNKED[: CHUNKED.index(b"4\r\n\r\n\r\n\r\n6")]}


async def test_a_large_upload_is_hashed_and_not_held(stub: StubServer) -> None:
    body = bytes(range(256)) * 16_384
    answer = await ask(stub.port, "POST", "/v1/files", body=body)
    assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert stub.requests[0].body == b""


async def test_expect_100_continue(stub: StubServer) -> None:
    headers = (("Expect", "100-continue"), ("Content-Length", "3"))
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", "/v1/files", AUTHORIZATION, *headers))
        assert (await wire.head())[0] == 100
        await wire.send(b"abc")
        assert (await wire.answer()).json()["bytes"] == 3
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", "/v1/files", ("Authorization", "Bearer no"), *headers))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_a_wrong_key_is_refused_before_a_large_upload(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", "/v1/files", ("Content-Length", str(10**9))))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await wire.to_end() == b""


async def test_head_has_the_length_and_no_body(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("HEAD", "/v1/models", AUTHORIZATION) + request("GET", "/v1/models", AUTHORIZATION))
        head = await wire.answer(has_body=False)
        whole = await wire.answer()
    assert int(head.headers["content-length"]) == len(whole.body)


async def test_connection_close_is_obeyed(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("GET", "/v1/models", AUTHORIZATION, ("Connection", "close")))
        answer = await wire.answer()
        assert answer.headers["connection"] == "close"
        assert await wire.to_end() == b""


async def test_what_is_no_http_gets_400(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        assert (await wire.to_end()).startswith(b"HTTP/1.1 400 ")


async def test_echo_tells_what_reached_the_stub(stub: StubServer) -> None:
    told = (await ask(stub.port, "PUT", "/v1/echo?q=1", ("X-Mine", "yes"), body=b"abc")).json()
    assert (told["method"], told["target"], told["bytes"]) == ("PUT", "/v1/echo?q=1", 3)
    assert ["X-Mine", "yes"] in told["headers"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((("x-stub-stall", "head"),), b"{}"),
        ((("x-stub-frames", "1000"),), b'{"stream":true}'),
        ((("x-stub-delay-ms", "60000"),), b"{}"),
    ],
)
async def test_a_client_that_leaves_is_counted(
    stub: StubServer, headers: tuple[tuple[str, str], ...], body: bytes
) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, *headers, body=body))
        await stub.until(lambda stats: stats.open_requests == 1)
    await stub.until(lambda stats: stats.aborted == 1)
    assert stub.stats.open_requests == 0
    told = (await ask_bare(stub.port, "GET", "/stub/stats")).json()
    assert told["aborted"] == 1


async def test_a_client_that_leaves_in_the_middle_of_its_upload_is_counted(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", "/v1/files", AUTHORIZATION, ("Content-Length", "100")) + b"half")
        await stub.until(lambda stats: stats.open_requests == 1)
    await stub.until(lambda stats: stats.aborted == 1)
    assert not stub.requests[0].complete


async def test_a_finished_exchange_is_no_abort(stub: StubServer) -> None:
    assert (await ask(stub.port, "POST", CHAT, body=b"{}")).status == 200
    await stub.until(lambda stats: stats.open_connections == 0)
    assert stub.stats.aborted == 0


async def test_websocket_echoes_and_closes(stub: StubServer) -> None:
    handshake = (
        ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{KEY}"),
    )  # fmt: skip
    async with Wire(stub.port) as wire:
        await wire.send(request("GET", "/v1/realtime?model=m", *handshake))
        status, headers = await wire.head()
        assert (status, headers["sec-websocket-protocol"]) == (101, "realtime")
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        masked = bytes(byte ^ mask for byte, mask in zip(b"hello", b"\x01\x02\x03\x04\x01", strict=True))
        await wire.send(b"\x81\x85\x01\x02\x03\x04" + masked)
        assert await wire.exactly(7) == b"\x81\x05hello"
        await wire.send(b"\x88\x80\x00\x00\x00\x00")
        assert await wire.to_end() == b"\x88\x00"
    assert stub.stats.aborted == 0


async def test_websocket_without_a_key_is_401_before_the_upgrade(stub: StubServer) -> None:
    upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "eA=="))
    assert (await ask_bare(stub.port, "GET", "/v1/realtime", *upgrade)).status == 401
