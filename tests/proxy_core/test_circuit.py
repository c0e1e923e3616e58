"""When a failing store is asked again."""

import pytest

from proxy_core.circuit import Circuit
from proxy_core.errors import StoreUnavailable
from tests.support.clocks import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def circuit(clock):
    return Circuit("redis", clock=clock, retry_after_s=1.0)


def test_a_sound_store_is_always_asked(circuit):
    for _ in range(3):
        circuit.enter()
    assert circuit.available
    assert circuit.failure is None


def test_after_a_failure_nobody_asks_for_a_while_and_the_refusal_says_why(circuit, clock):
    assert str(circuit.failed("time limit")) == "redis: time limit"
    clock.advance(0.9)
    with pytest.raises(StoreUnavailable, match="redis: time limit"):
        circuit.enter()
    assert not circuit.available


def test_then_one_call_tries_while_the_others_are_still_refused(circuit, clock):
    circuit.failed("time limit")
    clock.advance(1.0)
    circuit.enter()
    with pytest.raises(StoreUnavailable):
        circuit.enter()
    circuit.failed("refused")
    clock.advance(0.9)
    with pytest.raises(StoreUnavailable, match="refused"):
        circuit.enter()
    clock.advance(0.1)
    circuit.enter()
    circuit.succeeded()
    circuit.enter()
    assert circuit.available


def test_a_trying_call_that_was_cancelled_does_not_close_the_way_for_good(circuit, clock):
    circuit.failed("time limit")
    clock.advance(1.0)
    circuit.enter()  # and nothing is heard of it
    clock.advance(1.0)
    circuit.enter()
