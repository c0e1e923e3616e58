"""The first address that uses a key owns it; every other one is refused, whatever it claims about itself."""

import asyncio
import secrets
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.stories.owners import bound_networks
from tests.support import databases
from tests.support.gateways import free_port, running_gateway
from tests.support.vitals import counts_of
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
OWNER = {"x-real-ip": "203.0.113.7"}
STRANGER = {"x-real-ip": "198.51.100.9"}


async def test_first_use_binds_and_another_address_is_refused(client, stub, stores, story_dsn, key):
    assert (await client.post("/v1/chat/completions", json=CHAT, headers=OWNER)).status_code == 200
    assert bound_networks(stores, story_dsn, key) == ["203.0.113.7/32"]
    assert (await client.post("/v1/chat/completions", json=CHAT, headers=OWNER)).status_code == 200

    before = len(stub.requests)
    refused = await client.post("/v1/chat/completions", json=CHAT, headers=STRANGER)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "key_bound_to_other_address"
    assert "198.51.100.9" in refused.json()["error"]["message"]
    assert "203.0.113.7" not in refused.text
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["access-control-allow-origin"] == "*"
    assert len(stub.requests) == before
    assert (await client.post("/v1/chat/completions", json=CHAT, headers=OWNER)).status_code == 200


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v1/messages", lambda body: body["error"]["type"] == "permission_error" and body["type"] == "error"),
        ("/v1beta/models/m:generateContent", lambda body: body["error"]["status"] == "PERMISSION_DENIED"),
        ("/mj/submit/imagine", lambda body: body["code"] == 4 and "198.51.100.9" in body["description"]),
        ("/suno/submit/music", lambda body: body["code"] == "key_bound_to_other_address" and body["data"] is None),
        ("/assets/mj/submit/imagine", lambda body: body["code"] == 4),
        ("/some/unknown/path", lambda body: body["error"]["code"] == "key_bound_to_other_address"),
    ],
)
async def test_the_refusal_speaks_the_dialect_of_the_route(client, stub, path, read):
    assert (await client.get("/v1/models", headers=OWNER)).status_code == 200
    refused = await client.post(path, json={}, headers=STRANGER)
    assert refused.status_code == 403
    assert read(refused.json())


async def test_every_spelling_and_carrier_of_a_key_is_the_same_key(client, stub, gateway, key):
    assert (await client.get("/v1/models", headers=OWNER)).status_code == 200
    bare = key.removeprefix("sk-")
    carriers = [
        ("/v1/chat/completions", {"authorization": f"bearer   {bare}"}),
        ("/v1/chat/completions", {"authorization": f"Bearer sk-{bare.upper()}"}),
        ("/v1/chat/completions", {"authorization": bare}),
        ("/v1/chat/completions", {"mj-api-secret": bare}),
        ("/v1/chat/completions", {"sec-websocket-protocol": f"realtime, openai-insecure-api-key.sk-{bare}"}),
        ("/v1/messages", {"x-api-key": key}),
        (f"/v1beta/models/m:generateContent?key={key}", {}),
        ("/v1beta/models/m:generateContent", {"x-goog-api-key": key}),
        (f"/v1beta/models/m:generateContent?%6bey=+sk%2D{bare}", {}),
    ]
    async with httpx.AsyncClient(base_url=gateway.url) as anonymous:
        for path, headers in carriers:
            refused = await anonymous.post(path, json={}, headers={**headers, **STRANGER})
            assert refused.status_code in (401, 403), (path, list(headers))
            if "%6bey" not in path:  # spaces inside a key are outside the grammar: refused as no key at all
                assert refused.status_code == 403, (path, list(headers))


async def test_a_key_that_the_upstream_refuses_is_not_bound(client, stub, stores, story_dsn):
    junk = "sk-" + secrets.token_hex(24)
    refused = await client.get("/v1/models", headers={**OWNER, "authorization": f"Bearer {junk}"})
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "new_api_error"
    assert bound_networks(stores, story_dsn, junk) == []


async def test_without_a_credential_the_upstream_answers(gateway, stub):
    async with httpx.AsyncClient(base_url=gateway.url, headers=OWNER) as anonymous:
        assert (await anonymous.get("/api/status")).status_code == 200
        assert (await anonymous.get("/v1/models")).status_code == 401
        assert (await anonymous.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": "Bearer sk-not*a*key"}, 401, "invalid_api_key"),
        ({"authorization": "Basic c2VjcmV0"}, 401, "invalid_api_key"),
        ({"x-api-key": "sk-" + "a" * 48}, 400, "conflicting_credentials"),
        ({"x-real-ip": "unknown"}, 400, "client_address_unknown"),
        ({"x-real-ip": "203.0.113.7, 198.51.100.9"}, 400, "client_address_unknown"),
        ({"x-real-ip": ""}, 400, "client_address_unknown"),
    ],
)
async def test_what_cannot_be_judged_is_refused_and_not_forwarded(client, stub, headers, status, code):
    refused = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert stub.requests == []


