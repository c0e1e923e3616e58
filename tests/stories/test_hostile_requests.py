"""Whatever bytes a client sends: it is refused or cut, or the upstream gets exactly one well-formed request for it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.gateways import GatewayProcess, free_port, running_gateway
from tests.support.hostile_requests import GET, PASSED, REFUSED, SMUGGLED, Passed, Refused
from tests.support.recording_upstream import OK, Arrived, RecordingUpstream, recording_upstream
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

HANG_S = 30
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nX-Real-IP: 203.0.113.7\r\nConnection: close\r\n\r\n"
LAST_STATUS = 299
"""Sent after everything else: whatever the gateway took for a request before it was answered before it."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@pytest.fixture(scope="module")
def strict(stores, story_dsn) -> Iterator[GatewayProcess]:
    """A gateway of little patience, which opens a connection to the upstream for each request."""
    limits = {
        "SENTINEL_REQUEST_HEAD_TIMEOUT_S": "1",
        "SENTINEL_REQUEST_BODY_IDLE_TIMEOUT_S": "1",
        "SENTINEL_UPSTREAM_KEEPALIVE_S": "0",
    }
    with running_gateway(pg_dsn=story_dsn, redis_url=stores.redis_url, upstream_port=free_port(), **limits) as running:
        yield running
        assert "Traceback" not in running.log_text()


@pytest.fixture
async def upstream(strict: GatewayProcess) -> AsyncIterator[RecordingUpstream]:
    async with recording_upstream(strict.upstream_port) as running:
        running.answers[b"/last"] = OK.replace(b"200", b"%d" % LAST_STATUS)
        yield running


def arrived(upstream: RecordingUpstream) -> list[Arrived]:
    """Every request but `LAST`."""
    return [request for request in upstream.requests() if request.target != b"/last"]


async def say(gateway: GatewayProcess, raw: bytes, *, answers: int = 1) -> list[int]:
    """The statuses of all answers on a connection that says this, waits for ``answers``, and says `LAST`.

    Returns when the gateway has closed it; the answer to `LAST`, if there was one, is left out.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    answer, last_said = b"", False
    with contextlib.suppress(ConnectionError):  # cut with bytes of ours unread
        async with asyncio.timeout(HANG_S):
            writer.write(raw)
            while data := await reader.read(65_536):
                answer += data
                if not last_said and len(_STATUS.findall(answer)) >= answers:
                    writer.write(LAST)
                    last_said = True
    writer.close()
    statuses = [int(status) for status in _STATUS.findall(answer)]
    return statuses[:-1] if statuses[-1:] == [LAST_STATUS] else statuses


def assert_ours(requests: list[Arrived], key: str) -> None:
    """Each request carries what Sentinel wrote: one key, which is this one or none, and one address."""
    for request in requests:
        assert request.values(b"authorization") in ([f"Bearer {key}".encode()], [])
        assert request.values(b"x-forwarded-for") == request.values(b"x-real-ip") == [b"203.0.113.7"]
        assert request.values(b"x-forwarded-proto") == [b"http"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
async def test_refused(strict, upstream, key, case: Refused) -> None:
    """Only answers of the 4xx kind, or none, and then the end of the connection; no whole request went up."""
    statuses = await say(strict, case.raw.replace(b"$KEY", key.encode()))
    assert all(400 <= status < 500 for status in statuses), statuses
    assert arrived(upstream) == []
    assert b"smuggled" not in upstream.received


@pytest.mark.parametrize("case", PASSED, ids=lambda case: case.name)
async def test_passed(strict, upstream, key, case: Passed) -> None:
    """Repaired or ignored without harm: what the upstream gets is one plain request for each that was sent."""
    statuses = await say(strict, case.raw.replace(b"$KEY", key.encode()), answers=len(case.up))
    requests = arrived(upstream)
    expected = [(method, target, body.replace(b"$KEY", key.encode())) for method, target, body in case.up]
    assert [(request.method, request.target, request.body) for request in requests] == expected
    assert upstream.unfinished() == []
    assert statuses == [200] * len(expected)
    assert_ours(requests, key)


async def test_a_second_request_on_the_connection_is_judged_by_itself(strict, upstream, key):
    """Neither the first one's key nor its address speaks for it."""
    first = (GET + b"\r\n").replace(b"$KEY", key.encode())
    assert await say(strict, first + first.replace(b"203.0.113.7", b"198.51.100.9") + first, answers=3) == [
        200,
        403,
        200,
    ]
    assert len(arrived(upstream)) == 2


async def test_a_request_in_a_refused_body_is_not_read_as_one(strict, upstream, key):
    """The body of a refused request is not the next request, whether the connection goes on or not."""
    other = b"Bearer " + key.encode() + b", Bearer sk-other"
    body = SMUGGLED.replace(b"$KEY", key.encode())
    head = GET.replace(b"GET", b"POST").replace(b"Bearer $KEY", other) + b"Content-Length: %d\r\n\r\n" % len(body)
    assert await say(strict, head + body) == [401]
    assert arrived(upstream) == []


async def test_a_head_that_never_ends_is_given_up(strict, upstream, key):
    """Slow headers: the connection is closed when the time for the head is over, however often a byte comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    writer.write(GET.replace(b"$KEY", key.encode()) + b"X-A: ")

    async def drip() -> None:
        while True:
            writer.write(b"a")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(HANG_S):
            answer = await reader.read()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    dripping.cancel()
    writer.close()
    assert upstream.received == b""


async def test_a_body_that_stops_is_given_up_and_others_do_not_notice(strict, upstream, key):
    """Slow bodies: 408, and the upstream's connection is closed with the request unfinished."""
    head = GET.replace(b"GET", b"POST").replace(b"$KEY", key.encode())
    stuck = [asyncio.create_task(say(strict, head + b"Content-Length: 10\r\n\r\nhel")) for _ in range(20)]
    assert await say(strict, head + b"Content-Length: 5\r\n\r\nhello") == [200]
    for statuses in await asyncio.gather(*stuck):
        assert statuses in ([408], [408, 400])  # `LAST` was taken for the missing bytes, and its rest for no request
    assert len(arrived(upstream)) == 1
    await eventually(lambda: all(connection.closed for connection in upstream.connections))
