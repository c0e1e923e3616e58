"""What nginx must not do to a request or an answer: hold it back, change it, read it as its own, keep a key of it."""

import asyncio
import json

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.edge import CLIENT, Edge, running_edge
from tests.support.gateways import GatewayProcess, free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
STREAMED = {**CHAT, "stream": True}
PROTOCOLS = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


async def frames(response: httpx.Response):
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield line


@PROTOCOLS
async def test_frames_arrive_while_the_stream_is_open(edge: Edge, stub: StubServer, key: str, http2: bool):
    """The upstream falls silent after three: whoever waits for more, or for the end, shows none."""
    switches = {"x-stub-stall": "3", "x-stub-interval-ms": "0"}
    async with (
        edge.client(key, http2=http2) as client,
        client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=switches) as response,
    ):
        arriving = frames(response)
        assert [json.loads((await anext(arriving))[5:])["object"] for _ in range(3)] == ["chat.completion.chunk"] * 3


async def test_a_hundred_streams_over_one_connection_are_whole(edge: Edge, stub: StubServer, key: str):
    """Each frame once and in order, on HTTP/2's streams beside each other."""
    switches = {"x-stub-frames": "30", "x-stub-interval-ms": "5"}

    async def one(client: httpx.AsyncClient) -> list[str]:
        async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=switches) as response:
            return [line async for line in frames(response)]

    async with edge.client(key) as client:
        first = [_word(line) for line in await one(client)]
        assert len(first) > 30
        for lines in await asyncio.gather(*(one(client) for _ in range(100))):
            assert [_word(line) for line in lines] == first


def _word(line: str) -> str:
    text = line.removeprefix("data:").strip()
    return text if text == "[DONE]" else json.loads(text)["choices"][0]["delta"].get("content", "").split(" ")[0]


@PROTOCOLS
async def test_an_upload_is_passed_on_as_it_comes(edge: Edge, stub: StubServer, key: str, http2: bool):
    """The second half is sent only when the upstream has the first."""
    half = b"x" * 10_000

    async def body():
        yield half
        await eventually(lambda: stub.requests and stub.requests[-1].body_bytes == len(half))
        yield half

    async with edge.client(key, http2=http2) as client:
        answer = await client.post("/v1/files", content=body(), headers={"content-length": str(2 * len(half))})
    assert answer.json()["bytes"] == 2 * len(half)


@PROTOCOLS
async def test_a_client_that_leaves_ends_its_exchange(edge: Edge, stub: StubServer, key: str, http2: bool):
    switches = {"x-stub-frames": "100000", "x-stub-interval-ms": "20"}
    async with (
        edge.client(key, http2=http2) as client,
        client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=switches) as response,
    ):
        await anext(frames(response))
    await eventually(lambda: stub.stats.aborted == 1)


@PROTOCOLS
async def test_a_stream_that_breaks_does_not_look_finished(edge: Edge, stub: StubServer, key: str, http2: bool):
    switches = {"x-stub-cut-after": "3", "x-stub-interval-ms": "0"}
    async with edge.client(key, http2=http2) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/chat/completions", json=STREAMED, headers=switches)


@PROTOCOLS
@pytest.mark.parametrize("target", ["/v1/%6dodels?a=%20&b=+&&c", "/v1/models?q=//..//%2e", "/v1/models/a%20b;c=d"])
async def test_a_target_stays_as_it_was_written(edge: Edge, stub: StubServer, key: str, target: str, http2: bool):
    async with edge.client(key, http2=http2) as client:
        await client.get(httpx.URL(edge.url).copy_with(raw_path=target.encode()))
    assert stub.requests[-1].target.decode() == target


@pytest.mark.parametrize(
    "target", ["/v1//models", "//v1/models", "/v1/x/%2e%2e/models", "/v1/a%2Fb", "/v1/x/../models"]
)
async def test_what_the_gateway_makes_of_an_odd_target_is_not_changed(
    edge: Edge, gateways: tuple[GatewayProcess, GatewayProcess], stub: StubServer, key: str, target: str
):
    """nginx would merge slashes and resolve dots, and the gateway would judge another path than the client wrote."""
    direct = httpx.AsyncClient(headers={"authorization": f"Bearer {key}", "x-real-ip": CLIENT})
    async with edge.client(key) as client, direct:
        through = await client.get(httpx.URL(edge.url).copy_with(raw_path=target.encode()))
        seen = [request.target for request in stub.requests]
        stub.requests.clear()
        asked = await direct.get(httpx.URL(gateways[0].url).copy_with(raw_path=target.encode()))
    assert through.status_code == asked.status_code
    assert seen == [request.target for request in stub.requests]


