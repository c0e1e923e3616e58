"""The embedded stores: the same directory gives the same addresses and data, whatever ended the last run."""

import asyncpg
import pytest
import redis

pytestmark = pytest.mark.anyio


async def test_dsn_works_with_asyncpg(pg_dsn: str, redis_url: str) -> None:
    connection = await asyncpg.connect(pg_dsn)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
