"""The tally: what a worker counted and Redis does not know yet, by the hour in which it happened. Pure.

Where it stands in the walk: `heartbeat` notes the worker's counters here with every beat and carries away what is new.

Rules for whoever edits this file:

- What was tried to be sent stays as it is, under its identity, until it is known to have arrived: only then can Redis
  tell a repetition. What came meanwhile waits behind it.
- An hour is done with before a later one is begun with, so that having begun with the later one says so of the earlier.
"""

import os
from collections.abc import Mapping

import msgspec

from proxy_core import keyspace

HOUR_ONLY = "+"
"""How the names of figures begin that hours have and days have not."""

BYTES_IN = f"{HOUR_ONLY}bytes_in"
BYTES_OUT = f"{HOUR_ONLY}bytes_out"
ADDED_TIME = f"{HOUR_ONLY}added_time:"
"""Followed by the number of a bucket of `histogram`."""


class Increments(msgspec.Struct, frozen=True):
    """What is to be added to an hour and its day, once. ``hour`` as in 2030-12-31T23, UTC."""

    identity: bytes
    hour: str
    by: dict[str, int]


class Tally:
    """One a worker process."""

    def __init__(self) -> None:
        self._noted: dict[str, int] = {}
        self._waiting: dict[str, dict[str, int]] = {}
        self._on_their_way: Increments | None = None

    def __repr__(self) -> str:
        return f"Tally(waiting={list(self._waiting)}, on their way={self._on_their_way is not None})"

    def note(self, totals: Mapping[str, int], now: float) -> None:
        """Counters since the start; what they grew by belongs to the hour of ``now`` (Unix seconds), be it nothing."""
        by = self._waiting.setdefault(keyspace.hour_name(now), {})
        for name, total in totals.items():
            more = total - self._noted.get(name, 0)
            if more > 0:
                by[name] = by.get(name, 0) + more
                self._noted[name] = total

    def next(self) -> Increments | None:
        """What was tried already, else the oldest that waits. The same until `confirmed`."""
        if self._on_their_way is None and self._waiting:
            hour = next(iter(self._waiting))
            self._on_their_way = Increments(os.urandom(8).hex().encode(), hour, self._waiting.pop(hour))
        return self._on_their_way

    def confirmed(self) -> None:
        self._on_their_way = None
