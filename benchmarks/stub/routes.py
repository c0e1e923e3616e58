"""Which answer a request gets: the route table, decided at the head (`find`), asked at the body's end (`Route.answer`).

As in New API, what no route knows is 404 JSON under ``/v1``, ``/api`` and ``/assets``, and the web UI's page with
status 200 everywhere else.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from benchmarks.stub import dialects
from benchmarks.stub.dialects import Answer, StreamAnswer
from benchmarks.stub.keys import first_query_value
from benchmarks.stub.requests import RecordedRequest, Stats

Handler = Callable[[RecordedRequest, Stats], Answer | StreamAnswer]
MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_DOWNLOAD_BYTES = 1 << 40


class Route(NamedTuple):
    """``holds`` the body for its handler, or only ``hashes`` it; neither: the body is read and dropped."""

    answer: Handler
    needs_key: bool = True
    holds: bool = False
    hashes: bool = False
    websocket: bool = False


class _Ask(msgspec.Struct):
    """The two members of a request body that the stub looks at."""

    model: str = "stub-model"
    stream: bool | None = None


def find(request: RecordedRequest) -> Route:
    method, path = request.method, request.path
    route = _TABLE.get((method, path))
    if route is not None:
        return route
    if method == b"HEAD" and (route := _TABLE.get((b"GET", path))) is not None:
        return route
    if method == b"OPTIONS":
        return _PREFLIGHT
    if method == b"POST" and path.startswith(("/v1beta/models/", "/v1/models/")):
        return _GEMINI
    return NOWHERE


def _by_stream(
    whole: Callable[[str], Answer], streamed: Callable[[str], StreamAnswer]
) -> Callable[[RecordedRequest, Stats], Answer | StreamAnswer]:
    def answer(request: RecordedRequest, _: Stats) -> Answer | StreamAnswer:
        ask = _ask(request)
        if isinstance(ask, Answer):
            return ask
        return streamed(ask.model) if ask.stream else whole(ask.model)

    return answer


def _ask(request: RecordedRequest) -> _Ask | Answer:
    """The body's two members, or the refusal of a body that is no JSON object. A compressed body is not looked into."""
    if b"content-encoding" in request.first or not request.complete:
        return _Ask()
    if request.body_bytes > MAX_JSON_BYTES:
        return dialects.openai_error(413, "request body too large", "new_api_error", "read_request_body_failed")
    try:
        return _decode_ask(request.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return dialects.openai_error(400, "request body is no JSON object of the expected shape", "new_api_error")


_decode_ask = msgspec.json.Decoder(_Ask).decode


def _embeddings(request: RecordedRequest, _: Stats) -> Answer:
    ask = _ask(request)
    return ask if isinstance(ask, Answer) else dialects.embeddings(ask.model)


def _gemini(request: RecordedRequest, stats: Stats) -> Answer | StreamAnswer:
    name, colon, verb = request.path.rpartition("/")[2].rpartition(":")
    if colon and verb == "generateContent":
        return dialects.gemini(name)
    if verb == "streamGenerateContent":
        sse = first_query_value(request.query, b"alt") == b"sse"
        return dialects.gemini_stream(name) if sse else dialects.gemini_array_stream(name)
    return _nowhere(request, stats)


def _models(request: RecordedRequest, _: Stats) -> Answer:
    first = request.first
    if first.get(b"x-api-key") and first.get(b"anthropic-version"):
        return dialects.models_anthropic()
    if first.get(b"x-goog-api-key") or first_query_value(request.query, b"key"):
        return dialects.models_gemini()
    return dialects.models_openai()


def _file(request: RecordedRequest, _: Stats) -> Answer:
    return dialects.file_object(request.body_bytes, request.body_sha256)


def _echo(request: RecordedRequest, _: Stats) -> Answer:
    """What reached the stub, told to the caller: for tests that sit on the other side of a proxy process."""
    return Answer(
        dialects.encode(
            {
                "method": request.method.decode("latin-1"),
                "target": request.target.decode("latin-1"),
                "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
                "trailers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.trailers],
                "bytes": request.body_bytes,
                "sha256": request.body_sha256,
            }
        )
    )


def _download(request: RecordedRequest, _: Stats) -> Answer:
    try:
        length = int(first_query_value(request.query, b"bytes") or b"0")
    except ValueError:
        length = -1
    if not 0 <= length <= MAX_DOWNLOAD_BYTES:
        return dialects.openai_error(400, "bytes must be a count", "invalid_request_error")
    return Answer(b"", content_type=b"application/octet-stream", length=length)


def _status(_: RecordedRequest, __: Stats) -> Answer:
    return Answer(dialects.encode({"success": True, "message": "", "data": {"system_name": "Stub", "version": "stub"}}))


def _stats(_: RecordedRequest, stats: Stats) -> Answer:
    return Answer(msgspec.json.encode(stats))


def _preflight(_: RecordedRequest, __: Stats) -> Answer:
    allow = (
        b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: *\r\n"
        b"Access-Control-Allow-Methods: GET,POST,PUT,DELETE,OPTIONS\r\nAccess-Control-Max-Age: 43200\r\n"
    )
    return Answer(b"", status=204, headers=allow)


def _nowhere(request: RecordedRequest, _: Stats) -> Answer:
    target = request.target.decode("latin-1")
    if target.startswith(("/v1", "/api", "/assets")):
        return dialects.no_such_url(request.method.decode("latin-1"), target)
    return dialects.page()


def _realtime(_: RecordedRequest, __: Stats) -> Answer:
    return dialects.openai_error(400, "websocket: the client is not using the websocket protocol", "new_api_error")


NOWHERE = Route(_nowhere, needs_key=False)
_PREFLIGHT = Route(_preflight, needs_key=False)
_GEMINI = Route(_gemini)
_TABLE: dict[tuple[bytes, str], Route] = {
    (b"POST", "/v1/chat/completions"): Route(_by_stream(dialects.chat, dialects.chat_stream), holds=True),
    (b"POST", "/v1/responses"): Route(_by_stream(dialects.responses, dialects.responses_stream), holds=True),
    (b"POST", "/v1/messages"): Route(_by_stream(dialects.messages, dialects.messages_stream), holds=True),
    (b"POST", "/v1/embeddings"): Route(_embeddings, holds=True),
    (b"GET", "/v1/models"): Route(_models),
    (b"GET", "/v1beta/models"): Route(lambda _, __: dialects.models_gemini()),
    (b"POST", "/v1/files"): Route(_file, hashes=True),
    (b"POST", "/v1/audio/transcriptions"): Route(lambda _, __: dialects.transcription(), hashes=True),
    (b"POST", "/v1/audio/speech"): Route(lambda _, __: dialects.speech(), holds=True),
    (b"GET", "/v1/download"): Route(_download),
    (b"GET", "/v1/realtime"): Route(_realtime, websocket=True),
    (b"GET", "/api/status"): Route(_status, needs_key=False),
    (b"GET", "/stub/stats"): Route(_stats, needs_key=False),
    (b"GET", "/"): Route(lambda _, __: dialects.page(), needs_key=False),
    **{(method, "/v1/echo"): Route(_echo, hashes=True) for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE")},
}
