"""Events from the hot path to the stream: folded, printable, in time, and none lost in outages and deaths."""

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from proxy_core import events as events_module
from proxy_core.contracts import Reason
from proxy_core.events import EventLimits, Events
from proxy_core.tasks import Tasks
from tests.support.binding_parts import address, identity
from tests.support.event_parts import QUICK, QUICK_OUTBOX, Ingestion
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

KEY = identity("a key")
ALICE, BOB = address("10.0.0.1"), address("10.0.0.2")
NOW = 1_800_000_000.0
ROOT = Path(__file__).parents[2]
WRITER = """
import asyncio, sys
from pathlib import Path
from redis.asyncio import Redis
from proxy_core.events import Events
from proxy_core.tasks import Tasks
from tests.proxy_core.test_events import note
from tests.support.event_parts import QUICK

async def write():
    redis = Redis.from_url("unix://" + sys.argv[1] + "/nobody.sock")
    events = Events(redis, Tasks(), gateway="doomed", spool_dir=Path(sys.argv[1]), limits=QUICK)
    events.start()
    for number in range(5):
        note(events, path=b"/%d" % number, client=number)
        before = events.state().spooled_bytes
        while events.state().spooled_bytes == before:
            await asyncio.sleep(0.001)
    print("written", flush=True)
    await asyncio.Event().wait()

asyncio.run(write())
"""


def note(events: Events, *, path=b"/v1/chat", user_agent=b"sdk/1.0", client=1, enforced=True, method="POST", now=NOW):
    events.intercept(
        KEY,
        address(f"10.1.0.{client}"),
        Reason.KEY_BOUND_TO_OTHER_ADDRESS,
        enforced=enforced,
        bound_networks=["10.0.0.1/32"],
        method=method,
        path=path,
        user_agent=user_agent,
        now=now,
    )


class Running:
    def __init__(self, redis_url: str, spool_dir: Path, limits: EventLimits = QUICK) -> None:
        self.redis = Redis.from_url(redis_url)
        self.nowhere = Redis.from_url(f"unix://{spool_dir}/nobody.sock")
        self.tasks = Tasks()
        self.events = Events(
            self.redis, self.tasks, gateway="gw 1/ü", spool_dir=spool_dir, limits=limits, clock=lambda: NOW
        )

    def away(self) -> None:
        self.events._outbox._redis = self.nowhere

    def back(self) -> None:
        self.events._outbox._redis = self.redis

    async def close(self) -> None:
        await self.events.aclose()
        await self.tasks.aclose()
        await self.redis.aclose()
        await self.nowhere.aclose()


