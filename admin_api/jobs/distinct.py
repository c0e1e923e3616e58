"""Which keys and addresses an hour saw, as far as their number goes: HyperLogLogs in Redis, filled by ingestion.

Where it stands in the walk: `ingest` notes the events of a batch here in the step that confirms it; `rollup` counts.
Events say when they happened, so what waited in a spool counts for its own hour, and noting it twice changes nothing.
Of a key that was used from several addresses within the five seconds between two touches the last one is noted.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from proxy_core import keyspace
from proxy_core.contracts import EventBatch

HOUR_S = 3600


def note(pipe: Any, batches: Iterable[EventBatch], now: float) -> None:
    """Commands for a pipeline of Redis. What is older than history's hours are kept in Redis is left out."""
    keys: dict[int, set[bytes | str]] = defaultdict(set)
    addresses: dict[int, set[bytes | str]] = defaultdict(set)
    for batch in batches:
        for intercept in batch.intercepts:
            hour = int(intercept.at // HOUR_S)
            keys[hour].add(intercept.fingerprint)
            addresses[hour].add(intercept.client)
        for touch in batch.touches:
            hour = int(touch.last_used_at // HOUR_S)
            keys[hour].add(touch.fingerprint)
            addresses[hour].add(touch.last_ip)
    first, last = (now - keyspace.HOUR_TTL_S) // HOUR_S + 1, now // HOUR_S + 1
    for seen, name_of in ((keys, keyspace.keys_seen), (addresses, keyspace.addresses_seen)):
        for hour, members in seen.items():
            if first <= hour <= last:
                name = name_of(keyspace.hour_name(hour * HOUR_S))
                pipe.pfadd(name, *members)
                pipe.expire(name, keyspace.HOUR_TTL_S)
