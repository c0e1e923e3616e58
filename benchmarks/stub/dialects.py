"""What the stub says, in each API's own words: whole answers, and streams as opening, frame template, closing.

Every content frame carries ``"stub":{"seq":N,"ns":T}``: its number from 0 and the monotonic clock when it was made, so
that a reader tells lost, merged, reordered and late frames. SDKs ignore the extra member.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

import msgspec

JSON = b"application/json; charset=utf-8"
SSE = b"text/event-stream"
HTML = b"text/html; charset=utf-8"
TEXT = "Hello from the stub model."
SPEECH = bytes(range(256)) * 64
_MARK = '"stub":{"seq":%d,"ns":%d}'
_CREATED = 1_760_000_000


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; ``length`` set means that many deterministic bytes instead of ``body``."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: bytes = b""
    length: int | None = None


class StreamAnswer(msgspec.Struct, frozen=True):
    """A stream: ``frame % (seq, ns)`` is one content frame, sent as one chunk."""

    opening: bytes
    frame: bytes
    closing: bytes
    content_type: bytes = SSE
    headers: bytes = b"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
    status: int = 200


def encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _event(value: object, name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encode(value) + b"\n\n"


def _template(value: dict[str, object], name: str | None = None) -> bytes:
    """An event whose last member is the mark; any other per cent sign (of a model's name) is kept literal."""
    event = _event(value, name).replace(b"%", b"%%")
    return event.removesuffix(b"}\n\n") + b"," + _MARK.encode() + b"}\n\n"


# OpenAI chat completions


@lru_cache(maxsize=64)
def chat(model: str) -> Answer:
    return Answer(
        encode(
            {
                "id": "chatcmpl-stub",
                "object": "chat.completion",
                "created": _CREATED,
                "model": model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": TEXT, "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15},
            }
        )
    )


def _chat_chunk(model: str, delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


@lru_cache(maxsize=64)
def chat_stream(model: str) -> StreamAnswer:
    return StreamAnswer(
        opening=_event(_chat_chunk(model, {"role": "assistant", "content": ""})),
        frame=_template(_chat_chunk(model, {"content": "word "})),
        closing=_event(_chat_chunk(model, {}, "stop")) + b"data: [DONE]\n\n",
    )


# OpenAI responses


def _response(model: str, status: str, output: Sequence[object]) -> dict[str, object]:
    return {
        "id": "resp_stub",
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 15,
        },
    }


def _message(status: str, content: list[object]) -> dict[str, object]:
    return {"type": "message", "id": "msg_stub", "status": status, "role": "assistant", "content": content}


@lru_cache(maxsize=64)
def responses(model: str) -> Answer:
    part = {"type": "output_text", "text": TEXT, "annotations": []}
    return Answer(encode(_response(model, "completed", [_message("completed", [part])])))


@lru_cache(maxsize=64)
def responses_stream(model: str) -> StreamAnswer:
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_stub", "output_index": 0, "content_index": 0}
    done = [_message("completed", [part])]
    opening: list[dict[str, object]] = [
        {"type": "response.created", "response": _response(model, "in_progress", [])},
        {"type": "response.output_item.added", "output_index": 0, "item": _message("in_progress", [])},
        {"type": "response.content_part.added", **at, "part": part},
    ]
    closing: list[dict[str, object]] = [
        {"type": "response.output_text.done", **at, "text": ""},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": done[0]},
        {"type": "response.completed", "response": _response(model, "completed", done)},
    ]
    name = "response.output_text.delta"
    return StreamAnswer(
        opening=b"".join(_event(event, str(event["type"])) for event in opening),
        frame=_template({"type": name, **at, "delta": "word "}, name),
        closing=b"".join(_event(event, str(event["type"])) for event in closing),
    )


# Anthropic messages


def _anthropic_message(model: str, content: list[object], stop: str | None) -> dict[str, object]:
    return {
        "id": "msg_stub",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 6},
    }


@lru_cache(maxsize=64)
def messages(model: str) -> Answer:
    return Answer(encode(_anthropic_message(model, [{"type": "text", "text": TEXT}], "end_turn")))


@lru_cache(maxsize=64)
def messages_stream(model: str) -> StreamAnswer:
    opening: list[dict[str, object]] = [
        {"type": "message_start", "message": _anthropic_message(model, [], None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    closing: list[dict[str, object]] = [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 6},
        },
        {"type": "message_stop"},
    ]
    name = "content_block_delta"
    return StreamAnswer(
        opening=b"".join(_event(event, str(event["type"])) for event in opening),
        frame=_template({"type": name, "index": 0, "delta": {"type": "text_delta", "text": "word "}}, name),
        closing=b"".join(_event(event, str(event["type"])) for event in closing),
    )


# Gemini


def _candidates(model: str, text: str, finish: str | None) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 6, "totalTokenCount": 15}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}


