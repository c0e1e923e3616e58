"""nginx/forward-auth.conf under a real nginx: clients see, and the upstream gets, the same as inline."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from benchmarks.stub import RecordedRequest, StubServer
from tests.support import new_api
from tests.support.corpus import CORPUS
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.verdict_modes import Case, NginxModes, nginx_modes, require_nginx, send
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

STRANGER = "127.0.0.2"
OF_THE_CONNECTION = ("date",)
IDS = ("x-request-id", "x-sentinel-request-id")
OF_THE_HANDSHAKE = ("connection", "upgrade", "sec-websocket-key", "sec-websocket-version")


@pytest.fixture(scope="module")
def modes(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxModes]:
    require_nginx()
    folder = tmp_path_factory.mktemp("nginx")
    with nginx_modes(folder, gateway_port=gateway.port, upstream_port=gateway.upstream_port) as running:
        yield running


@pytest.fixture
async def stub(gateway: GatewayProcess) -> AsyncIterator[StubServer]:
    async with StubServer(any_key=True, port=gateway.upstream_port) as running:
        yield running


@pytest.fixture
async def client(modes: NginxModes, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{modes.verdict}", headers=headers, timeout=30) as running:
        yield running


def comparable(lines: Iterable[tuple[str, str]], *left_out: str) -> set[tuple[str, str]]:
    """Header lines of which two requests can be alike: of ids only that they are there."""
    return {
        (name, "" if name in IDS else value) for name, value in lines if name not in (*OF_THE_CONNECTION, *left_out)
    }


def echo(key: str, *lines: tuple[bytes, bytes]) -> Case:
    return Case("POST", b"/v1/echo", ((b"authorization", b"Bearer " + key.encode()), *lines))


def clients_requests(stub: StubServer) -> list[RecordedRequest]:
    """Without Sentinel's own, which ask about a key."""
    return [request for request in stub.requests if request.values("user-agent") != ["key-ip-sentinel"]]


class Seen(NamedTuple):
    """What a client sees of a refusal (``content``: its body), or the upstream of what was allowed (the target)."""

    status: int
    lines: set[tuple[str, str]]
    content: bytes
    head: bytes = b""


async def seen(port: int, stub: StubServer, case: Case) -> Seen:
    before = len(clients_requests(stub))
    answered = await send(port, case)
    if len(requests := clients_requests(stub)) == before:
        body = re.sub(rb'"request_id":"[^"]+"', b'"request_id":""', answered.body)
        # Granian adds lines of the handshake to a refusal of one, too.
        return Seen(answered.status, comparable(answered.lines, *OF_THE_HANDSHAKE, "sec-websocket-accept"), body)
    request = requests[-1]
    lines = ((name.decode().lower(), value.decode("latin-1")) for name, value in request.headers)
    return Seen(0, comparable(lines, *OF_THE_HANDSHAKE), request.target, request.head)


async def test_every_request_fares_as_with_sentinel_inline(modes, stub):
    """The same refusal, byte for byte, or the same request for the upstream, header for header."""
    differences = []
    for case in CORPUS:
        expected, found = await seen(modes.inline, stub, case), await seen(modes.verdict, stub, case)
        if found[:3] != expected[:3] or keys_in(found.head) != keys_in(expected.head):
            differences.append((case, expected, found))
    assert differences == []


def keys_in(head: bytes) -> list[dict[str, bytes]]:
    """What every reader of every version of the upstream finds in a request."""
    return [new_api.keys(new_api.parse(head), version) for version in new_api.NEW_API_VERSIONS] if head else []


LIES = [
    ("x-original-uri", "/api/status"),
    ("x-original-method", "OPTIONS"),
    ("x-forwarded-uri", "/api/status"),
    ("x-forwarded-method", "OPTIONS"),
    ("x-real-ip", "127.0.0.1"),
    ("x-forwarded-for", "127.0.0.1"),
    ("connection", "x-original-uri, x-real-ip, authorization"),
    ("x-sentinel-target", "/api/status"),
    ("x-sentinel-client", "127.0.0.1"),
    ("x-sentinel-status", "200"),
]


