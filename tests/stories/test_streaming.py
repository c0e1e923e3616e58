"""An answer passes through unchanged and at once."""

import asyncio
import json

import httpx
import pytest

from benchmarks.stub import StubServer

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**CHAT, "stream": True}
FORMATS = [
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/responses", {"model": "m", "input": "hi"}),
    ("POST", "/v1/messages", CHAT),
    ("POST", "/v1beta/models/m:generateContent", {"contents": []}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/nothing-here", None),
    ("GET", "/", None),
]
VOLATILE = {
    "date",
    "server",
    "x-oneapi-request-id",
    "x-request-id",
    "x-sentinel-request-id",
    "connection",
    "keep-alive",
}


async def frames_of(response: httpx.Response) -> list[bytes]:
    return [line async for line in _lines(response) if line.startswith(b"data:")]


async def _lines(response: httpx.Response):
    rest = b""
    async for chunk in response.aiter_raw():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


@pytest.mark.parametrize(("method", "path", "body"), FORMATS)
async def test_an_answer_equals_the_one_the_upstream_gives_directly(client, stub, key, method, path, body):
    through = await client.request(method, path, json=body)
    async with httpx.AsyncClient(base_url=stub.url, headers={"authorization": f"Bearer {key}"}) as direct_client:
        direct = await direct_client.request(method, path, json=body)
    assert through.status_code == direct.status_code
    assert _stable(through) == _stable(direct)


def _stable(response: httpx.Response) -> tuple[dict[str, str], object]:
    headers = {name: value for name, value in response.headers.items() if name not in VOLATILE}
    try:
        body = {name: value for name, value in response.json().items() if name not in ("id", "created", "responseId")}
    except json.JSONDecodeError:
        return headers, response.content
    return headers, body


async def test_frames_arrive_while_the_stream_is_still_open(client, stub):
    """The upstream falls silent after three frames: whoever buffers until the end, or until more comes, shows none."""
    headers = {"x-stub-stall": "3", "x-stub-interval-ms": "0"}
    async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen = 0
        async for line in _lines(response):
            seen += line.startswith(b"data:")
            if seen == 3:
                break
    assert seen == 3


async def test_the_head_arrives_before_the_first_byte_of_a_body(client, stub):
    async with client.stream("GET", "/v1/download?bytes=1000", headers={"x-stub-stall": "0"}) as response:
        assert response.status_code == 200


async def test_every_frame_of_many_streams_arrives_once_and_in_order(client, stub):
    async def one(number: int) -> list[bytes]:
        headers = {"x-stub-frames": "50", "x-stub-interval-ms": "2"}
        async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=headers) as response:
            return await frames_of(response)

    async with httpx.AsyncClient(base_url=stub.url, headers=client.headers) as direct_client:
        headers = {"x-stub-frames": "50", "x-stub-interval-ms": "2"}
        async with direct_client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=headers) as response:
            expected = [_content(frame) for frame in await frames_of(response)]
    for frames in await asyncio.gather(*(one(number) for number in range(40))):
        assert [_content(frame) for frame in frames] == expected


def _content(frame: bytes) -> object:
    text = frame.removeprefix(b"data:").strip()
    return text if text == b"[DONE]" else json.loads(text)["choices"][0]["delta"].get("content", "").split(" ")[0]


async def test_informational_answers_are_absorbed(client, stub):
    response = await client.post("/v1/chat/completions", json=CHAT, headers={"x-stub-1xx": "103 102"})
    assert response.status_code == 200


@pytest.mark.parametrize("how", ["1", "1.0"])
async def test_an_answer_that_ends_with_its_connection_is_whole(client, stub, how):
    response = await client.get("/v1/download?bytes=200000", headers={"x-stub-close": how})
    assert len(response.content) == 200_000


async def test_head_has_the_headers_of_get_and_no_body(client, stub):
    response = await client.head("/v1/models")
    assert response.status_code == 200
    assert response.content == b""


async def test_an_answer_given_before_the_upload_ends_reaches_the_client(gateway, stub: StubServer, key):
    """The upload never ends; the answer is there all the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Real-IP: 203.0.113.7\r\n"
        "X-Stub-Early: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
