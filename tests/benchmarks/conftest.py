"""A stub that accepts one key, in the test's own process."""

from collections.abc import AsyncIterator

import pytest

from benchmarks.stub import StubServer
from tests.benchmarks.wire import KEY


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with StubServer([KEY]) as running:
        yield running