@pytest.mark.parametrize(("name", "value"), LIES, ids=lambda text: text.partition(",")[0])
async def test_no_header_of_a_client_changes_the_verdict(modes, stub, key, name, value):
    """Neither the request that is judged nor the address, nor what is forwarded."""
    assert (await send(modes.verdict, echo(key))).status == 200
    lie = (name.encode(), value.encode())
    assert (await send(modes.verdict, echo(key, lie))).status == 200
    forwarded = clients_requests(stub)[-1]
    assert (forwarded.method, forwarded.target) == (b"POST", b"/v1/echo")
    assert forwarded.values("authorization") == [f"Bearer {key}"]
    assert forwarded.values("x-real-ip") == forwarded.values("x-forwarded-for") == ["127.0.0.1"]
    before = len(stub.requests)
    refused = await send(modes.verdict, echo(key, lie), local=STRANGER)
    assert (refused.status, b"from 127.0.0.2" in refused.body) == (403, True)
    assert len(stub.requests) == before


async def test_streams_and_uploads_pass_piece_by_piece(modes, stub, client, key):
    """A frame is there before the next is made; an upload has begun to arrive before all of it was sent."""
    ask = {"model": "m", "messages": [], "stream": True}
    switches = {"x-stub-frames": "1000000", "x-stub-interval-ms": "20"}
    async with client.stream("POST", "/v1/chat/completions", json=ask, headers=switches) as answer:
        frames = answer.aiter_text()
        seen = ""
        while seen.count('"stub":{') < 3:
            seen += await anext(frames)
    assert answer.status_code == 200
    await stub.until(lambda stats: stats.open_requests == 0)  # the client has left, and the upstream knows

    begun = asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b"x" * 10_000
        await begun.wait()
        yield b"y" * 10_000

    async def arrives() -> None:
        await eventually(lambda: clients_requests(stub)[-1].body_bytes == 10_000)
        begun.set()

    answered, _ = await asyncio.gather(client.post("/v1/files", content=upload()), arrives())
    assert answered.json()["bytes"] == 20_000


async def test_a_refused_upload_is_not_waited_for(modes, stub, client):
    """The refusal comes while nearly all of the body is still with the client."""
    assert (await client.get("/v1/models")).status_code == 200
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['authorization']}\r\n"
        "Content-Length: 50000000\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", modes.verdict, local_addr=(STRANGER, 0))
    writer.write(head.encode() + b"x" * 1000)
    assert (await reader.readline()).startswith(b"HTTP/1.1 403")
    writer.close()


@pytest.mark.parametrize("protocols", [["realtime"], []])
async def test_a_websocket_is_judged_and_then_nginx_relays_it(modes, stub, key, protocols):
    url = f"ws://127.0.0.1:{modes.verdict}/v1/realtime?model=m"
    headers = {"authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, subprotocols=protocols or None) as socket:
        await socket.send("hello")
        assert "hello" in str(await socket.recv())
    (handshake,) = clients_requests(stub)
    assert handshake.values("authorization") == [f"Bearer {key}"]
    offered = [f"realtime, openai-insecure-api-key.{key}"] if protocols else []
    assert handshake.values("sec-websocket-protocol") == offered
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers=headers, local_addr=(STRANGER, 0))
    assert refused.value.response.status_code == 403


