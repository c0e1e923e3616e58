"""What knows owners, and what reads events, over the test's own stores."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.support.binding_parts import Parts, opened
from tests.support.event_parts import Ingestion


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The emptied Valkey."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def one(pg_dsn: str, redis_url: str) -> AsyncIterator[Parts]:
    """One gateway."""
    async with opened(pg_dsn, redis_url) as parts:
        yield parts


@pytest.fixture
async def two(pg_dsn: str, redis_url: str) -> AsyncIterator[Parts]:
    """Another on the same stores."""
    async with opened(pg_dsn, redis_url) as parts:
        yield parts


@pytest.fixture
async def parts(one: Parts) -> Parts:
    """One gateway that hears of changes."""
    one.bindings.channel_up()
    return one


@pytest.fixture
def ingestion(redis_url: str) -> Iterator[Ingestion]:
    """What the gateway's events come to."""
    made = Ingestion(redis_url)
    yield made
    made.close()
