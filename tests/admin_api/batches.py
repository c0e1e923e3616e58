"""Event batches as gateways make them, and where they arrive."""

import os
import time

import msgspec

from proxy_core import keyspace
from proxy_core.contracts import EventBatch, Intercept, Reason, Touch
from proxy_core.outbox import FIELD_BATCH, FIELD_ID

KEY = b"k" * 32
NOW = float(int(time.time()))  # microseconds of a float round one way here, another way in PostgreSQL


def intercept(**given) -> Intercept:
    values = {
        "event_id": os.urandom(16),
        "at": NOW,
        "fingerprint": KEY,
        "hint": "abcd…wxyz",
        "client": "198.51.100.7",
        "bound_networks": ("203.0.113.0/24", "2001:db8::/64"),
        "reason": Reason.KEY_BOUND_TO_OTHER_ADDRESS,
        "enforced": True,
        "method": "POST",
        "path": "/v1/chat/completions",
        "user_agent": "tests",
        "gateway": "gw",
    }
    return Intercept(**(values | given))


def touch(binding_id: int, at: float = NOW, ip: str = "203.0.113.9", requests: int = 1) -> Touch:
    return Touch(fingerprint=KEY, binding_id=binding_id, last_used_at=at, last_ip=ip, requests=requests)


def batch(*events: Intercept | Touch, at: float = NOW) -> EventBatch:
    return EventBatch(
        batch_id=os.urandom(16),
        gateway="gw",
        at=at,
        intercepts=tuple(event for event in events if isinstance(event, Intercept)),
        touches=tuple(event for event in events if isinstance(event, Touch)),
    )


def distinct(count: int) -> list[EventBatch]:
    """Batches of one intercept each, which do not fold."""
    return [batch(intercept(client=f"198.18.{number // 250}.{number % 250}")) for number in range(count)]


def entry(one: EventBatch) -> dict[bytes, bytes]:
    return {FIELD_ID: one.batch_id, FIELD_BATCH: msgspec.msgpack.encode(one)}


def send(redis, *batches: EventBatch) -> None:
    """Into the stream, with a synchronous client."""
    for one in batches:
        redis.xadd(keyspace.EVENTS_STREAM, entry(one))


def confirmed(redis, *batches: EventBatch) -> bool:
    """Whether all are marked done and the stream is empty: what a gateway waits for."""
    marks = redis.mget([keyspace.event_done(one.batch_id) for one in batches])
    return None not in marks and redis.xlen(keyspace.EVENTS_STREAM) == 0


async def new_binding(pg, fingerprint: bytes = KEY, last_used_at: float = NOW - 100) -> int:
    return await pg.fetchval(
        "INSERT INTO binding (key_hash, key_hint, first_used_at, last_used_at) "
        "VALUES ($1, '', to_timestamp($2), to_timestamp($2)) RETURNING id",
        fingerprint,
        last_used_at,
    )
