"""The event stream as ingestion sees it, and limits under which nothing that a test waits for takes long."""

import hashlib

import msgspec
from redis import Redis

from proxy_core import keyspace
from proxy_core.contracts import EventBatch
from proxy_core.events import EventLimits
from proxy_core.outbox import FIELD_BATCH, FIELD_ID, OutboxLimits, Parcel

QUICK_OUTBOX = OutboxLimits(
    send_timeout_s=1.0, confirm_every_s=0.0, resend_after_s=0.0, adopt_every_s=0.0, backoff_max_s=0.02
)
QUICK = EventLimits(flush_s=0.01, touch_every_s=0.0, close_s=0.6, outbox=QUICK_OUTBOX)


def parcel(name: str, *, durable: bool = True, size: int = 0) -> Parcel:
    """Its payload tells it apart; the identity is made of the name."""
    return Parcel(hashlib.sha256(name.encode()).digest()[:16], name.encode().ljust(size, b"."), durable=durable)


class Ingestion:
    """Reads the stream and, when told to, marks batches done and deletes them, as the jobs do."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url)

    def payloads(self) -> list[bytes]:
        """Of all entries in the order of the stream, repetitions included."""
        return [fields[FIELD_BATCH] for _, fields in self._redis.xrange(keyspace.EVENTS_STREAM)]

    def names(self) -> list[str]:
        return [payload.decode().rstrip(".") for payload in self.payloads()]

    def batches(self) -> list[EventBatch]:
        """Each once, as ingestion applies them."""
        found = (msgspec.msgpack.decode(payload, type=EventBatch) for payload in self.payloads())
        return list({batch.batch_id: batch for batch in found}.values())

    def apply(self) -> int:
        entries = self._redis.xrange(keyspace.EVENTS_STREAM)
        for entry_id, fields in entries:
            self._redis.set(keyspace.event_done(fields[FIELD_ID]), b"1", ex=keyspace.EVENT_DONE_TTL_S)
            self._redis.xdel(keyspace.EVENTS_STREAM, entry_id)
        return len(entries)

    def lose_everything(self) -> None:
        self._redis.flushall()

    def close(self) -> None:
        self._redis.close()
