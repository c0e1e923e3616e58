"""Gateways on the wire: which run, with how many workers, and what has not reached PostgreSQL yet."""

from datetime import datetime

from msgspec import Struct


class WorkerView(Struct, frozen=True):
    """One worker process, as it described itself ``age_s`` seconds ago. ``counts``: outcomes since ``started_at``."""

    pid: int
    version: str
    started_at: datetime
    age_s: float
    draining: bool
    settings_version: int
    open_exchanges: int
    redis_available: bool
    postgresql_available: bool
    touches_pending: int
    intercepts_pending: int
    batches_unconfirmed: int
    batches_dropped: int
    spooled_bytes: int
    counts: dict[str, int]


class GatewayView(Struct, frozen=True):
    """``alive``: a heartbeat came within the last seconds. ``workers_expected`` is what its settings say.

    ``last_seen_at`` is by Redis' clock. The sums are over the workers that are alive; ``lag_batches`` and
    ``lag_events`` have left requests and are not known to be in PostgreSQL.
    """

    name: str
    alive: bool
    last_seen_at: datetime
    age_s: float
    versions: list[str]
    settings_versions: list[int]
    workers_expected: int
    workers_alive: int
    open_exchanges: int
    lag_events: int
    lag_batches: int
    spooled_bytes: int
    batches_dropped: int
    workers: list[WorkerView]


class StreamView(Struct, frozen=True):
    """The event stream: ``length`` batches wait, ``pending`` of them are in a worker's hands, ``dead`` were refused.

    ``lag_s``: how long the oldest has been waiting; 0 if none is. Above a minute, PostgreSQL or all workers are away.
    """

    length: int
    pending: int
    dead: int
    lag_s: float


class Gateways(Struct, frozen=True):
    """Every gateway that was alive within the last hour, by name. All at once, so ``next`` is always null."""

    items: list[GatewayView]
    stream: StreamView
    next: str | None = None