@pytest.fixture
def spool_dir(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
async def running(redis_url, spool_dir):
    made = Running(redis_url, spool_dir)
    made.events.start()
    yield made
    await made.close()


def intercepts(ingestion: Ingestion) -> list:
    return [intercept for batch in ingestion.batches() for intercept in batch.intercepts]


def touches(ingestion: Ingestion) -> list:
    return [touch for batch in ingestion.batches() for touch in batch.touches]


# --- what reaches the stream -----------------------------------------------------------------------------------------


async def test_an_intercept_reaches_the_stream_with_everything_that_a_row_shows(running, ingestion):
    note(running.events, path=b"/v1/chat?key=abc", method="GET", enforced=False)
    await eventually(lambda: intercepts(ingestion))
    (found,) = intercepts(ingestion)
    assert (found.fingerprint, found.hint, found.client) == (KEY.fingerprint, KEY.hint, "10.1.0.1")
    assert (found.method, found.path, found.user_agent) == ("GET", "/v1/chat", "sdk/1.0")
    assert (found.at, found.enforced, found.repeat_count) == (NOW, False, 1)
    assert (found.bound_networks, found.gateway) == (("10.0.0.1/32",), "gw 1/ü")
    assert found.event_id[:6] == int(NOW * 1000).to_bytes(6, "big")
    assert len(found.event_id) == 16


async def test_identical_intercepts_are_one_with_a_count_and_the_firsts_facts(running, ingestion):
    for number in range(100):
        note(running.events, path=b"/%d" % number)
    note(running.events, enforced=False)
    note(running.events, client=2)
    await eventually(lambda: len(intercepts(ingestion)) == 3)
    folded = {(found.client, found.enforced): (found.repeat_count, found.path) for found in intercepts(ingestion)}
    assert folded == {
        ("10.1.0.1", True): (100, "/0"),
        ("10.1.0.1", False): (1, "/v1/chat"),
        ("10.1.0.2", True): (1, "/v1/chat"),
    }


async def test_touches_of_one_binding_coalesce(redis_url, spool_dir, ingestion):
    moment = [NOW]
    running = Running(redis_url, spool_dir, EventLimits(flush_s=0.01, touch_every_s=5.0, outbox=QUICK_OUTBOX))
    running.events._clock = lambda: moment[0]
    running.events.start()
    for number in range(10):
        running.events.touch(1, KEY.fingerprint, f"10.0.0.{number}", NOW + number)
    running.events.touch(2, bytes(32), "10.0.0.1", NOW)
    note(running.events)
    await eventually(lambda: intercepts(ingestion))
    assert touches(ingestion) == [], "not yet due"
    moment[0] += 5.0
    await eventually(lambda: touches(ingestion))
    seen = {touch.binding_id: (touch.requests, touch.last_ip, touch.last_used_at) for touch in touches(ingestion)}
    assert seen == {1: (10, "10.0.0.9", NOW + 9), 2: (1, "10.0.0.1", NOW)}
    await running.close()


async def test_many_events_are_cut_into_batches(redis_url, spool_dir, ingestion):
    running = Running(redis_url, spool_dir, EventLimits(flush_s=0.01, batch_max=10, outbox=QUICK_OUTBOX))
    running.events.start()
    for client in range(25):
        note(running.events, client=client)
    await eventually(lambda: len(intercepts(ingestion)) == 25)
    assert max(len(batch.intercepts) for batch in ingestion.batches()) == 10
    await running.close()


async def test_outcomes_are_counted(running):
    for name in ("allowed", "allowed", "key_banned"):
        running.events.count(name)
    state = running.events.state()
    assert state.counts == {"allowed": 2, "key_banned": 1}
    running.events.count("allowed")
    assert state.counts["allowed"] == 2


# --- outages, deaths, the end ----------------------------------------------------------------------------------------


async def test_intercepts_noted_while_redis_is_away_arrive_in_order_when_it_is_back(running, ingestion):
    running.away()
    for number in range(5):
        before = running.events.state().spooled_bytes
        note(running.events, path=b"/%d" % number)
        running.events.touch(1, KEY.fingerprint, "10.0.0.1", NOW)
        await eventually(lambda before=before: running.events.state().spooled_bytes > before)
    assert not running.events.state().redis_reached
    running.back()
    await eventually(lambda: len(intercepts(ingestion)) == 5)
    assert [found.path for found in intercepts(ingestion)] == [f"/{number}" for number in range(5)]
    await eventually(lambda: sum(touch.requests for touch in touches(ingestion)) + pending(running) >= 5)

    def all_is_applied() -> bool:
        ingestion.apply()
        state = running.events.state()
        return not (state.batches_unconfirmed or state.spooled_bytes or state.touches_pending)

    await eventually(all_is_applied)
    assert running.events.state().batches_dropped == 0


def pending(running: Running) -> int:
    return sum(seen[2] for seen in running.events._touches.values())


async def test_a_killed_gateways_intercepts_are_sent_by_the_next_one(redis_url, spool_dir, ingestion):
    spool_dir.mkdir()
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, spool_dir, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        await writer.stdout.readuntil(b"written\n")
        living = Running(redis_url, spool_dir)
        living.events.start()
        await eventually(lambda: living.events._outbox._adopt_at > 0.0)
        assert intercepts(ingestion) == [], "its writer lives"
    finally:
        writer.kill()
        await writer.wait()
    await eventually(lambda: len(intercepts(ingestion)) == 5)
    assert [found.path for found in intercepts(ingestion)] == [f"/{number}" for number in range(5)]
    assert {found.gateway for found in intercepts(ingestion)} == {"doomed"}

    def its_file_is_gone() -> bool:
        ingestion.apply()
        return not [path for path in spool_dir.iterdir() if path.name.startswith("doomed")]

    await eventually(its_file_is_gone)
    await living.close()


async def test_closing_flushes_to_the_stream(redis_url, spool_dir, ingestion):
    running = Running(redis_url, spool_dir, EventLimits(flush_s=3600.0, touch_every_s=3600.0, close_s=0.3))
    running.events.start()
    note(running.events)
    running.events.touch(1, KEY.fingerprint, "10.0.0.1", NOW)
    await asyncio.gather(running.events.aclose(), running.events.aclose())
    assert len(intercepts(ingestion)) == len(touches(ingestion)) == 1
    await running.close()


async def test_closing_while_redis_is_away_leaves_everything_to_the_next_gateway(redis_url, spool_dir, ingestion):
    running = Running(redis_url, spool_dir)
    running.events.start()
    running.away()
    note(running.events)
    running.events.touch(1, KEY.fingerprint, "10.0.0.1", NOW)
    await running.close()
    successor = Running(redis_url, spool_dir)
    successor.events.start()
    await eventually(lambda: intercepts(ingestion) and touches(ingestion))
    await successor.close()


async def test_closing_goes_on_when_its_caller_is_cancelled(redis_url, spool_dir, ingestion):
    running = Running(redis_url, spool_dir, EventLimits(flush_s=3600.0, close_s=0.3))
    running.events.start()
    note(running.events)
    closing = asyncio.ensure_future(running.events.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await eventually(lambda: intercepts(ingestion))
    await running.close()


async def test_a_fault_in_the_flusher_loses_nothing(running, ingestion, monkeypatch):
    faults = iter([RuntimeError("broken"), RuntimeError("broken")])
    deliver = running.events._outbox.deliver

    async def sometimes(parcels) -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        await deliver(parcels)

    monkeypatch.setattr(running.events._outbox, "deliver", sometimes)
    note(running.events)
    await eventually(lambda: intercepts(ingestion))
    assert len(intercepts(ingestion)) == 1


async def test_a_flood_of_different_intercepts_goes_to_disk_instead_of_memory(redis_url, spool_dir, ingestion):
    running = Running(redis_url, spool_dir, EventLimits(flush_s=0.01, intercepts_max=10, outbox=QUICK_OUTBOX))
    running.events.start()
    for client in range(35):
        note(running.events, client=client)
        assert running.events.state().intercepts_pending <= 10
    assert running.events.state().spooled_bytes > 0
    await eventually(lambda: len(intercepts(ingestion)) == 35)
    assert running.events.state().batches_dropped == 0
    await running.close()


# --- foreign text ----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.integers(1, 300))
def test_foreign_text_is_printable_and_bounded(raw, limit):
    text = events_module._printable(raw, limit)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)
    assert len(text) <= 4 * limit


@pytest.mark.parametrize("form", [b"sk-%s", b"SK-%s", b"sk%%2D%s", b"%s"])
def test_what_looks_like_a_key_is_left_out_wherever_the_cut_falls(form):
    key = b"aB3dE5gH" * 6
    for limit in range(1, 120):
        text = events_module._printable(b"/v1/" + form % key + b"/chat", limit)
        assert "aB3dE5gH" not in text
    assert events_module._printable(b"/v1/" + form % key + b"/chat", 200) == "/v1/[key]/chat"


@pytest.mark.parametrize("name", [b"sk-proj-Ab_12-cdEFgh", b"sk-ant-api03-AAAAbbbb"])
def test_keys_with_dashes_are_left_out_too(name):
    assert events_module._printable(b"curl " + name, 256) == "curl [key]"


def test_line_breaks_and_escapes_cannot_forge_a_row():
    assert events_module._printable(b"a\r\nb\x1b[31m\x85c", 256) == "a\\x0d\\x0ab\\x1b[31m\\x85c"
