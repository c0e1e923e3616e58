"""The dashboard on the wire: today's figures, totals, what is intercepted most, what is new, which stores answer.

And its history: the same figures by the hour or the day.
"""

import enum
from datetime import datetime

from msgspec import Struct


class Today(Struct, frozen=True):
    """What all gateways counted since midnight UTC; heartbeats bring it every few seconds.

    ``allowed`` includes ``observed`` and ``unbound`` requests. ``refused`` is by reason. ``bound``: keys that got an
    owner. ``other``: every other outcome, such as ``client_gone`` and answers of the upstream by class of status.
    """

    date: str
    requests: int
    allowed: int
    unbound: int
    observed: int
    bound: int
    refused_total: int
    refused: dict[str, int]
    other: dict[str, int]


class Total(Struct, frozen=True):
    """``estimated``: from PostgreSQL's statistics, since counting so many would take long."""

    count: int
    estimated: bool


class Totals(Struct, frozen=True):
    """Rows. ``banned`` are among ``bindings``; ``intercepts`` are rows of the log, some of which stand for several."""

    bindings: Total
    active: Total
    banned: Total
    archived: Total
    intercepts: Total


class InterceptedKey(Struct, frozen=True):
    """A key by what was intercepted of it within the last 24 hours; ``binding_id`` null: nobody owns it now."""

    fingerprint: str
    hint: str
    binding_id: int | None
    intercepts: int
    last_at: datetime


class TopIntercepted(Struct, frozen=True):
    """``estimated``: only the newest intercepts since ``since`` were looked at, there are more within 24 hours."""

    since: datetime
    estimated: bool
    items: list[InterceptedKey]


class NewBinding(Struct, frozen=True):
    id: int
    fingerprint: str
    hint: str
    status: str
    networks: list[str]
    first_used_at: datetime


class StoreStates(Struct, frozen=True):
    """``available`` or ``unavailable``, as this process sees them."""

    redis: str
    postgresql: str


class GatewayCount(Struct, frozen=True):
    """``alive`` of the ``known`` gateways have sent a heartbeat within the last seconds; ``workers`` of all."""

    alive: int
    known: int
    workers: int


class Dashboard(Struct, frozen=True):
    """What a store that does not answer would have told is null."""

    at: datetime
    stores: StoreStates
    today: Today | None
    gateways: GatewayCount | None
    totals: Totals | None
    most_intercepted: TopIntercepted | None
    newest_bindings: list[NewBinding] | None


class HistoryStep(enum.StrEnum):
    """Hours and days are those of UTC."""

    HOUR = "hour"
    DAY = "day"


class HistoryPoint(Struct, frozen=True):
    """What all gateways saw from ``at`` on, for one step.

    ``partial``: the figures are not (yet) all that happened: the interval is not over, a gateway that counted in it has
    not delivered the rest or died with it, Redis lost some, or nobody was there to count.
    ``requests``: all that came. ``allowed`` includes ``observed`` ones and those that passed unbound. ``intercepted``:
    refused for their key's binding. ``claims``: keys that got an owner. ``errors``: all other refusals and broken
    answers, by the code that the client got. ``keys`` and ``addresses``: how many different ones were used or
    intercepted, within about a percent; those of a day are not the sum of its hours.
    ``bytes_in`` went to the upstream, ``bytes_out`` came from it, heads included. ``added_p50_ms``, ``added_p99_ms``:
    how long requests that passed were held until it was decided that they may, look-ups in the stores included; null
    when none passed.
    """

    at: datetime
    partial: bool
    requests: int
    allowed: int
    intercepted: int
    observed: int
    claims: int
    errors: dict[str, int]
    keys: int
    addresses: int
    bytes_in: int
    bytes_out: int
    added_p50_ms: float | None
    added_p99_ms: float | None


class History(Struct, frozen=True):
    """A point for every step from ``since`` to ``until`` (exclusive), oldest first, none of the future; the last one
    may still be going on. ``since`` is what was asked for, at the beginning of its step.

    Figures come once a minute. Hours are kept for 400 days.
    """

    step: HistoryStep
    since: datetime
    until: datetime
    items: list[HistoryPoint]
