"""First use, as the verdict service decides it: one owner, and none for keys that the upstream does not take."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.stories.owners import bound_networks, rows_of
from tests.support.gateways import GatewayProcess, free_port, running_gateway, running_worker
from tests.support.verdict_modes import Answered, Case, asked, send
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

OWNER, STRANGER = "203.0.113.7", "198.51.100.9"


async def verdict(gateway: GatewayProcess, key: str, address: str, target: bytes = b"/v1/chat/completions") -> Answered:
    lines = ((b"authorization", f"Bearer {key}".encode()), (b"x-real-ip", address.encode()))
    return await send(gateway.port, asked(Case("POST", target, lines), "forwarded"))


async def test_a_first_use_binds_when_the_upstream_takes_the_key(gateway, stub, stores, story_dsn, key):
    """Before the request itself is forwarded; another address is refused from then on, inline as well."""
    assert (await verdict(gateway, key, OWNER)).status == 200
    (probe,) = stub.requests
    assert (probe.method, probe.target) == (b"GET", b"/v1/models")
    assert (probe.values("authorization"), probe.values("x-forwarded-for")) == ([f"Bearer {key}"], [OWNER])
    assert bound_networks(stores, story_dsn, key) == [f"{OWNER}/32"]
    assert (await verdict(gateway, key, OWNER)).status == 200
    refused = await verdict(gateway, key, STRANGER)
    assert (refused.status, b"key_bound_to_other_address" in refused.body) == (403, True)
    assert len(stub.requests) == 1
    headers = {"authorization": f"Bearer {key}", "x-real-ip": STRANGER}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as stranger:
        assert (await stranger.get("/v1/models")).status_code == 403


async def test_a_key_that_the_upstream_refuses_passes_unbound(gateway, stub, stores, story_dsn):
    """The upstream will say so itself, in its own words; PostgreSQL never hears of the key."""
    junk = "sk-" + secrets.token_hex(24)
    assert (await verdict(gateway, junk, OWNER)).status == 200
    assert (await verdict(gateway, junk, STRANGER)).status == 200
    assert bound_networks(stores, story_dsn, junk) == []


async def test_many_first_uses_at_once_have_one_owner(gateway, stub, stores, story_dsn, key):
    addresses = [f"198.51.100.{number}" for number in range(1, 31)]
    answers = await asyncio.gather(*(verdict(gateway, key, address) for address in addresses))
    owners = bound_networks(stores, story_dsn, key)
    allowed = [f"{address}/32" for address, answer in zip(addresses, answers, strict=True) if answer.status == 200]
    assert allowed == owners
    assert len(owners) == 1
    assert {answer.status for answer in answers} == {200, 403}


async def test_while_the_upstream_does_not_answer_a_new_key_is_refused(gateway, stores, story_dsn, key):
    """As inline; afterwards the key is anybody's first use again."""
    refused = await verdict(gateway, key, OWNER)
    assert (refused.status, b"upstream_unavailable" in refused.body) == (502, True)
    async with StubServer([key], port=gateway.upstream_port):
        assert (await verdict(gateway, key, STRANGER)).status == 200
    assert bound_networks(stores, story_dsn, key) == [f"{STRANGER}/32"]


async def test_an_upstream_that_does_not_tell_lets_no_new_key_through(stores, story_dsn, key):
    """A web page in answer to the question is neither yes nor no: a use without an owner would make two users."""

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=port) as gateway:
            refused = await asyncio.wait_for(verdict(gateway, key, OWNER), 30)
            assert (refused.status, b"upstream_unavailable" in refused.body) == (502, True)
            assert "GET /v1/models does not tell" in gateway.log_text()
    assert bound_networks(stores, story_dsn, key) == []


async def test_every_verdict_is_recorded_once(own_stores, key):
    """The rows are those of the inline mode, with the client's own path."""
    with running_gateway(
        pg_dsn=own_stores.pg_dsn, redis_url=own_stores.redis_url, upstream_port=free_port()
    ) as gateway:
        async with StubServer([key], port=gateway.upstream_port):
            for _ in range(3):
                assert (await verdict(gateway, key, OWNER)).status == 200
        for _ in range(2):
            assert (await verdict(gateway, key, STRANGER, b"/v1/messages?a=1")).status == 403
        assert gateway.stop() == 0
        with running_worker(gateway):
            statement = (
                "SELECT concat_ws('|', request_count, intercept_count, host(last_ip), (SELECT sum(repeat_count) "
                "FROM intercept), (SELECT string_agg(DISTINCT method || path, ',') FROM intercept)) FROM binding"
            )

            async def recorded() -> bool:
                rows = rows_of(own_stores, own_stores.pg_dsn, statement)
                return rows == [f"3|2|{OWNER}|2|POST/v1/messages"]

            await eventually_async(recorded)


