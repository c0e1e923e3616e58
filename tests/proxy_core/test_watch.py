"""Whose patience ends when: uploads that trickle, readers that do not read, and honest ones that are merely slow."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Generator
from typing import Any, ClassVar

import pytest

from proxy_core.errors import ClientGone, ClientStalled, ProxyError, UploadTimeout
from proxy_core.own_sockets import Peer
from proxy_core.tasks import Tasks
from proxy_core.watch import LOOK_EVERY_S, TICK_S, ClientWatch, Outlet, Patience, Visit
from tests.support.clocks import FakeClock
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

UPLOAD_S, BYTES_PER_S, STALL_S = 60.0, 500.0, 300.0
CLIENT, PEER = ("203.0.113.7", "4711"), ("203.0.113.7", 4711)


class Server:
    """Granian's end of a request: what is received when the test says so, and what the client did not take yet."""

    def __init__(self) -> None:
        self.asked: asyncio.Future[dict[str, Any]] | None = None

    def receive(self) -> "asyncio.Future[dict[str, Any]]":
        self.asked = asyncio.get_running_loop().create_future()
        return self.asked

    def say(self, body: bytes) -> None:
        assert self.asked is not None
        self.asked.set_result({"type": "http.request", "body": body, "more_body": True})


class Awaitable:
    """As Granian makes them: whoever waited for it is known to it for ever, unseen by the garbage collector."""

    known: ClassVar[dict[int, object]] = {}

    def __init__(self) -> None:
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.cancel = self._future.cancel
        self.cancelled = self._future.cancelled

    def __await__(self) -> Generator[Any, None, Any]:
        self.known[id(self)] = asyncio.current_task()
        weakref.finalize(self, self.known.pop, id(self)).atexit = False
        return self._future.__await__()


class Upstream:
    """Stands in for the connection that a visit has."""

    def __init__(self) -> None:
        self.failed: list[ProxyError] = []

    def fail(self, error: ProxyError) -> None:
        self.failed.append(error)


class Connected:
    """Stands in for the system, which knows who is connected."""

    def __init__(self) -> None:
        self.hung_up: set[Peer] = set()
        self.left: set[Peer] = set()

    def hang_up(self, peers: set[Peer]) -> int:
        self.hung_up |= peers
        return len(peers)

    def missing(self, peers: set[Peer]) -> set[Peer]:
        return peers & self.left


class Room:
    """A watch whose time the test makes pass, and one visit."""

    def __init__(self, patience: Patience, tasks: Tasks) -> None:
        self.clock = FakeClock()
        self.clients = Connected()
        self.tasks = tasks
        self.watch = ClientWatch(patience, self.clients, tasks, clock=self.clock)  # type: ignore[arg-type]
        self.server = Server()
        self.upstream = Upstream()
        self.visit = Visit(self.server.receive, CLIENT)
        self.watch.enter(self.visit)

    def pass_time(self, seconds: float, step_s: float = TICK_S) -> None:
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.watch.tick()

    def give(self) -> "asyncio.Future[None]":
        """The client gets a piece, and has taken it when the future is done."""
        self.visit.connection = self.upstream  # type: ignore[assignment]
        self.visit.sending = asyncio.get_running_loop().create_future()
        return self.visit.sending


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    running = Tasks()
    yield running
    await running.aclose()


@pytest.fixture
def room(tasks) -> Room:
    return Room(Patience(UPLOAD_S, BYTES_PER_S, STALL_S), tasks)


async def upload(room: Room, pieces: int, *, piece: bytes, every_s: float, tick_s: float = 1.0) -> None:
    """A body in pieces, each of which lets itself be waited for."""
    room.visit.uploading = True
    for _ in range(pieces):
        reading = asyncio.create_task(room.visit.next_message())
        await asyncio.sleep(0)
        room.pass_time(every_s, tick_s)
        if not reading.done() and room.server.asked is not None and not room.server.asked.done():
            room.server.say(piece)
        await reading


