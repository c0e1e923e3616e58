"""The verdict service says of every request what the gateway would have done with it, however a proxy asks."""

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from benchmarks.stub import StubServer
from tests.support.corpus import CORPUS
from tests.support.gateways import GatewayProcess
from tests.support.verdict_modes import CARRIERS, Answered, Case, asked, send

pytestmark = pytest.mark.anyio

ADDRESS = (b"x-real-ip", b"127.0.0.1")
OF_A_REFUSAL = (
    *("content-type", "cache-control", "access-control-allow-origin", "access-control-expose-headers"),
    *("x-should-retry", "www-authenticate", "retry-after"),
)


class Outcome(NamedTuple):
    """``status`` 0: allowed, and ``credentials`` and ``target`` are what the upstream gets."""

    status: int
    refusal: bytes | tuple[()] = ()
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    credentials: tuple[tuple[str, tuple[str, ...]], ...] = ()
    target: bytes = b""


@pytest.fixture
async def stub(gateway: GatewayProcess) -> AsyncIterator[StubServer]:
    async with StubServer(any_key=True, port=gateway.upstream_port) as running:
        yield running


async def inline(gateway: GatewayProcess, stub: StubServer, case: Case) -> Outcome:
    before = len(stub.requests)
    answered = await send(gateway.port, case._replace(lines=(*case.lines, ADDRESS)))
    if len(stub.requests) == before:
        return refused(answered, answered.status, answered.body)
    request = stub.requests[-1]
    return allowed({name: request.values(name) for name in CARRIERS}, request.target)


async def by_verdict(gateway: GatewayProcess, case: Case, way: str) -> Outcome:
    question = asked(case, way)
    answered = await send(gateway.port, question._replace(lines=(*question.lines, ADDRESS)))
    if answered.status == 200:
        given = {name: answered.values(name) for name in CARRIERS}
        removed = answered.only("x-envoy-auth-headers-to-remove").split(",")
        assert sorted([*removed, *(name for name in given if given[name])]) == sorted(CARRIERS)
        assert answered.only("x-real-ip") == ADDRESS[1].decode()
        return allowed(given, answered.only("x-sentinel-target").encode("latin-1"))
    if way != "nginx":
        return refused(answered, answered.status, answered.body)
    assert (answered.status, answered.body) == (403, b"")
    return refused(
        answered, int(answered.only("x-sentinel-status")), answered.only("x-sentinel-body").encode("latin-1")
    )


def allowed(given: dict[str, list[str]], target: bytes) -> Outcome:
    return Outcome(0, credentials=tuple((name, tuple(values)) for name, values in given.items()), target=target)


def refused(answered: Answered, status: int, body: bytes) -> Outcome:
    headers = tuple((name, tuple(answered.values(name))) for name in OF_A_REFUSAL)
    return Outcome(status, re.sub(rb'"request_id":"[^"]+"', b'"request_id":""', body), headers)


@pytest.mark.parametrize("way", ["nginx", "forwarded", "envoy"])
async def test_every_request_gets_the_verdict_of_the_inline_mode(gateway, stub, way):
    """Allowed with the same credentials and target, or refused with the same status, headers and body.

    A proxy that forwards its client's own target gets a refusal where that holds the key.
    """
    differences, kept = [], 0
    for case in CORPUS:
        expected, found = await inline(gateway, stub, case), await by_verdict(gateway, case, way)
        if way != "nginx" and not expected.status and expected.target != case.target:
            kept += 1
            if (found.status, b"in the query" in bytes(found.refusal)) != (400, True):
                differences.append((case, expected, found))
        elif found != (expected if case.method != "HEAD" else expected._replace(refusal=found.refusal)):  # has no body
            differences.append((case, expected, found))
    assert differences == []
    assert kept > 5 or way == "nginx"