@lru_cache(maxsize=64)
def gemini(model: str) -> Answer:
    return Answer(encode(_candidates(model, TEXT, "STOP")))


@lru_cache(maxsize=64)
def gemini_stream(model: str) -> StreamAnswer:
    return StreamAnswer(
        opening=b"",
        frame=_template(_candidates(model, "word ", None)),
        closing=_event(_candidates(model, "", "STOP")),
    )


@lru_cache(maxsize=64)
def gemini_array_stream(model: str) -> StreamAnswer:
    """``streamGenerateContent`` without ``alt=sse``: one JSON array, an element a chunk."""
    stream = gemini_stream(model)
    element = stream.frame.removeprefix(b"data: ").removesuffix(b"\n\n")
    last = stream.closing.removeprefix(b"data: ").removesuffix(b"\n\n")
    return StreamAnswer(opening=b"[", frame=element + b"\n,\r\n", closing=last + b"]", content_type=JSON)


# Embeddings, lists, pages


@lru_cache(maxsize=64)
def embeddings(model: str) -> Answer:
    vector = [round((index % 7 - 3) / 8, 3) for index in range(16)]
    item = {"object": "embedding", "index": 0, "embedding": vector}
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    return Answer(encode({"object": "list", "data": [item], "model": model, "usage": usage}))


def models_openai() -> Answer:
    item = {"id": "stub-model", "object": "model", "created": _CREATED, "owned_by": "stub"}
    return Answer(encode({"data": [item], "object": "list", "success": True}))


def models_anthropic() -> Answer:
    item = {"type": "model", "id": "stub-model", "display_name": "Stub", "created_at": "2025-10-09T08:53:20Z"}
    return Answer(encode({"data": [item], "first_id": "stub-model", "has_more": False, "last_id": "stub-model"}))


def models_gemini() -> Answer:
    item = {"name": "models/stub-model", "displayName": "Stub", "supportedGenerationMethods": ["generateContent"]}
    return Answer(encode({"models": [item], "nextPageToken": None}))


def file_object(size: int, sha256: str | None) -> Answer:
    """With the digest of the whole upload's body, which the real API does not tell."""
    names = {"filename": "stub.bin", "purpose": "assistants", "status": "processed", "created_at": _CREATED}
    return Answer(encode({"id": "file-stub", "object": "file", "bytes": size, "sha256": sha256} | names))


def transcription() -> Answer:
    return Answer(encode({"text": TEXT}))


def speech() -> Answer:
    return Answer(SPEECH, content_type=b"audio/mpeg")


def realtime(event_type: str) -> list[bytes]:
    """What the realtime API answers to a client's event of this type."""
    session = {"object": "realtime.session", "type": "realtime", "id": "sess_stub", "model": "stub-model"}
    response = {"object": "realtime.response", "id": "resp_stub", "output": []}
    place = {"response_id": "resp_stub", "item_id": "item_stub", "output_index": 0, "content_index": 0}
    events: list[dict[str, object]] = []
    if event_type == "session.update":
        events = [{"type": "session.updated", "session": session}]
    elif event_type == "response.create":
        events = [
            {"type": "response.created", "response": response | {"status": "in_progress"}},
            {"type": "response.output_text.delta", "delta": TEXT, **place},
            {"type": "response.output_text.done", "text": TEXT, **place},
            {"type": "response.done", "response": response | {"status": "completed"}},
        ]
    return [encode({"event_id": f"event_{number}", **event}) for number, event in enumerate(events)]


def page() -> Answer:
    body = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Stub model API</title></head>\n'
        "<body><h1>Stub model API</h1><p>It answers like New API and says nothing of value.</p></body></html>\n"
    )
    return Answer(body.encode(), content_type=HTML)


# Refusals


def openai_error(status: int, message: str, kind: str, code: str = "") -> Answer:
    """Members in the order of New API's structs; ``abort`` maps (`invalid_token`) come in alphabetical order."""
    error = {"message": message, "type": kind, "param": "", "code": code}
    headers = b"Retry-After: 1\r\n" if status == 429 else b""
    return Answer(encode({"error": error}), status=status, headers=headers)


def new_api_abort(status: int, message: str, request_id: str) -> Answer:
    error = {"code": "", "message": f"{message} (request id: {request_id})", "type": "new_api_error"}
    return Answer(encode({"error": error}), status=status)


def no_such_url(method: str, target: str) -> Answer:
    return openai_error(404, f"Invalid URL ({method} {target})", "invalid_request_error")
