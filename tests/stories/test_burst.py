"""A burst of keys that nobody has seen yet is work, and no outage of the stores."""

import asyncio
import secrets
from collections import Counter

import pytest

from benchmarks.stub import StubServer
from tests.support.gateways import GatewayProcess, free_port, running_gateway

pytestmark = pytest.mark.anyio

BURST = 3_000
"""Serving so many takes several times as long as a store may take to answer."""


async def status_of(gateway: GatewayProcess, number: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    key, address = "sk-" + secrets.token_hex(24), f"10.1.{number >> 8}.{number & 255}"
    head = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-real-ip: {address}\r\n\r\n"
    writer.write(head.encode())
    status = (await reader.readline()).split(b" ")[1].decode()
    writer.close()
    return status


async def test_thousands_of_first_uses_at_once_are_all_served(stores, story_dsn):
    chosen = {"pg_dsn": story_dsn, "redis_url": stores.redis_url, "upstream_port": free_port()}
    with running_gateway(**chosen, name="burst") as gateway:
        async with StubServer(any_key=True, port=gateway.upstream_port, record=False):
            statuses = await asyncio.gather(*(status_of(gateway, number) for number in range(BURST)))
        assert Counter(statuses) == {"200": BURST}
        assert "unavailable" not in gateway.log_text()
