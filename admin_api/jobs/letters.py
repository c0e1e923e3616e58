"""Entries of the event stream, opened: what can be applied, in shares for one transaction each, and what never can.

Where it stands in the walk: `ingest` takes them from the stream; of what is opened here it applies the letters and
buries the dead ones. Pure. Nothing of an entry is trusted or quoted: a fault says what kind it is of.
"""

import functools
import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from admin_api.jobs.apply import LEDGER_KEEP_DAYS, addressed, moment
from proxy_core.contracts import EventBatch
from proxy_core.outbox import FIELD_BATCH, FIELD_ID

Fields = dict[Any, Any]  # bytes to bytes; redis-py's types take no narrower dictionary

IDENTITY_BYTES = 16
COUNT_MAX = 2**48
"""More than any batch can count, and far from where sums overflow."""


class Poison(Exception):
    """A batch that can never be applied: its content is wrong. The message says how, without quoting it."""


class Letter(msgspec.Struct, frozen=True):
    """An entry that was understood."""

    entry_id: bytes
    fields: Fields
    batch: EventBatch

    @property
    def events(self) -> int:
        return len(self.batch.intercepts) + len(self.batch.touches)


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry that never can be applied. ``mark`` is what its gateway waits for, None if even that is missing."""

    entry_id: bytes
    fields: Fields
    mark: bytes | None
    fault: str


_decode = msgspec.msgpack.Decoder(EventBatch).decode


def opened(entry_id: bytes, fields: Fields, now: float) -> Letter | DeadLetter:
    mark = fields.get(FIELD_ID)
    try:
        batch = _decode(fields.get(FIELD_BATCH, b""))
        check(batch, now)
    except Poison as fault:
        return DeadLetter(entry_id, fields, mark, str(fault))
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        return DeadLetter(entry_id, fields, mark, f"not an event batch ({type(fault).__name__})")
    if mark != batch.batch_id:
        return DeadLetter(entry_id, fields, mark, "its identity is not the batch's")
    return Letter(entry_id, fields, batch)


def shares(letters: Sequence[Letter], events_max: int) -> Iterator[list[Letter]]:
    """What goes into one transaction each, in order."""
    share: list[Letter] = []
    events = 0
    for letter in letters:
        if share and events + letter.events > events_max:
            yield share
            share, events = [], 0
        share.append(letter)
        events += letter.events
    if share:
        yield share


def check(batch: EventBatch, now: float) -> None:
    """Raises Poison for what PostgreSQL would refuse, and for what is too old for the ledger to know.

    It need not find everything: what PostgreSQL refuses all the same (see `apply.CONTENT_FAULTS`) is found by trying.
    """
    if now - batch.at > (LEDGER_KEEP_DAYS - 1) * 86_400:
        raise Poison("too old to tell whether it was applied before")
    try:
        _sized(batch.batch_id)
        for intercept in batch.intercepts:
            _sized(intercept.event_id)
            _counted(intercept.repeat_count)
            addressed(intercept.client)
            for network in intercept.bound_networks:
                _network(network)
            moment(intercept.at)
        for touch in batch.touches:
            _counted(touch.requests)
            addressed(touch.last_ip)
            moment(touch.last_used_at)
    except (ValueError, OverflowError, OSError) as fault:
        raise Poison(
            f"holds an impossible address, network, time, count or identity ({type(fault).__name__})"
        ) from None


def _sized(identity: bytes) -> None:
    if len(identity) != IDENTITY_BYTES:
        raise ValueError


@functools.lru_cache(maxsize=10_000)
def _network(text: str) -> None:
    ipaddress.ip_network(text)


def _counted(count: int) -> None:
    if not 0 < count < COUNT_MAX:
        raise ValueError
