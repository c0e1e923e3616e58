"""Several gateways behind one nginx: one dies, one is told to stop, all are restarted in turn, nginx reloads."""

import asyncio
import json
import re
import secrets
import signal
import time
from collections import Counter

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.edge import CLIENT, Edge, running_edge
from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
STREAMED = {**CHAT, "stream": True}
STREAMS = 200
KEPT_IDLE_S = 4.0  # nginx/sentinel/gateways.conf


@pytest.fixture
def pair(stores, edge_dsn):
    """Two gateways of a test's own, which it may kill, with the notice that production gives."""
    shared = {"pg_dsn": edge_dsn, "redis_url": stores.redis_url, "upstream_port": free_port(), "workers": 2}
    notice = {"SENTINEL_DRAIN_NOTICE_S": str(KEPT_IDLE_S + 1), "SENTINEL_DRAIN_TIMEOUT_S": "60"}
    with (
        running_gateway(**shared, **notice, name="first") as first,
        running_gateway(**shared, **notice, name="second") as second,
        running_edge([first.port, second.port]) as edge,
    ):
        yield edge, first, second


async def stream(client: httpx.AsyncClient, name: str, started: asyncio.Semaphore) -> str:
    """How it ended for the client: finished or cut. ``started`` is released when its first frame is there."""
    switches = {"x-stub-frames": "300", "x-stub-interval-ms": "50", "user-agent": name}
    done = False
    first = True
    try:
        async with client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=switches) as response:
            async for line in response.aiter_lines():
                if first:
                    started.release()
                    first = False
                done = done or line == "data: [DONE]"
    except httpx.HTTPError:
        return "cut"
    return "finished" if done else "ended without an end"


async def test_of_two_hundred_streams_those_of_a_killed_gateway_are_cut_and_all_others_finish(pair):
    """Half on HTTP/1.1, half on HTTP/2. One gateway dies, the other drains: nobody hangs, no cut looks like an end."""
    edge, killed, drained = pair
    key = "sk-" + secrets.token_hex(24)
    started = asyncio.Semaphore(0)
    async with (
        StubServer(any_key=True, port=killed.upstream_port),
        edge.client(key, http2=False) as old,
        edge.client(key) as new,
    ):
        assert (await new.post("/v1/chat/completions", json=CHAT)).status_code == 200
        names = [f"stream-{number}" for number in range(STREAMS)]
        running = [
            asyncio.create_task(stream(client, name, started))
            for client, named in ((old, names[::2]), (new, names[1::2]))
            for name in named
        ]
        for _ in names:
            await started.acquire()
        drained.process.send_signal(signal.SIGTERM)
        kill_all(killed)
        ends = dict(zip(names[::2] + names[1::2], await asyncio.wait_for(asyncio.gather(*running), 150), strict=True))
        assert set(ends.values()) == {"cut", "finished"}
        await eventually(lambda: len(served_by(edge)) == STREAMS)
        places = served_by(edge)
        assert {places[name] for name, end in ends.items() if end == "cut"} == {killed.port}
        assert {end for name, end in ends.items() if places[name] == drained.port} == {"finished"}
        assert STREAMS // 3 < list(places.values()).count(drained.port) < 2 * STREAMS // 3, "least_conn shares them out"
        assert await asyncio.to_thread(drained.process.wait, 60) == 0


def served_by(edge: Edge) -> dict[str, int]:
    """The port of the gateway that had each stream, by the stream's name, from the access log."""
    return {name: int(port) for name, port in re.findall(r'"(stream-\d+)" 127\.0\.0\.1:(\d+) ', edge.access_log())}


def kill_all(gateway: GatewayProcess) -> None:
    """A crash: the workers too."""
    for process in reversed(gateway.processes()):
        process.kill()


