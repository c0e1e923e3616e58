"""Each dialect's answers and streams, as an SDK reads them."""

import json
import re

import pytest

from benchmarks.stub import StubServer
from tests.benchmarks.wire import AUTHORIZATION, Wire, ask, ask_bare, request

pytestmark = pytest.mark.anyio

FAST = (("x-stub-frames", "5"), ("x-stub-interval-ms", "1"))
OPENAI = "/v1/chat/completions"


def events(body: bytes) -> list[tuple[str | None, str]]:
    """Name and data of each event."""
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event"), lines["data"]))
    return found


def numbers(body: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb'"stub":\{"seq":(\d+),"ns":\d+\}', body)]


async def test_chat_completion_names_the_model_that_was_asked(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", OPENAI, body=b'{"model":"m\xc3\xbc%d","messages":[]}')
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json()["object"] == "chat.completion"
    assert answer.json()["model"] == "mü%d"
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"


async def test_chat_stream_counts_its_frames_and_ends_with_done(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", OPENAI, *FAST, body=b'{"model":"100%","stream":true}')
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, done = [data for _, data in events(answer.body)]
    assert done == "[DONE]"
    decoded = [json.loads(chunk) for chunk in chunks]
    assert [chunk["stub"]["seq"] for chunk in decoded if "stub" in chunk] == [0, 1, 2, 3, 4]
    assert decoded[0]["choices"][0]["delta"]["role"] == "assistant"
    assert decoded[-1]["choices"][0]["finish_reason"] == "stop"
    assert {chunk["model"] for chunk in decoded} == {"100%"}


async def test_stream_clock_readings_are_monotonic_and_paced(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", OPENAI, *FAST, body=b'{"stream":true}')
    sent_ns = [int(found) for found in re.findall(rb'"ns":(\d+)', answer.body)]
    # Deadlines 1 ms apart from the start, each kept at or after its time: four intervals take at least three slots.
    assert sent_ns == sorted(sent_ns)
    assert sent_ns[-1] - sent_ns[0] >= 3_000_000


async def test_each_frame_is_a_chunk_of_its_own(stub: StubServer) -> None:
    async with Wire(stub.port) as wire:
        await wire.send(request("POST", OPENAI, AUTHORIZATION, *FAST, body=b'{"stream":true}'))
        await wire.head()
        assert b'"role":"assistant"' in await wire.chunk()
        for number in range(5):
            assert numbers(await wire.chunk()) == [number]


async def test_default_stream_has_64_content_frames(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", OPENAI, ("x-stub-interval-ms", "0"), body=b'{"stream":true}')
    assert numbers(answer.body) == list(range(64))


async def test_responses_whole_and_streamed(stub: StubServer) -> None:
    whole = await ask(stub.port, "POST", "/v1/responses", body=b'{"model":"m","input":"hi"}')
    assert whole.json()["output"][0]["content"][0]["type"] == "output_text"
    streamed = await ask(stub.port, "POST", "/v1/responses", *FAST, body=b'{"model":"m","stream":true}')
    names = [name for name, _ in events(streamed.body)]
    assert names[0] == "response.created"
    assert names[-1] == "response.completed"
    assert names.count("response.output_text.delta") == 5
    for name, data in events(streamed.body):
        assert json.loads(data)["type"] == name


async def test_messages_whole_and_streamed(stub: StubServer) -> None:
    whole = await ask(stub.port, "POST", "/v1/messages", body=b'{"model":"claude","messages":[]}')
    assert whole.json()["type"] == "message"
    assert whole.json()["content"][0]["type"] == "text"
    streamed = await ask(stub.port, "POST", "/v1/messages", *FAST, body=b'{"model":"claude","stream":true}')
    names = [name for name, _ in events(streamed.body)]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-1] == "message_stop"
    assert names.count("content_block_delta") == 5
    for name, data in events(streamed.body):
        assert json.loads(data)["type"] == name


async def test_gemini_whole_streamed_and_as_an_array(stub: StubServer) -> None:
    path = "/v1beta/models/gemini-2:"
    whole = await ask(stub.port, "POST", path + "generateContent", body=b"{}")
    assert whole.json()["candidates"][0]["finishReason"] == "STOP"
    assert whole.json()["modelVersion"] == "gemini-2"
    streamed = await ask(stub.port, "POST", path + "streamGenerateContent?alt=sse", *FAST, body=b"{}")
    assert numbers(streamed.body) == [0, 1, 2, 3, 4]
    assert json.loads(events(streamed.body)[-1][1])["candidates"][0]["finishReason"] == "STOP"
    array = await ask(stub.port, "POST", path + "streamGenerateContent", *FAST, body=b"{}")
    assert array.headers["content-type"].startswith("application/json")
    assert [item["stub"]["seq"] for item in array.json()[:-1]] == [0, 1, 2, 3, 4]


async def test_embeddings(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", "/v1/embeddings", body=b'{"model":"e","input":"x"}')
    assert len(answer.json()["data"][0]["embedding"]) == 16


async def test_model_list_speaks_the_callers_dialect(stub: StubServer) -> None:
    key = AUTHORIZATION[1].removeprefix("Bearer ")
    openai = await ask(stub.port, "GET", "/v1/models")
    assert openai.json()["object"] == "list"
    anthropic = await ask_bare(stub.port, "GET", "/v1/models", ("x-api-key", key), ("anthropic-version", "2023-06-01"))
    assert anthropic.json()["data"][0]["type"] == "model"
    gemini = await ask(stub.port, "GET", "/v1beta/models")
    assert gemini.json()["models"][0]["name"] == "models/stub-model"


async def test_a_body_that_is_no_json_is_refused(stub: StubServer) -> None:
    answer = await ask(stub.port, "POST", OPENAI, body=b"model=m")
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "new_api_error"


async def test_what_needs_no_key_and_what_no_route_knows(stub: StubServer) -> None:
    status = await ask_bare(stub.port, "GET", "/api/status")
    assert status.json()["success"] is True
    home = await ask_bare(stub.port, "GET", "/")
    assert home.headers["content-type"].startswith("text/html")
    unknown = await ask_bare(stub.port, "GET", "/v1/x?a=b")
    assert unknown.status == 404
    assert unknown.json() == {
        "error": {"message": "Invalid URL (GET /v1/x?a=b)", "type": "invalid_request_error", "param": "", "code": ""}
    }
    wrong_method = await ask_bare(stub.port, "GET", OPENAI)
    assert wrong_method.status == 404
    elsewhere = await ask_bare(stub.port, "GET", "/console/token")
    assert (elsewhere.status, elsewhere.headers["content-type"][:9]) == (200, "text/html")