async def test_an_upload_without_a_byte_is_given_up(room):
    with pytest.raises(UploadTimeout):
        await upload(room, 1, piece=b"a", every_s=UPLOAD_S + 3)


async def test_an_upload_of_a_byte_now_and_then_is_given_up(room):
    """It never stands still for as long as it might; it brings next to nothing."""
    with pytest.raises(UploadTimeout):
        await upload(room, 5, piece=b"a", every_s=UPLOAD_S / 2)


async def test_a_quick_begin_buys_no_slow_rest(room):
    await upload(room, 10, piece=b"a" * 10_000_000, every_s=UPLOAD_S / 5)
    with pytest.raises(UploadTimeout):
        await upload(room, 5, piece=b"a", every_s=UPLOAD_S / 2)


async def test_an_upload_over_a_bad_line_goes_on_for_hours(room):
    """25 MB in pieces of a few packets, with pauses that nearly are too long."""
    await upload(room, 400, piece=b"a" * 64_000, every_s=UPLOAD_S - 5, tick_s=5.0)
    assert room.visit.failure is None


async def test_what_the_upstream_makes_the_client_wait_is_not_held_against_it(room):
    """Nobody reads the body while the upstream takes none of it."""
    for _ in range(5):
        await upload(room, 1, piece=b"a" * 1000, every_s=1.0)
        room.pass_time(10 * UPLOAD_S, 1.0)
    assert room.visit.failure is None


@pytest.mark.parametrize(
    ("patience", "every_s"),
    [(Patience(0.0, BYTES_PER_S, STALL_S), 100_000.0), (Patience(UPLOAD_S, 0.0, STALL_S), UPLOAD_S - 5)],
    ids=["no limit at all", "no rate"],
)
async def test_without_a_limit_uploads_may_take_their_time(tasks, patience, every_s):
    room = Room(patience, tasks)
    await upload(room, 5, piece=b"a", every_s=every_s, tick_s=5.0)
    assert room.visit.failure is None


async def test_a_reader_that_takes_nothing_is_cut(room):
    """Wherever the handler waits, it hears of it: here it waits for the client. The connection is closed."""
    sending = room.give()
    room.pass_time(STALL_S - 5, 1.0)
    assert not sending.cancelled()
    room.pass_time(10, 1.0)
    assert sending.cancelled()
    assert isinstance(room.visit.failure, ClientStalled)
    assert [type(error) for error in room.upstream.failed[:1]] == [ClientStalled]
    await eventually(lambda: room.clients.hung_up == {PEER})


async def test_a_reader_that_takes_a_piece_within_the_limit_goes_on(room):
    for _ in range(20):
        taken = room.give()
        room.pass_time(STALL_S - 5, 1.0)
        taken.set_result(None)
        room.visit.sending = None
    assert room.visit.failure is None


async def test_a_silent_upstream_is_not_taken_for_a_slow_reader(room):
    room.give().set_result(None)
    room.visit.sending = None
    room.pass_time(100 * STALL_S, STALL_S / 10)
    assert room.visit.failure is None


async def test_without_a_limit_a_reader_may_take_nothing_for_ever(tasks):
    room = Room(Patience(UPLOAD_S, BYTES_PER_S, 0.0), tasks)
    sending = room.give()
    room.pass_time(100 * STALL_S, STALL_S)
    assert not sending.cancelled()


async def test_a_stop_gives_up_whoever_lets_itself_be_waited_for(room):
    sending = room.give()
    room.pass_time(1)
    room.watch.cut()
    room.pass_time(10 * TICK_S)
    assert sending.cancelled()


async def test_a_client_that_leaves_while_it_takes_nothing_is_gone(room):
    sending = room.give()
    room.pass_time(TICK_S)
    assert room.server.asked is not None
    room.server.asked.set_result({"type": "http.disconnect"})
    await asyncio.sleep(0)
    assert sending.cancelled()
    assert isinstance(room.visit.failure, ClientGone)


