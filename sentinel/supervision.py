"""Owns the wait: until somebody asks us to stop, or a child ends by itself.

SIGINT and SIGTERM raise `StopRequested` in the main thread wherever it is, also in the middle of a start; whoever holds
resources releases them in ``finally``. Later signals do not interrupt that: they only call ``hurry``.
"""

import contextlib
import selectors
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

from sentinel.child import Child
from sentinel.errors import ProcessFailed


class StopRequested(BaseException):
    """Raised once, in the main thread, by the first SIGINT or SIGTERM."""


class Stop:
    """Whether a stop was asked for, and what a second request does."""

    def __init__(self) -> None:
        self.requested = False
        self.hurry: Callable[[], None] = lambda: None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            self.hurry()
            return
        self.requested = True
        raise StopRequested


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[Stop]:
    """Within the block the two signals raise `StopRequested`; the block's end swallows it: a stop is a good end."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.suppress(StopRequested):
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(children: Sequence[Child]) -> NoReturn:
    """Waits for the first child that ends by itself and raises ProcessFailed with its last words."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child, selectors.EVENT_READ, child)
        while not (ended := selector.select()):
            pass
    raise failure_of(ended[0][0].data)


def failure_of(child: Child) -> ProcessFailed:
    """What to tell about a child that is not running any more."""
    child.wait(10.0)
    log = f"; the end of {child.log}:\n{child.last_words()}" if child.log else ""
    return ProcessFailed(f"{child.name} {child.ending()}{log}")