async def test_nothing_but_websocket_is_upgraded_to(modes, stub, key):
    """Another protocol would carry requests past the verdict."""
    upgrade = ((b"connection", b"upgrade, http2-settings"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAMAAABk"))
    assert (await send(modes.verdict, echo(key, *upgrade))).status == 200
    forwarded = clients_requests(stub)[-1]
    assert forwarded.values("upgrade") == forwarded.values("connection") == forwarded.values("http2-settings") == []


async def test_long_targets_and_credentials_fit(modes, stub, key):
    """As long as nginx takes them from its clients."""
    query = "a=" + "x" * 7_900
    login = "Bearer ey" + "J" * 3_900 + ".e30." + "s" * 3_900
    answered = await send(modes.verdict, Case("GET", f"/v1/echo?{query}".encode(), echo(key).lines))
    assert answered.status == 200
    assert clients_requests(stub)[-1].query == query.encode()
    target = f"/api/user/self?{query}".encode()
    await send(modes.verdict, Case("GET", target, ((b"authorization", login.encode()),)))
    assert clients_requests(stub)[-1].values("authorization") == [login]


async def test_while_sentinel_does_not_answer_nothing_passes(stub, gateway, tmp_path, key):
    require_nginx()
    with nginx_modes(tmp_path, gateway_port=free_port(), upstream_port=gateway.upstream_port) as alone:
        assert (await send(alone.verdict, echo(key))).status == 500
    assert stub.requests == []


async def test_what_answers_without_a_verdict_lets_nothing_pass(stub, gateway, tmp_path, key):
    """A 200 from something else than the verdict service names no target: there is nowhere to forward to."""
    require_nginx()
    async with StubServer(any_key=True) as other:
        with nginx_modes(tmp_path, gateway_port=other.port, upstream_port=gateway.upstream_port) as astray:
            assert (await send(astray.verdict, Case("GET", b"/", echo(key).lines))).status == 502
    assert stub.requests == []


async def test_a_piece_passes_although_nothing_asks_nginx_to(gateway, stub, tmp_path, key):
    """An upstream that does not say ``X-Accel-Buffering: no``: its first piece is there before it sends the next."""
    require_nginx()
    arrived = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        await arrived.wait()
        writer.write(b"later")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(60):
        with nginx_modes(tmp_path, gateway_port=gateway.port, upstream_port=port) as direct:
            url, headers = f"http://127.0.0.1:{direct.verdict}/v1/x", {"authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(timeout=60) as client, client.stream("GET", url, headers=headers) as answered:
                pieces = answered.aiter_bytes()
                assert await anext(pieces) == b"first"
                arrived.set()
                assert await anext(pieces) == b"later"


async def test_what_cannot_be_decided_is_refused_as_inline(own_stores, tmp_path, key):
    """Without an upstream to ask about the key, and without stores: status, headers and body of the inline mode."""
    require_nginx()
    with (
        running_gateway(pg_dsn=own_stores.pg_dsn, redis_url=own_stores.redis_url, upstream_port=free_port()) as gateway,
        nginx_modes(tmp_path, gateway_port=gateway.port, upstream_port=gateway.upstream_port) as modes,
    ):
        await same_refusal(modes, echo(key), 502, "upstream_unavailable")
        own_stores.postgres.kill()
        own_stores.valkey.kill()
        await same_refusal(modes, echo(key), 503, "binding_store_unavailable")


async def same_refusal(modes: NginxModes, case: Case, status: int, code: str) -> None:
    answers = [await send(port, case) for port in (modes.inline, modes.verdict)]
    lines = [comparable(answer.lines) for answer in answers]
    assert [answer.status for answer in answers] == [status, status]
    assert lines[1] == lines[0]
    assert answers[1].body == answers[0].body
    assert code.encode() in answers[1].body


async def test_no_log_has_a_key(modes, stub, client, key):
    """Gemini's clients write theirs into the query; a thief's request, and one that the upstream breaks off, too."""
    target = f"/v1beta/models?key={key}"
    assert (await client.get(target, headers={"referer": f"https://x{target}"})).status_code == 200
    transport = httpx.AsyncHTTPTransport(local_address=STRANGER)
    async with httpx.AsyncClient(base_url=client.base_url, transport=transport) as stranger:
        assert (await stranger.get(target)).status_code == 403
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(target, headers={"x-stub-cut-after": "1 rst"})
    log = modes.log.with_name("access.log")
    await eventually(lambda: log.read_text().count("GET /v1beta/models HTTP") >= 3)
    assert key not in log.read_text()
    assert key not in modes.log.read_text()