async def test_what_is_over_is_looked_at_no_more(room):
    """And kept no longer than until the next look."""
    room.give()
    room.pass_time(TICK_S)
    room.watch.leave(room.visit)
    room.visit.end()
    room.pass_time(2 * LOOK_EVERY_S)
    assert not room.watch.holds(room.visit)
    room.pass_time(2 * STALL_S, 1.0)
    assert room.clients.hung_up == set()


async def test_of_two_clients_only_the_one_that_takes_nothing_is_cut(room):
    room.give()
    other = Visit(Server().receive, ("203.0.113.8", "4711"))
    other.connection = Upstream()  # type: ignore[assignment]
    room.watch.enter(other)
    room.pass_time(STALL_S + 5, 1.0)
    assert isinstance(room.visit.failure, ClientStalled)
    assert other.failure is None
    await eventually(lambda: room.clients.hung_up == {PEER})


class Socket(Outlet):
    """What `relay` enters."""

    def __init__(self) -> None:
        super().__init__(CLIENT)
        self.failed: list[ProxyError] = []

    def fail(self, error: ProxyError) -> None:
        self.failed.append(error)


async def test_a_socket_whose_client_takes_no_message_is_cut_while_it_is_entered(room):
    socket = Socket()
    socket.sending = object()
    room.watch.enter_socket(socket)
    room.pass_time(STALL_S - 5, 1.0)
    assert socket.failed == []
    room.pass_time(10, 1.0)
    assert socket.failed
    told = len(socket.failed)
    room.watch.leave_socket(socket)
    room.pass_time(STALL_S, 1.0)
    assert len(socket.failed) == told


@pytest.mark.parametrize("patience", [Patience(UPLOAD_S, 0.0, STALL_S), Patience(0.0, 0.0, 0.0)], ids=["", "no limits"])
async def test_a_caller_whose_connection_is_missing_has_left(tasks, patience):
    room = Room(patience, tasks)
    caller, other = Socket(), Socket()
    other.client = ("203.0.113.8", "4711")
    room.watch.enter_caller(caller)
    room.watch.enter_caller(other)
    room.pass_time(10 * LOOK_EVERY_S)
    room.clients.left = {PEER}

    def told() -> bool:
        room.pass_time(LOOK_EVERY_S)
        return bool(caller.failed)

    await eventually(told)
    assert isinstance(caller.failed[0], ClientGone)
    assert other.failed == []


async def test_a_caller_whose_handshake_is_over_is_not_missed(room):
    """It may be a socket by now, or have gone its way."""
    caller = Socket()
    room.watch.enter_caller(caller)
    room.clients.left = {PEER}
    room.pass_time(2 * LOOK_EVERY_S)
    room.watch.leave_caller(caller)
    await eventually(lambda: "search" not in repr(room.tasks))
    assert caller.failed == []


async def test_an_upload_that_is_broken_off_is_let_go_of(room):
    """With the request that it belongs to, whose unread body would hold up the next one on the client's connection."""
    Awaitable.known.clear()
    visit = Visit(Awaitable, CLIENT)  # type: ignore[arg-type]
    room.watch.enter(visit)
    visit.uploading = True
    reading = asyncio.create_task(visit.next_message())
    await asyncio.sleep(0)
    room.pass_time(2 * TICK_S)
    reading.cancel()
    await asyncio.wait((reading,))
    room.watch.leave(visit)
    visit.end()
    assert Awaitable.known == {}


async def test_a_piece_that_was_not_taken_is_let_go_of(room):
    room.visit.connection = Upstream()  # type: ignore[assignment]
    sending = Awaitable()
    room.visit.sending = sending
    left = weakref.ref(sending)
    room.pass_time(2 * LOOK_EVERY_S)
    room.visit.end()
    del sending
    assert left() is None