async def test_a_rolling_restart_under_load_loses_no_request(pair):
    """Requests, streams and uploads without a pause, on kept and on new connections, while one gateway after the other
    is stopped and started again: each is answered whole."""
    edge, *gateways = pair
    key = "sk-" + secrets.token_hex(24)
    over = asyncio.Event()
    ends: Counter[object] = Counter()

    async def chat(client: httpx.AsyncClient) -> object:
        return (await client.post("/v1/chat/completions", json=CHAT)).status_code

    async def short_stream(client: httpx.AsyncClient) -> object:
        answer = await client.post("/v1/chat/completions", json=STREAMED, headers={"x-stub-frames": "10"})
        return 200 if answer.text.rstrip().endswith("[DONE]") else answer.status_code

    async def upload(client: httpx.AsyncClient) -> object:
        async def pieces():
            for _ in range(10):
                yield b"x" * 1000

        answer = await client.post("/v1/files", content=pieces())
        return 200 if answer.json().get("bytes") == 10_000 else answer.status_code

    async def on_a_new_connection(_client: httpx.AsyncClient) -> object:
        async with edge.client(key, http2=False) as own:
            return await chat(own)

    async def keep_asking(client: httpx.AsyncClient, way) -> None:
        while not over.is_set():
            try:
                ends[await way(client)] += 1
            except (httpx.HTTPError, json.JSONDecodeError) as lost:
                ends[f"{way.__name__}: {lost!r}"] += 1

    ways = [chat, chat, chat, short_stream, short_stream, upload, upload, on_a_new_connection]
    async with (
        StubServer(any_key=True, port=gateways[0].upstream_port, record=False),
        edge.client(key, http2=False) as old,
        edge.client(key) as new,
    ):
        assert await chat(new) == 200
        asking = [asyncio.create_task(keep_asking(client, way)) for client in (old, new) for way in ways]
        for gateway in gateways:
            gateway.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.process.wait, 60) == 0
            await asyncio.to_thread(gateway.start_again)
            answered = ends[200]
            await eventually(lambda answered=answered: ends[200] > answered + 50)
            await eventually(lambda gateway=gateway: gateway.connections())
        over.set()
        await asyncio.gather(*asking)
    assert ends.keys() == {200}


async def test_a_reload_cuts_nothing(edge: Edge, stub: StubServer, key: str):
    """The old workers serve their streams to the end; new ones take what comes. With curl, since httpx takes HTTP/2's
    polite GOAWAY, which lets streams that have begun go on, for their end."""

    async def curl(protocol: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("curl", "-sS", "-N", protocol, "--interface", CLIENT, "--cacert", str(edge.folder / "certificate.pem")),
            *("-H", f"Authorization: Bearer {key}", "-H", "x-stub-frames: 60", "-H", "x-stub-interval-ms: 50"),
            *("--json", json.dumps(STREAMED), f"{edge.url}/v1/chat/completions"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    running = [await curl(protocol) for protocol in ("--http1.1", "--http2") for _ in range(10)]
    for each in running:
        assert each.stdout is not None
        assert (await each.stdout.readline()).startswith(b"data:")
    before = edge.workers()
    edge.reload()
    await eventually(lambda: edge.workers() - before)
    async with edge.client(key) as later:
        assert (await later.post("/v1/chat/completions", json=CHAT)).status_code == 200
    for each in running:
        rest, fault = await each.communicate()
        assert (each.returncode, fault) == (0, b"")
        assert rest.rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("PATCH", 1), ("GET", 2)])
@pytest.mark.parametrize("body", [b"", b"x" * 100_000], ids=["empty", "large"])
async def test_a_request_that_costs_something_is_never_sent_twice(method: str, times: int, body: bytes):
    """Its gateway has read it and dies without an answer: the client gets an error, not a second bill. What only reads
    is asked of the other one."""
    asked: list[bytes] = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        asked.append(head)
        writer.transport.abort()

    servers = [await asyncio.start_server(die, "127.0.0.1", 0) for _ in range(2)]
    with running_edge([server.sockets[0].getsockname()[1] for server in servers]) as edge:
        async with edge.client("sk-any", http2=False) as client:
            answer = await client.request(method, "/v1/anything", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "gateway_unavailable")
    assert len(asked) == (1 if body else times)
    for server in servers:
        server.close()


async def test_connections_to_the_gateways_are_kept(
    edge: Edge, gateways: tuple[GatewayProcess, GatewayProcess], stub: StubServer, key: str
):
    """A hundred requests one after the other need few connections, and idle ones go before a notice is over."""
    seen = set()
    async with edge.client(key) as client:
        for _ in range(100):
            assert (await client.get("/v1/models")).status_code == 200
            seen |= {port for gateway in gateways for port in gateway.connections()}
    assert len(seen) < 30
    began = time.monotonic()
    await eventually(lambda: not any(gateway.connections() for gateway in gateways))
    assert time.monotonic() - began >= KEPT_IDLE_S / 2
