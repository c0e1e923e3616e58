"""Who is cut when a key's owner changes, and who is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from proxy_core import roster
from proxy_core.contracts import Binding, BindingStatus, BoundNetwork, LiveSettings, Mode, Network
from proxy_core.errors import StoreUnavailable
from proxy_core.roster import KEY_RELEASED, Entry, Roster
from proxy_core.tasks import Tasks
from tests.support.binding_parts import address
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

KEY, OTHER = b"k" * 32, b"o" * 32
HOME = address("203.0.113.7")


def bound(network: str = "203.0.113.7/32", **more: Any) -> Binding:
    networks = (BoundNetwork(Network.parse(network), more.pop("expires_at", None)),)
    return Binding(1, KEY, "abcd…wxyz", more.pop("status", BindingStatus.ACTIVE), networks, 1, **more)


class Owners:
    """Stands in for `Bindings`: what memory and stores say is what the test sets."""

    def __init__(self) -> None:
        self.owner: Binding | StoreUnavailable | None = bound()
        self.memory_knows = True
        self.asked = 0
        self.change: Callable[[bytes | None], None]

    def tell(self, on_change: Callable[[bytes | None], None]) -> None:
        self.change = on_change

    def peek(self, _: bytes) -> Binding | None:
        return self.owner if self.memory_knows and isinstance(self.owner, Binding) else None

    async def find(self, _: bytes) -> Binding | None:
        self.asked += 1
        if isinstance(self.owner, StoreUnavailable):
            raise self.owner
        return self.owner


class Room:
    """A roster and what came of it."""

    def __init__(self, tasks: Tasks) -> None:
        self.owners = Owners()
        self.live: Any = SimpleNamespace(current=LiveSettings())
        self.counts: list[str] = []
        self.cut: list[str] = []
        events: Any = SimpleNamespace(count=self.counts.append)
        self.roster = Roster(self.owners, self.live, events, tasks)  # type: ignore[arg-type]
        self.roster.start()

    def enter(self, *, persistent: bool = True) -> Entry:
        return self.roster.enter(KEY, HOME, self.cut.append, persistent=persistent)

    async def look(self, owner: Binding | StoreUnavailable | None) -> list[str]:
        """What was cut, and why, once the key has this owner."""
        self.owners.owner = owner
        await self.roster.look(KEY)
        return self.cut


@pytest.fixture(autouse=True)
def never_looks_by_itself(monkeypatch) -> None:
    """What is found out here is found out by message."""
    monkeypatch.setattr(roster, "LOOK_EVERY_S", 3600.0)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    tasks = Tasks()
    yield Room(tasks)
    await tasks.aclose()


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        (bound(status=BindingStatus.BANNED), "key_banned"),
        (bound("198.51.100.9/32"), "key_bound_to_other_address"),
        (None, KEY_RELEASED),
    ],
    ids=["banned", "bound elsewhere", "released"],
)
async def test_whoever_could_not_begin_any_more_is_cut_once(room, owner, reason):
    room.enter()
    assert await room.look(owner) == [reason]
    assert await room.look(owner) == [reason]
    assert room.counts == ["cut_on_revocation"]


@pytest.mark.parametrize(
    "owner",
    [
        bound(),
        bound("203.0.113.0/24"),
        bound("198.51.100.9/32", mode=Mode.OBSERVE),
        bound("198.51.100.9/32", expires_at=1.0),
        bound(status=BindingStatus.BANNED, ban_expires_at=1.0),
        StoreUnavailable("away"),
    ],
    ids=[
        "the same",
        "a wider network",
        "only observed",
        "room again, where another's time is over",
        "a ban that is over",
        "nobody can tell",
    ],
)
async def test_whoever_could_begin_again_goes_on(room, owner):
    room.enter()
    assert await room.look(owner) == []


async def test_a_key_with_room_for_another_network_goes_on(room):
    room.enter()
    room.live.current = LiveSettings(networks_per_key=2)
    assert await room.look(bound("198.51.100.9/32")) == []


async def test_a_key_that_nobody_owned_from_the_start_is_not_released(room):
    """But once it had an owner, losing it counts."""
    room.owners.owner = None
    room.enter()
    assert await room.look(None) == []
    assert await room.look(bound()) == []
    assert await room.look(None) == [KEY_RELEASED]


async def test_whoever_has_left_is_not_cut(room):
    entry = room.enter()
    room.roster.leave(entry)
    room.roster.leave(entry)
    assert await room.look(None) == []


async def test_a_stream_is_cut_only_if_the_setting_says_so(room):
    room.enter(persistent=False)
    assert await room.look(bound(status=BindingStatus.BANNED)) == []
    assert room.owners.asked == 0
    room.live.current = LiveSettings(cut_on_revocation=True)
    assert await room.look(bound(status=BindingStatus.BANNED)) == ["key_banned"]


@pytest.mark.parametrize("told", [KEY, None], ids=["of this key", "of any key"])
async def test_news_of_a_change_has_the_key_looked_at(room, told):
    room.enter()
    room.owners.owner = None
    room.owners.change(told)
    await eventually(lambda: room.cut == [KEY_RELEASED])


async def test_a_change_between_the_verdict_and_the_entry_is_not_missed(room):
    """Memory has dropped the key, so it is looked at without being told."""
    room.owners.memory_knows = False
    room.owners.owner = bound(status=BindingStatus.BANNED)
    room.enter()
    await eventually(lambda: room.cut == ["key_banned"])


async def test_a_change_of_another_key_asks_nobody(room):
    room.enter()
    room.owners.memory_knows = False
    room.owners.change(OTHER)
    await asyncio.sleep(0)
    assert room.owners.asked == 0


async def test_without_any_message_everybody_is_looked_at_now_and_then(room, monkeypatch):
    """Networks and bans expire, and messages get lost."""
    monkeypatch.setattr(roster, "LOOK_EVERY_S", 0.01)
    room.roster.start()
    room.enter()
    room.owners.owner = None
    await eventually(lambda: room.cut == [KEY_RELEASED])
