"""Each ``x-stub-*`` header bends the answer as its table says."""

import asyncio

import pytest

from benchmarks.stub import StubServer
from benchmarks.stub.reply import download_bytes
from tests.benchmarks.wire import AUTHORIZATION, LIMIT_S, Wire, ask, request

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
STREAM = b'{"stream":true}'
FAST = ("x-stub-interval-ms", "0")


async def test_status_answers_in_openai_shape(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", CHAT, ("x-stub-status", "429"), body=b"{}")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["type"] == "stub_error"
    relayed = await ask(stub.port, "POST", CHAT, ("x-stub-status", "401"), body=b"{}")
    assert relayed.json()["error"]["code"] != ""


async def test_status_without_a_body(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-status", "204"), body=b"{}") * 2)
        for _ in range(2):
            status, headers = await wire.head()
            assert (status, "content-length" in headers) == (204, False)


async def test_delay_holds_the_head_back(stub: StubServer) -> None:
    async with Wire(stub.port) as slow, Wire(stub.port) as fast:
        began = asyncio.get_running_loop().time()
        await slow.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-delay-ms", "150"), body=b"{}"))
        await fast.send(request("POST", CHAT, AUTHORIZATION, body=b"{}"))
        assert (await fast.answer()).status == 200
        assert (await slow.answer()).status == 200
        assert asyncio.get_running_loop().time() - began >= 0.15


async def test_cut_after_bytes_of_a_whole_answer(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-cut-after", "10"), body=b"{}"))
        _, headers = await wire.head()
        assert int(headers["content-length"]) > 10
        assert len(await wire.to_end()) == 10


async def test_cut_after_frames_of_a_stream_leaves_no_last_chunk(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, FAST, ("x-stub-cut-after", "3"), body=STREAM))
        await wire.head()
        rest = await wire.to_end()
        assert rest.count(b'"seq"') == 3
        assert not rest.endswith(b"0\r\n\r\n")
    assert stub.stats.aborted == 0


async def test_cut_with_a_reset(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("GET", "/v1/download?bytes=100000", AUTHORIZATION, ("x-stub-cut-after", "5 rst")))
        await wire.head()
        with pytest.raises(ConnectionResetError):
            await wire.to_end()


async def test_stall_before_the_head_is_ended_by_the_client(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-stall", "head"), body=b"{}"))
        # Another connection's whole exchange passes meanwhile; this one stays silent.
        assert (await ask(stub.port, "POST", CHAT, body=b"{}")).status == 200
        assert stub.stats.open_requests == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.read(1), 0.05)


async def test_stall_in_the_body(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, FAST, ("x-stub-stall", "2"), body=STREAM))
        await wire.head()
        for expected in (b'"role"', b'"seq":0', b'"seq":1'):
            assert expected in await wire.chunk()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.read(1), 0.05)


@pytest.mark.parametrize(("value", "version"), [("1", b"HTTP/1.1"), ("1.0", b"HTTP/1.0")])
async def test_close_delimited_body(stub: StubServer, value: str, version: bytes) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-close", value), body=b"{}"))
        whole = await wire.to_end()
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(version)
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert body == (await ask(stub.port, "POST", CHAT, body=b"{}")).body


async def test_early_answers_before_the_body_and_reads_it_afterwards(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        length = ("Content-Length", "1000")
        await wire.send(request("POST", "/v1/files", AUTHORIZATION, ("x-stub-early", "1"), length))
        assert (await wire.answer()).json()["bytes"] == 0
        await wire.send(b"x" * 1000 + request("GET", "/v1/models", AUTHORIZATION))
        assert (await wire.answer()).json()["object"] == "list"
    assert stub.requests[0].body_bytes == 1000


async def test_informational_heads_come_first(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-1xx", "103 102"), body=b"{}"))
        assert [(await wire.head())[0] for _ in range(2)] == [103, 102]
        assert (await wire.answer()).status == 200


async def test_chunked_in_pieces_of_the_asked_size(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", CHAT, AUTHORIZATION, ("x-stub-chunked", "7"), body=b"{}"))
        _, headers = await wire.head()
        assert headers["transfer-encoding"] == "chunked"
        chunks = []
        while chunk := await wire.chunk():
            chunks.append(chunk)
    assert {len(chunk) for chunk in chunks[:-1]} == {7}
    assert b"".join(chunks) == (await ask(stub.port, "POST", CHAT, body=b"{}")).body


@pytest.mark.parametrize("switch", [("x-stub-delay-ms", "soon"), ("x-stub-frames", "-1"), ("x-stub-status", "99")])
async def test_a_value_that_means_nothing_is_refused(stub: StubServer, switch: tuple[str, str]) -> None:
    assert (await ask(stub.port, "POST", CHAT, switch, body=b"{}")).status == 400


async def test_download_is_deterministic_under_backpressure(stub: StubServer) -> None:
    count = 3_000_001
    async with Wire(stub.port) as wire:
        await wire.send(request("GET", f"/v1/download?bytes={count}", AUTHORIZATION))
        _, headers = await wire.head()
        assert headers["content-length"] == str(count)
        body = await asyncio.wait_for(wire.exactly(count), LIMIT_S)
    assert body == download_bytes(0, count)


async def test_a_client_that_does_not_read_stops_the_download(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        wire.writer.transport.pause_reading()
        await wire.send(request("GET", "/v1/download?bytes=1000000000", AUTHORIZATION))
        await stub.until(lambda _: any(connection.paused for connection in stub.connections))
        assert stub.stats.open_requests == 1
