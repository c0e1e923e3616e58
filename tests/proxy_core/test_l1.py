"""One worker's memory, with a clock that stands still: what is trusted, for how long, and what is thrown away."""

import pytest

from proxy_core import l1
from proxy_core.contracts import Binding, BindingStatus
from proxy_core.l1 import Memory
from tests.support.clocks import FakeClock

KEY, OTHER = b"k" * 32, b"o" * 32


def binding(version: int = 1, key: bytes = KEY) -> Binding:
    return Binding(1, key, "hint", BindingStatus.ACTIVE, (), version)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def memory(clock):
    made = Memory(entries=3, ttl_s=30.0, ttl_degraded_s=2.0, clock=clock)
    made.channel_up()
    clock.advance(1.0)
    return made


def test_an_entry_is_trusted_for_its_lifetime_after_its_read_began(memory, clock):
    began = clock()
    clock.advance(5.0)
    memory.put(KEY, binding(), began)
    clock.advance(24.9)
    assert memory.fresh(KEY) == binding()
    clock.advance(0.1)
    assert memory.fresh(KEY) is None
    assert memory.fresh(OTHER) is None


def test_before_the_channel_first_came_up_trust_is_short(clock):
    memory = Memory(entries=3, ttl_s=30.0, ttl_degraded_s=2.0, clock=clock)
    memory.put(KEY, binding(), clock())
    clock.advance(1.9)
    assert memory.fresh(KEY) == binding()
    clock.advance(0.1)
    assert memory.fresh(KEY) is None


def test_without_the_channel_trust_is_never_longer_than_with_it(clock):
    memory = Memory(entries=3, ttl_s=1.0, ttl_degraded_s=2.0, clock=clock)
    memory.put(KEY, binding(), clock())
    clock.advance(1.0)
    assert memory.fresh(KEY) is None


def test_the_channel_going_down_shortens_trust_and_coming_up_ends_it(memory, clock):
    memory.put(KEY, binding(), clock())
    clock.advance(1.9)
    memory.channel_down()
    assert memory.fresh(KEY) == binding()
    clock.advance(0.1)
    assert memory.fresh(KEY) is None
    memory.put(KEY, binding(), clock())
    memory.channel_up()
    assert memory.fresh(KEY) is None, "read in the moment that it came up: it may have missed a message"
    clock.advance(0.1)
    memory.put(KEY, binding(), clock())
    assert memory.fresh(KEY) == binding()


def test_a_read_that_began_before_the_channel_came_up_is_not_trusted(memory, clock):
    began = clock()
    clock.advance(0.1)
    memory.channel_up()
    clock.advance(0.1)
    memory.put(KEY, binding(), began)
    assert memory.fresh(KEY) is None
    assert memory.extend(KEY) == binding(), "but better than nothing while no store can be asked"


def test_a_fill_from_before_the_message_is_thrown_away(memory, clock):
    began = clock()
    clock.advance(0.1)
    memory.drop(KEY)
    memory.put(KEY, binding(), began)
    memory.put(KEY, binding(), clock())
    assert memory.extend(KEY) is None
    memory.put(OTHER, binding(key=OTHER), began)
    assert memory.fresh(OTHER) is not None, "the message was not about this key"
    clock.advance(0.1)
    memory.put(KEY, binding(2), clock())
    assert memory.fresh(KEY) == binding(2)


def test_a_message_about_all_keys_throws_every_older_fill_away(memory, clock):
    memory.put(KEY, binding(), clock())
    began = clock()
    memory.drop_all()
    memory.put(OTHER, binding(key=OTHER), began)
    assert len(memory) == 0


def test_forgotten_messages_make_fills_stricter_not_laxer(memory, clock, monkeypatch):
    monkeypatch.setattr(l1, "MESSAGES_KEPT", 2)
    began = clock()
    clock.advance(0.1)
    for number in range(3):
        memory.drop(bytes([number]) * 32)
    memory.put(bytes([0]) * 32, binding(), began)
    memory.put(KEY, binding(), began)
    assert len(memory) == 0
    assert len(memory._dropped) == 2


def test_an_older_version_never_replaces_a_newer_one(memory, clock):
    memory.put(KEY, binding(5), clock())
    clock.advance(1.0)
    memory.put(KEY, binding(4), clock())
    assert memory.fresh(KEY) == binding(5)


def test_unbound_removes_what_was_read_before_it_and_is_not_remembered(memory, clock):
    early = clock()
    clock.advance(1.0)
    memory.put(KEY, binding(), clock())
    memory.put(KEY, None, early)
    assert memory.fresh(KEY) == binding()
    memory.put(KEY, None, clock())
    assert len(memory) == 0


def test_an_extended_entry_is_trusted_for_the_short_time_again_and_again(memory, clock):
    memory.put(KEY, binding(), clock())
    clock.advance(3600.0)
    for _ in range(3):
        assert memory.fresh(KEY) is None
        assert memory.extend(KEY) == binding()
        clock.advance(1.9)
        assert memory.fresh(KEY) == binding()
        clock.advance(0.1)
    assert memory.extend(OTHER) is None


def test_an_extension_ends_when_the_channel_comes_up(memory, clock):
    memory.put(KEY, binding(), clock())
    clock.advance(3600.0)
    memory.extend(KEY)
    clock.advance(0.1)
    memory.channel_up()
    assert memory.fresh(KEY) is None


def test_the_oldest_fill_makes_room(memory, clock):
    keys = [bytes([number]) * 32 for number in range(4)]
    for key in keys[:3]:
        memory.put(key, binding(key=key), clock())
    memory.put(keys[0], binding(2, keys[0]), clock())
    memory.put(keys[3], binding(key=keys[3]), clock())
    assert [memory.fresh(key) is not None for key in keys] == [True, False, True, True]
