"""A WebSocket is judged before it is one, by the same facts and with the same answers as any other request."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from benchmarks.stub import StubServer
from tests.stories.owners import bound_networks
from tests.support.gateways import free_port, running_gateway
from tests.support.sockets import ELSEWHERE, HOME, SocketUpstream, bearer, closed, opened, socket_upstream

pytestmark = pytest.mark.anyio

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SPACED_KEY = "Sec-WebSocket-Protocol: \xa0openai-insecure-api-key.sk-k\r\n"
SWITCHING = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.fixture
async def upstream(gateway) -> AsyncIterator[SocketUpstream]:
    async with socket_upstream(gateway.upstream_port) as running:
        yield running


async def refused(gateway, path: str = "/v1/realtime", **more) -> Response:
    with pytest.raises(InvalidStatus) as answer:
        await opened(gateway, path, **more)
    return answer.value.response


async def raw(gateway, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request.encode("latin-1"))
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


async def test_a_first_use_binds_and_another_address_gets_the_same_answer_as_over_http(
    gateway, upstream, stores, story_dsn, key
):
    async with opened(gateway, headers=bearer(key)) as socket:
        assert bound_networks(stores, story_dsn, key) == [f"{HOME}/32"]
        await socket.send("x")
        assert await socket.recv() == "x"

    answer = await refused(gateway, headers=bearer(key), address=ELSEWHERE)
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        over_http = await client.get("/v1/realtime", headers=bearer(key) | {"x-real-ip": ELSEWHERE})
    assert (answer.status_code, answer.body) == (403, over_http.content)
    assert json.loads(answer.body)["error"]["code"] == "key_bound_to_other_address"
    for name in set(over_http.headers) - {"x-request-id", "x-sentinel-request-id", "date"}:
        assert answer.headers[name] == over_http.headers[name], name
    assert len(upstream.handshakes) == 1


async def test_a_refusal_speaks_the_dialect_of_the_route(gateway, upstream, key):
    async with opened(gateway, headers=bearer(key)):
        pass
    answer = await refused(gateway, "/v1/messages", headers=bearer(key), address=ELSEWHERE)
    assert json.loads(answer.body)["error"]["type"] == "permission_error"
    answer = await refused(gateway, "/mj/submit/imagine", headers=bearer(key), address=ELSEWHERE)
    assert json.loads(answer.body)["code"] == 4


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"subprotocols": ["realtime", "openai-insecure-api-key.sk_no_key"]}, 401, "invalid_api_key"),
        ({"subprotocols": ["openai-insecure-api-keysk-x"]}, 401, "invalid_api_key"),
        ({"subprotocols": ["realtime", "openai-insecure-api-key.sk-" + "b" * 48]}, 400, "conflicting_credentials"),
        ({"headers": {"x-api-key": "sk-" + "b" * 48}}, 400, "conflicting_credentials"),
        ({"address": "unknown"}, 400, "client_address_unknown"),
    ],
)
async def test_what_cannot_be_judged_is_refused_and_not_forwarded(gateway, upstream, key, more, status, code):
    more["headers"] = bearer(key) | more.get("headers", {})
    answer = await refused(gateway, **more)
    assert (answer.status_code, json.loads(answer.body)["error"]["code"]) == (status, code)
    assert upstream.handshakes == []


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n{UPGRADE}Content-Length: 5\r\n\r\nhello",
        f"POST /v1/realtime HTTP/1.1\r\nHost: x\r\n{UPGRADE}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n{UPGRADE}Upgrade: h2c\r\n\r\n",
        f"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n{UPGRADE.replace('websocket', 'h2c, websocket')}\r\n",
        f"GET /v1/realtime HTTP/1.0\r\nHost: x\r\n{UPGRADE}\r\n",
        f"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n{SPACED_KEY}{UPGRADE}\r\n",
        f"GET /v1/../realtime HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n",
        "GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        f"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n{UPGRADE.replace('13', '8')}\r\n",
    ],
    ids=[
        *("a body", "chunks", "two protocols", "a list of protocols", "HTTP/1.0", "Unicode white space", "dots"),
        *("no key of the handshake", "an old version"),
    ],
)
async def test_a_malformed_handshake_is_refused_and_not_forwarded(gateway, upstream, request_text):
    first, rest = request_text.split("\r\n", 1)
    head = await raw(gateway, f"{first}\r\nX-Real-IP: {HOME}\r\n{rest}")
    assert head.split(b" ")[1] in (b"400", b"401")
    assert upstream.handshakes == []
    assert "Traceback" not in gateway.log_text()


async def test_another_protocol_than_websocket_is_not_upgraded_to(gateway, key):
    """The offer is left out (RFC 9110 7.8 allows that), the request is served as what it is."""
    async with StubServer([key], port=gateway.upstream_port) as stub:
        head = await raw(
            gateway,
            f"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Real-IP: {HOME}\r\nAuthorization: Bearer {key}\r\n"
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        assert head.startswith(b"HTTP/1.1 200 ")
        assert (stub.requests[-1].values("upgrade"), stub.requests[-1].values("http2-settings")) == ([], [])


async def test_sentinels_own_paths_are_no_websockets_of_the_upstream(gateway, upstream, key):
    for path in ("/health", "/ready", "/admin/api/bindings", "/sentinel/verdict"):
        assert (await refused(gateway, path, headers=bearer(key))).status_code >= 400
    assert upstream.handshakes == []


async def test_the_upstream_gets_one_credential_and_a_handshake_made_here(gateway, upstream, key):
    bare = key.removeprefix("sk-")
    offered = ["realtime", f"openai-insecure-api-key.{bare}", "openai-beta.realtime-v1"]
    async with opened(gateway, f"/v1/realtime?model=m&key={key}", subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
    (seen,) = upstream.handshakes
    assert seen.path == "/v1/realtime?model=m"
    assert seen.headers["authorization"] == f"Bearer {key}"
    assert seen.headers["sec-websocket-protocol"] == f"realtime, openai-insecure-api-key.{key}, openai-beta.realtime-v1"
    assert seen.headers["sec-websocket-key"] != socket.request.headers["sec-websocket-key"]
    assert "sec-websocket-extensions" not in seen.headers
    assert seen.headers.get_all("x-real-ip") == seen.headers.get_all("x-forwarded-for") == [HOME]
    assert seen.headers["x-forwarded-proto"] == "http"
    assert bare not in gateway.log_text()


async def test_a_subprotocol_without_a_key_is_not_sent_alone(gateway, upstream, key):
    """Old versions of the upstream would take ``realtime`` for the key."""
    async with opened(gateway, headers=bearer(key), subprotocols=["realtime"]) as socket:
        assert socket.subprotocol == "realtime"
    offered = upstream.handshakes[0].headers["sec-websocket-protocol"]
    assert offered == f"realtime, openai-insecure-api-key.{key}"


@pytest.mark.parametrize("own", [[], ["openai-insecure-api-key.{}"]], ids=["made here", "the client's"])
async def test_the_item_with_the_key_is_never_told_to_the_client(gateway, key, own):
    """An upstream that selects it says so in a header that is logged on the way, and that no client expects."""
    offered = ["realtime", *(item.format(key.removeprefix("sk-")) for item in own)]
    async with (
        socket_upstream(gateway.upstream_port, selects="openai-insecure-api-key") as upstream,
        opened(gateway, headers=bearer(key), subprotocols=offered) as socket,
    ):
        assert socket.subprotocol is None
        assert upstream.sockets[0].subprotocol is not None
        assert "sec-websocket-protocol" not in socket.response.headers


async def test_a_key_that_the_upstream_refuses_is_not_bound(gateway, upstream, stores, story_dsn, key):
    body = b'{"error":{"code":"","message":"Invalid token (request id: 2026)","type":"new_api_error"}}'
    upstream.refuse(401, body, **{"content-type": "application/json; charset=utf-8"})
    answer = await refused(gateway, headers=bearer(key))
    assert (answer.status_code, answer.body) == (401, body)
    assert bound_networks(stores, story_dsn, key) == []
    upstream.refusal = None
    async with opened(gateway, headers=bearer(key), address=ELSEWHERE):  # nothing was left reserved
        assert bound_networks(stores, story_dsn, key) == [f"{ELSEWHERE}/32"]


async def test_many_first_uses_at_once_bind_one_address(gateway, upstream, stores, story_dsn, key):
    addresses = [f"198.51.100.{number}" for number in range(1, 31)]
    outcomes = await asyncio.gather(
        *(opened(gateway, headers=bearer(key), address=address) for address in addresses), return_exceptions=True
    )
    owners = bound_networks(stores, story_dsn, key)
    assert len(owners) == 1
    let_in = [
        f"{address}/32" for address, out in zip(addresses, outcomes, strict=True) if not isinstance(out, Exception)
    ]
    assert let_in == owners
    for outcome in outcomes:
        if isinstance(outcome, InvalidStatus):
            assert outcome.response.status_code == 403
        else:
            await outcome.close()


@pytest.mark.parametrize(
    "answer",
    [
        f"{SWITCHING}\r\n",
        f"{SWITCHING}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        SWITCHING.replace("websocket", "h2c") + "\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + "data: x\n\n" * 200_000,
        "SSH-2.0-OpenSSH\r\n\r\n",
        "",
    ],
    ids=["no accept", "wrong accept", "another protocol", "bare 101", "endless answer", "no HTTP", "hangs up"],
)
async def test_an_upstream_that_does_not_switch_as_asked_is_502(gateway, key, answer):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode())
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", gateway.upstream_port):
        response = await refused(gateway, headers=bearer(key))
    assert response.status_code == 502
    assert json.loads(response.body)["error"]["code"] == "upstream_unavailable"
    assert "Traceback" not in gateway.log_text()


async def test_limits_of_a_websocket_are_settings(stores, story_dsn):
    """The handshake's time, and the size of a message either way. What is in one is in no log."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    port = free_port()
    settings = {
        "SENTINEL_WEBSOCKET_HANDSHAKE_TIMEOUT_S": "0.2",
        "SENTINEL_WEBSOCKET_MESSAGE_MAX_BYTES": "1000",
        "SENTINEL_LOG_LEVEL": "debug",
    }
    headers = bearer("sk-" + secrets.token_hex(24))
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port, **settings) as gateway:
        async with await asyncio.start_server(silent, "127.0.0.1", port):
            assert (await refused(gateway, headers=headers)).status_code == 504
        async with socket_upstream(port) as upstream:
            for message, code in (("x" * 1001, 1009), ("ä" * 501, 1009), (b"x" * 1001, 1009)):
                async with opened(gateway, headers=headers) as socket:
                    await socket.send("y" * 1000)
                    assert await socket.recv() == "y" * 1000
                    await socket.send(message)
                    with pytest.raises(ConnectionClosed) as ended:
                        await socket.recv()
                    assert ended.value.rcvd is not None
                    assert ended.value.rcvd.code == code

            async def too_much(socket) -> None:
                await socket.send("x" * 1001)
                await socket.wait_closed()

            upstream.handler = too_much
            async with opened(gateway, headers=headers) as socket:
                with pytest.raises(ConnectionClosed) as ended:
                    await socket.recv()
                assert ended.value.rcvd is not None
                assert ended.value.rcvd.code == 1009
            assert (await closed(upstream.sockets[-1]))[0] == 1009
        assert "y" * 50 not in gateway.log_text()


async def test_text_that_is_none_breaks_the_socket_off(gateway, upstream, key):
    async def garble(socket) -> None:
        await socket.send(b"\xff\xfe", text=True)
        await socket.wait_closed()

    upstream.handler = garble
    async with opened(gateway, headers=bearer(key)) as socket:
        with pytest.raises(ConnectionClosed) as ended:
            await socket.recv()
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1011
    assert (await closed(upstream.sockets[0]))[0] == 1007
