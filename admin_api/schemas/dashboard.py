"""The dashboard on the wire: today's figures, totals, what is intercepted most, what is new, which stores answer."""

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