@pytest.mark.parametrize(("failsafe", "status"), [("closed", 503), ("open", 200)])
async def test_without_stores_the_failsafe_decides(own_stores, key, failsafe, status):
    with running_gateway(
        pg_dsn=own_stores.pg_dsn,
        redis_url=own_stores.redis_url,
        upstream_port=free_port(),
        SENTINEL_FAILSAFE_MODE=failsafe,
    ) as gateway:
        own_stores.postgres.kill()
        own_stores.valkey.kill()
        answered = await verdict(gateway, key, OWNER)
        assert answered.status == status
        assert (b"binding_store_unavailable" in answered.body) == (status == 503)


# -- who may ask, and how


@pytest.fixture
async def client(gateway: GatewayProcess, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}", "x-real-ip": OWNER}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as running:
        yield running


async def test_a_peer_that_is_not_trusted_gets_no_verdict(gateway, stub, key):
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    headers = {"authorization": f"Bearer {key}", "x-real-ip": OWNER, "x-forwarded-method": "GET"}
    async with httpx.AsyncClient(base_url=gateway.url, transport=transport, headers=headers) as stranger:
        refused = await stranger.get("/sentinel/verdict", headers={"x-forwarded-uri": "/v1/models"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "proxy_not_trusted")
        assert (await stranger.get("/sentinel/verdict/v1/models")).status_code == 403
    assert stub.requests == []


FORWARDED = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/v1/models")]
NGINX = [("x-original-method", "GET"), ("x-original-uri", "/v1/models")]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/sentinel/verdict", []),
        ("/sentinel/verdict", FORWARDED[:1]),
        ("/sentinel/verdict", FORWARDED[1:]),
        ("/sentinel/verdict", [*FORWARDED, FORWARDED[1]]),
        ("/sentinel/verdict", [*FORWARDED, FORWARDED[0]]),
        ("/sentinel/verdict", [*FORWARDED, *NGINX]),
        ("/sentinel/verdict", [*FORWARDED, NGINX[1]]),
        ("/sentinel/verdict", [FORWARDED[0], NGINX[1]]),
        ("/sentinel/verdict/v1/models", FORWARDED),
        ("/sentinel/verdict/v1/models", NGINX),
        ("/sentinel/verdict/v1/models", FORWARDED[1:]),
    ],
)
async def test_a_request_that_is_not_told_exactly_once_is_not_judged(client, stub, path, headers):
    refused = await client.get(path, headers=headers)
    if any(name.startswith("x-original") for name, _ in headers):
        assert refused.headers["x-sentinel-status"] == "400"
        assert "original_request_unknown" in refused.headers["x-sentinel-body"]
    else:
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "original_request_unknown")
    assert stub.requests == []


@pytest.mark.parametrize("address", ["", "unknown", "203.0.113.7, 198.51.100.9"])
async def test_a_proxy_that_names_no_address_gets_a_refusal(client, stub, address):
    refused = await client.get("/sentinel/verdict", headers=[*FORWARDED, ("x-real-ip", address)])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "client_address_unknown")


async def test_what_names_the_request_cannot_be_listed_in_connection(client, stub):
    asks = await client.get("/sentinel/verdict", headers=[*FORWARDED, ("connection", "x-forwarded-uri, x-real-ip")])
    assert (asks.status_code, asks.headers["x-sentinel-target"]) == (200, "/v1/models")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
async def test_any_method_asks(client, stub, method):
    assert (await client.request(method, "/sentinel/verdict", headers=FORWARDED)).status_code == 200


async def test_only_its_own_paths_are_the_verdict_services(client, stub):
    """A path that merely begins like it goes to the upstream."""
    await client.get("/sentinel/verdicts")
    assert stub.requests[-1].target == b"/sentinel/verdicts"