async def test_an_untrusted_peer_is_judged_by_its_own_address(client, stub, gateway, key):
    """127.0.0.2 is not the trusted proxy: what it says of itself in headers is not believed and not passed on."""
    assert (await client.get("/v1/models", headers=OWNER)).status_code == 200
    claims = {
        **OWNER,
        "x-forwarded-for": "203.0.113.7",
        "forwarded": "for=203.0.113.7",
        "true-client-ip": "203.0.113.7",
    }
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(base_url=gateway.url, transport=transport) as stranger:
        refused = await stranger.get("/v1/models", headers={"authorization": f"Bearer {key}", **claims})
        assert refused.status_code == 403
        assert "127.0.0.2" in refused.json()["error"]["message"]
        await stranger.get("/api/status", headers=claims)
    seen = stub.requests[-1]
    assert seen.values("x-forwarded-for") == seen.values("x-real-ip") == ["127.0.0.2"]
    assert seen.values("forwarded") == seen.values("true-client-ip") == []


async def test_the_upstream_sees_one_credential_made_by_sentinel(client, stub, key):
    await client.post(
        f"/v1beta/models/m:generateContent?alt=json&key={key}&x=%20y",
        json={},
        headers={"x-goog-api-key": key, "mj-api-secret": key, "connection": "x-api-key", "x-api-key": "decoy"},
    )
    seen = stub.requests[-1]
    assert seen.target == b"/v1beta/models/m:generateContent?alt=json&x=%20y"
    assert seen.values("authorization") == [f"Bearer {key}"]
    for carrier in ("x-api-key", "mj-api-secret", "x-goog-api-key"):
        assert seen.values(carrier) == [], carrier


async def test_many_first_uses_at_once_bind_one_address(client, stub, stores, story_dsn, key):
    addresses = [f"198.51.100.{number}" for number in range(1, 41)]
    answers = await asyncio.gather(
        *(client.post("/v1/chat/completions", json=CHAT, headers={"x-real-ip": address}) for address in addresses)
    )
    owners = bound_networks(stores, story_dsn, key)
    assert len(owners) == 1
    allowed = [f"{address}/32" for address, answer in zip(addresses, answers, strict=True) if answer.status_code == 200]
    assert allowed == owners
    assert {answer.status_code for answer in answers} == {200, 403}


@pytest.mark.parametrize("bind_on", ["accepted", "first_use"])
async def test_a_key_that_many_requests_bind_at_once_counts_as_one(stores, migrated_template, bind_on):
    keys = ["sk-" + secrets.token_hex(24) for _ in range(3)]
    with databases.fresh_database(stores.postgres, migrated_template) as dsn:
        chosen = f"""VALUES (1, '{{"bind_on": "{bind_on}"}}', 'test')"""
        insert = f'INSERT INTO runtime_setting (version, "values", changed_by) {chosen}'
        databases.sql(stores.postgres, insert, urlsplit(dsn).path[1:])
        port, name = free_port(), f"counting-{bind_on}"
        started = {"pg_dsn": dsn, "redis_url": stores.redis_url, "upstream_port": port, "name": name}
        with running_gateway(**started) as gateway:
            await eventually(lambda: "live settings in force" in gateway.log_text())
            async with StubServer(any_key=True, port=port), httpx.AsyncClient(base_url=gateway.url, timeout=60) as own:
                sent = [{"authorization": f"Bearer {key}"} | OWNER for key in keys for _ in range(10)]
                answers = await asyncio.gather(*(own.get("/v1/models", headers=headers) for headers in sent))
                assert {answer.status_code for answer in answers} == {200}

            async def counted() -> bool:
                return (await counts_of(stores.redis_url, name)).get("requests") == len(sent)

            await eventually_async(counted)
            assert (await counts_of(stores.redis_url, name))["bound"] == len(keys)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET /v1/%2e%2e/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1//models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1%2fmodels HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/mod%00els HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/mod\xc3\xa9ls HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=[
        "two lengths",
        "dots",
        "empty segment",
        "encoded slash",
        "NUL",
        "non-ASCII",
        "two hosts",
        "NUL value",
        "flood",
        "huge",
    ],
)
async def test_malformed_requests_are_refused_and_not_forwarded(gateway, stub: StubServer, key, request_bytes):
    line, rest = request_bytes.split(b"\r\n", 1)
    sent = line + f"\r\nAuthorization: Bearer {key}\r\nX-Real-IP: 203.0.113.7\r\n".encode() + rest
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    status = await reader.readline()
    writer.close()
    assert status.startswith(b"HTTP/1.1 4"), status
    assert stub.requests == []
    assert "Traceback" not in gateway.log_text()


async def test_a_request_with_both_framings_is_framed_anew_and_its_connection_closed(gateway, stub: StubServer, key):
    """The server takes the chunks and closes the connection (RFC 9112 6.1): nothing hides behind the other framing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Real-IP: 203.0.113.7\r\n"
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        "GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    assert answer.count(b"HTTP/1.1 ") == 1
    (seen,) = stub.requests
    assert (seen.values("content-length"), seen.values("transfer-encoding")) == ([], ["chunked"])
