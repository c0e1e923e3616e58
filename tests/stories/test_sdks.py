"""The vendors' own packages, as their users have them, through the gateway: they work, and understand a refusal."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import aiohttp
import anthropic
import google.genai.errors
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from benchmarks.stub import StubServer
from benchmarks.stub.dialects import SPEECH, TEXT
from tests.support.gateways import GatewayProcess
from tests.support.sockets import ELSEWHERE, HOME

pytestmark = [
    pytest.mark.anyio,
    # google-genai's own subclass of aiohttp's session, made when it first asks
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

ASK: Any = [{"role": "user", "content": "hello"}]
CUT = {"x-stub-cut-after": "3", "x-stub-interval-ms": "0"}
PACED = {"x-stub-frames": "5", "x-stub-interval-ms": "0"}


@pytest.fixture
async def openai_client(gateway: GatewayProcess, stub: StubServer, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=key,
        base_url=f"{gateway.url}/v1",
        websocket_base_url=f"ws://127.0.0.1:{gateway.port}/v1",
        default_headers={"x-real-ip": HOME},
    ) as client:
        yield client


@pytest.fixture
async def anthropic_client(gateway: GatewayProcess, stub: StubServer, key: str) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(
        api_key=key, base_url=gateway.url, default_headers={"x-real-ip": HOME}
    ) as client:
        yield client


@pytest.fixture
async def genai_client(gateway: GatewayProcess, stub: StubServer, key: str) -> AsyncIterator[genai.Client]:
    client = genai.Client(
        api_key=key, http_options=types.HttpOptions(base_url=gateway.url, headers={"x-real-ip": HOME})
    )
    try:
        yield client
    finally:
        await client.aio.aclose()
        client.close()


# -- openai


async def test_openai_chat(openai_client):
    answer = await openai_client.chat.completions.create(model="m", messages=ASK)
    assert answer.choices[0].message.content == TEXT


async def test_openai_chat_streams(openai_client):
    stream = await openai_client.chat.completions.create(model="m", messages=ASK, stream=True, extra_headers=PACED)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 5


async def test_openai_responses_whole_and_streamed(openai_client):
    answer = await openai_client.responses.create(model="m", input="hello")
    assert answer.output_text == TEXT
    stream = await openai_client.responses.create(model="m", input="hello", stream=True, extra_headers=PACED)
    kinds = [event.type async for event in stream]
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 5


async def test_openai_uploads_files_and_audio_and_fetches_speech(openai_client, stub):
    content = bytes(range(256)) * 4000
    uploaded = await openai_client.files.create(file=("data.bin", content), purpose="assistants")
    assert uploaded.id == "file-stub"
    heard = await openai_client.audio.transcriptions.create(model="m", file=("voice.mp3", content))
    assert heard.text == TEXT
    for request in stub.requests[-2:]:
        assert request.body_bytes > len(content)
        assert request.values("content-type")[0].startswith("multipart/form-data; boundary=")
    spoken = await openai_client.audio.speech.create(model="m", voice="alloy", input="hello")
    assert hashlib.sha256(spoken.content).digest() == hashlib.sha256(SPEECH).digest()


async def test_openai_realtime(openai_client, stub, key):
    async with openai_client.realtime.connect(model="m", extra_headers={"x-real-ip": HOME}) as realtime:
        await realtime.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        assert (await realtime.recv()).type == "session.updated"
        await realtime.response.create()
        text = ""
        async for event in realtime:
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.done":
                break
    assert text == TEXT
    assert stub.requests[-1].values("authorization") == [f"Bearer {key}"]


async def test_openai_is_refused_once_and_told_what_to_do(openai_client, stub, gateway):
    await openai_client.models.list()
    stranger = openai_client.with_options(default_headers={"x-real-ip": ELSEWHERE}, max_retries=5)
    calls = (
        lambda: stranger.chat.completions.create(model="m", messages=ASK),
        lambda: stranger.chat.completions.create(model="m", messages=ASK, stream=True),
        lambda: stranger.responses.create(model="m", input="hello"),
        lambda: stranger.files.create(file=("data.bin", b"x" * 100_000), purpose="assistants"),
    )
    for call in calls:
        before = await arrived(gateway)
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await call()
        assert_tells(str(refused.value))
        assert refused.value.code == "key_bound_to_other_address"
        assert refused.value.request_id == refused.value.response.headers["x-sentinel-request-id"]
        assert await arrived(gateway) == before + 2


async def test_openai_realtime_is_refused_before_the_upgrade(openai_client, stub, gateway):
    await openai_client.models.list()
    with pytest.raises(Exception, match="403"):
        await openai_client.realtime.connect(model="m", extra_headers={"x-real-ip": ELSEWHERE}).enter()


async def test_openai_notices_a_stream_that_is_cut(openai_client, stub):
    stream = await openai_client.chat.completions.create(model="m", messages=ASK, stream=True, extra_headers=CUT)
    with pytest.raises((openai.APIError, httpx.TransportError)):
        await read(stream)


# -- anthropic


async def test_anthropic_messages_whole_and_streamed(anthropic_client):
    answer = await anthropic_client.messages.create(model="m", max_tokens=10, messages=ASK)
    assert answer.content[0].text == TEXT
    async with anthropic_client.messages.stream(model="m", max_tokens=10, messages=ASK, extra_headers=PACED) as stream:
        pieces = [text async for text in stream.text_stream]
        assert (await stream.get_final_message()).stop_reason == "end_turn"
    assert len(pieces) == 5


async def test_anthropic_is_refused_once_and_told_what_to_do(anthropic_client, stub, gateway):
    await anthropic_client.messages.create(model="m", max_tokens=10, messages=ASK)
    stranger = anthropic_client.with_options(default_headers={"x-real-ip": ELSEWHERE}, max_retries=5)
    before = await arrived(gateway)
    with pytest.raises(anthropic.PermissionDeniedError) as refused:
        await stranger.messages.create(model="m", max_tokens=10, messages=ASK)
    assert_tells(str(refused.value))
    with pytest.raises(anthropic.PermissionDeniedError):
        await stranger.models.list()
    assert await arrived(gateway) == before + 3


async def test_anthropic_notices_a_stream_that_is_cut(anthropic_client, stub):
    stream = await anthropic_client.messages.create(
        model="m", max_tokens=10, messages=ASK, stream=True, extra_headers=CUT
    )
    with pytest.raises(Exception, match="peer closed connection"):  # its HTTP library's own
        await read(stream)


# -- google-genai


async def test_genai_generates_whole_and_streamed(genai_client, stub, key):
    answer = await genai_client.aio.models.generate_content(model="m", contents="hello")
    assert answer.text == TEXT
    stream = await genai_client.aio.models.generate_content_stream(model="m", contents="hello")
    assert len([chunk async for chunk in stream]) > 5
    assert stub.requests[-1].values("authorization") == [f"Bearer {key}"]


async def test_genai_is_refused_once_and_told_what_to_do(genai_client, stub, gateway, key):
    await genai_client.aio.models.generate_content(model="m", contents="hello")
    before = await arrived(gateway)
    options = types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-real-ip": ELSEWHERE}))
    with pytest.raises(google.genai.errors.ClientError) as refused:
        await genai_client.aio.models.generate_content(model="m", contents="hello", config=options)
    assert (refused.value.code, refused.value.status) == (403, "PERMISSION_DENIED")
    assert_tells(str(refused.value))
    assert await arrived(gateway) == before + 2


async def test_genai_notices_a_stream_that_is_cut(genai_client, stub):
    options = types.GenerateContentConfig(http_options=types.HttpOptions(headers=CUT))
    stream = await genai_client.aio.models.generate_content_stream(model="m", contents="hello", config=options)
    with pytest.raises((google.genai.errors.APIError, aiohttp.ClientError)):
        await read(stream)


async def read(stream: AsyncIterable[object]) -> int:
    """To its end."""
    return len([piece async for piece in stream])


async def arrived(gateway: GatewayProcess) -> int:
    """How many requests have come to the gateway's one worker, with this one: it counts them in their ids."""
    async with httpx.AsyncClient(base_url=gateway.url, headers={"x-real-ip": HOME}) as client:
        answer = await client.get("/v1/models")
    return int(answer.headers["x-sentinel-request-id"].rpartition("-")[2], 16)


def assert_tells(message: str) -> None:
    """Which address was seen, and what to do; never whose address is bound."""
    assert ELSEWHERE in message
    assert "Ask whoever gave you the key to release it" in message
    assert HOME not in message