async def test_headers_with_underscores_pass(edge: Edge, stub: StubServer, key: str):
    """Codex sends session_id; by default nginx drops such names without a word."""
    async with edge.client(key) as client:
        await client.post("/v1/chat/completions", json=CHAT, headers={"session_id": "abc"})
    assert stub.requests[-1].values("session_id") == ["abc"]


async def test_an_answer_cannot_steer_nginx(edge: Edge, stub: StubServer, key: str):
    """X-Accel-Buffering comes from the upstream (New API sends it) and reaches the client, for a proxy before us."""
    async with edge.client(key) as client:
        streamed = await client.post("/v1/chat/completions", json=STREAMED, headers={"x-stub-frames": "1"})
    assert streamed.headers["x-accel-buffering"] == "no"


async def test_heads_and_bodies_have_limits(edge: Edge, stub: StubServer, key: str):
    async with edge.client(key, http2=False) as client:
        # 60 KiB in four lines pass, 80 KiB in five do not, nor does one line of 17 KiB.
        assert (await client.get("/v1/models", headers={f"x-{n}": "v" * 15_000 for n in range(3)})).status_code == 200
        for headers in ({f"x-{n}": "v" * 15_000 for n in range(6)}, {"x-1": "v" * 17_000}):
            assert (await client.get("/v1/models", headers=headers)).status_code == 400
        assert (await client.get("/v1/models?" + "q" * 17_000)).status_code == 414
    async with edge.connection() as (reader, writer):
        head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {2**40}\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        told = await reader.readuntil(b"}}")
        assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_too_large"


async def test_without_a_gateway_the_answer_can_be_read_by_an_sdk_and_no_log_has_the_key():
    """nginx itself answers, in JSON; a key in the query (Gemini's way) stays out of its logs, of errors too."""
    key = "AIza-secret-of-somebody"
    with running_edge([free_port(), free_port()]) as alone:
        async with alone.client() as client:
            for method in ("GET", "POST"):
                answer = await client.request(
                    method, f"/v1beta/models?key={key}", headers={"referer": f"https://x?{key}"}
                )
                assert (answer.status_code, answer.headers["retry-after"]) == (502, "5")
                assert answer.json()["error"]["code"] == "gateway_unavailable"
        await eventually(lambda: alone.access_log().count("/v1beta/models") == 2)
        assert CLIENT in alone.access_log()
        assert key not in alone.access_log() + alone.error_log()


async def test_the_id_of_a_request_is_nobodys_choice(edge: Edge, stub: StubServer, key: str):
    """Not the client's: it could take another's, which the records, the logs and the upstream go by."""
    async with edge.client(key) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "stolen"})
    [told] = stub.requests[-1].values("x-request-id")
    assert told == answer.headers["x-sentinel-request-id"] != "stolen"
    await eventually(lambda: f" {told}\n" in edge.access_log())


async def test_nginx_does_not_say_which_version_it_is(edge: Edge):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.plain_port}") as client:
        assert (await client.get("/")).headers["server"] == "nginx"


async def test_the_planes_have_their_places(gateways: tuple[GatewayProcess, GatewayProcess], stub: StubServer):
    """By the path as nginx understands it, however it is spelt; what nobody serves is nobody's."""

    async def says(name: bytes):
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            body = name + b" " + target
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        return server, server.sockets[0].getsockname()[1]

    (admin, admin_port), (console, console_port) = await says(b"admin"), await says(b"console")
    ports = [gateway.port for gateway in gateways]
    with running_edge(ports, admin=admin_port, console=console_port) as edge:
        async with edge.client() as client:

            async def said(target: str) -> str:
                return (await client.get(httpx.URL(edge.url).copy_with(raw_path=target.encode()))).text

            assert await said("/admin/api/dashboard?x=%20") == "admin /admin/api/dashboard?x=%20"
            assert await said("/%61dmin/api/me") == "admin /%61dmin/api/me"
            assert await said("/admin/ui/") == "console /admin/ui/"
            assert await said("/admin/ui/_nicegui/x.js") == "console /admin/ui/_nicegui/x.js"
            shortened = await client.get("/admin/ui")
            assert (shortened.status_code, shortened.headers["location"]) == (308, "/admin/ui/")
            assert json.loads(await said("/health")) == {"status": "ok"}
            await said("/admin/uix")
            assert stub.requests[-1].target == b"/admin/uix"
            for missed in ("/admin/api", "/admin/api/../api2"):
                assert "admin /" not in await said(missed)
    admin.close()
    console.close()
