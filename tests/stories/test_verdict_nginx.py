"""nginx/forward-auth.conf under a real nginx: its clients see and its upstream gets what they would with Sentinel inline."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.stub import RecordedRequest, StubServer
from tests.stories.owners import bound_networks
from tests.support import new_api
from tests.support.gateways import GatewayProcess
from tests.support.verdict_modes import CARRIERS, Answered, Case, NginxModes, nginx_modes, require_nginx, send

pytestmark = pytest.mark.anyio

OWNER, STRANGER = "127.0.0.1", "127.0.0.2"


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


async def test_first(modes, stub, key):
    case = Case("GET", b"/v1/models", ((b"authorization", b"Bearer " + key.encode()),))
    a = await send(modes.verdict, case)
    print(a, stub.requests, modes.log.read_text())
    for r in stub.requests: print(r.head)
    b = await send(modes.verdict, case, local=STRANGER)
    print(b)
    b2 = await send(modes.inline, case, local=STRANGER)
    print(b2)
    assert 0
