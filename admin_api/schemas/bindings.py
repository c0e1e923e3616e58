"""Bindings on the wire: which networks may use a key, and what operators may do about it."""

import enum
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from admin_api.schemas.common import (
    Fingerprint,
    Id,
    Ids,
    KeyText,
    Moment,
    Note,
    Outcome,
    Reason,
    refuse_beyond_calendar,
)

MAX_NETWORKS = 10_000
NETWORKS_IN_LISTS = 10

NetworkText = Annotated[str, Meta(min_length=1, max_length=64, description="an address or a network in CIDR form")]


class TimedNetwork(Struct, frozen=True, forbid_unknown_fields=True):
    """A network that may use the key until ``expires_at``; null: for good, as one that is written as a text."""

    network: NetworkText
    expires_at: Moment | None = None


NetworkTexts = Annotated[list[NetworkText | TimedNetwork], Meta(min_length=1, max_length=MAX_NETWORKS)]


class BindingStatus(enum.StrEnum):
    """As it is in force: a ban that has expired is none."""

    ACTIVE = "active"
    BANNED = "banned"


class BindingMode(enum.StrEnum):
    """``inherit``: whatever the live settings say."""

    INHERIT = "inherit"
    ENFORCE = "enforce"
    OBSERVE = "observe"


class BoundNetwork(Struct, frozen=True):
    """``source``: first_use, learned or operator. ``expires_at`` null: for good."""

    network: str
    source: str
    created_at: datetime
    expires_at: datetime | None = None


class BindingView(Struct, frozen=True, kw_only=True):
    """A key and its owner. Lists show the first ten of ``networks``; ``network_count`` is how many there are."""

    id: int
    fingerprint: str
    hint: str
    status: BindingStatus
    ban_reason: str | None
    ban_expires_at: datetime | None
    mode: BindingMode
    note: str
    networks: list[BoundNetwork]
    network_count: int
    first_used_at: datetime
    last_used_at: datetime
    last_ip: str | None
    request_count: int
    intercept_count: int
    version: int


class BindingPage(Struct, frozen=True):
    items: list[BindingView]
    next: str | None


class BindingSort(enum.StrEnum):
    ID = "id"
    LAST_USED_AT = "last_used_at"
    FIRST_USED_AT = "first_used_at"
    INTERCEPT_COUNT = "intercept_count"
    REQUEST_COUNT = "request_count"


class Order(enum.StrEnum):
    ASC = "asc"
    DESC = "desc"


class Lookup(Struct, frozen=True, forbid_unknown_fields=True):
    key: KeyText

    def __repr__(self) -> str:
        return "Lookup(…)"


class LookupAnswer(Struct, frozen=True):
    """``binding`` null: nobody owns the key. ``archived``: how many bindings of it lie in the archive."""

    fingerprint: str
    hint: str
    binding: BindingView | None
    archived: int


class TimelineKind(enum.StrEnum):
    NETWORK = "network"
    AUDIT = "audit"
    INTERCEPT = "intercept"


class TimelineEntry(Struct, frozen=True):
    """``network``: network, source, expires_at. ``audit``: action, actor, actor_kind, reason, before, after.
    ``intercept``: client, reason, enforced, method, path, user_agent, gateway, repeat_count, bound_networks."""

    at: datetime
    kind: TimelineKind
    data: dict[str, Any]


class Timeline(Struct, frozen=True):
    items: list[TimelineEntry]
    next: str | None


class Unbind(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Ids
    reason: Reason = ""


class Unban(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Ids
    reason: Reason = ""


class Ban(Struct, frozen=True, forbid_unknown_fields=True):
    """Without ``expires_at`` the ban holds until it is lifted."""

    ids: Ids
    reason: Reason = ""
    expires_at: Moment | None = None

    def __post_init__(self) -> None:
        refuse_beyond_calendar(self.expires_at)


class SetNetworks(Struct, frozen=True, forbid_unknown_fields=True):
    """These networks and no others may use the key. ``version``: what was read; a stale one is refused with 409."""

    id: Id
    networks: NetworkTexts
    note: Note | None = None
    reason: Reason = ""
    version: int | None = None


class SetMode(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Ids
    mode: BindingMode
    reason: Reason = ""


class SetNote(Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    note: Note
    version: int | None = None


class Edited(Struct, frozen=True):
    """The binding after an edit. ``published`` as in `Results`."""

    outcome: Outcome
    published: bool
    binding: BindingView


class Decide(Struct, frozen=True, forbid_unknown_fields=True):
    """Either ``key`` or ``binding_id``."""

    address: Annotated[str, Meta(min_length=1, max_length=64)]
    key: KeyText | None = None
    binding_id: Id | None = None
    method: Annotated[str, Meta(pattern=r"^[A-Za-z]{1,16}$")] = "POST"

    def __repr__(self) -> str:
        return "Decide(…)"


class Decision(Struct, frozen=True):
    """``verdict``: allow, observe (allowed and recorded), or refuse with ``status``.

    ``rule``: invalid_api_key, first_use_binds, first_use_passes, key_banned, network_bound, room_for_network,
    room_but_not_learned, key_bound_to_other_address.
    """

    verdict: str
    rule: str
    status: int | None = None


class Decided(Struct, frozen=True):
    """``in_force``: which of the two holds for this key now. ``network``: the bound network around the address."""

    address: str
    hint: str | None
    binding: BindingView | None
    network: str | None
    in_force: BindingMode
    enforce: Decision
    observe: Decision


class ArchivedBinding(Struct, frozen=True, kw_only=True):
    """``id`` is the archive's, and what restores it. ``cause``: unbound (by an operator) or unused."""

    id: int
    binding_id: int
    fingerprint: str
    hint: str
    mode: BindingMode
    note: str
    networks: list[BoundNetwork]
    network_count: int
    first_used_at: datetime
    last_used_at: datetime
    last_ip: str | None
    request_count: int
    intercept_count: int
    archived_at: datetime
    archived_by: str
    cause: str
    restored_at: datetime | None


class ArchivePage(Struct, frozen=True):
    items: list[ArchivedBinding]
    next: str | None


class Restore(Struct, frozen=True, forbid_unknown_fields=True):
    ids: Ids
    reason: Reason = ""


class ImportedNetwork(Struct, frozen=True, forbid_unknown_fields=False):
    network: NetworkText
    expires_at: Moment | None = None

    def __post_init__(self) -> None:
        refuse_beyond_calendar(self.expires_at)


class ImportLine(Struct, frozen=True):
    """One line of an import; a line of an export is one. Fields that are absent leave what is there alone.

    Either ``key`` or ``fingerprint``. A binding that is not there yet needs ``networks``, unless it is banned.
    """

    key: KeyText | None = None
    fingerprint: Fingerprint | None = None
    hint: Annotated[str, Meta(max_length=16, pattern=r"^[^\x00]*$")] | None = None
    networks: Annotated[list[NetworkText | ImportedNetwork], Meta(max_length=MAX_NETWORKS)] | None = None
    status: BindingStatus | None = None
    ban_reason: Reason | None = None
    ban_expires_at: Moment | None = None
    mode: BindingMode | None = None
    note: Note | None = None
    first_used_at: Moment | None = None
    last_used_at: Moment | None = None

    def __post_init__(self) -> None:
        refuse_beyond_calendar(self.ban_expires_at, self.first_used_at, self.last_used_at)

    def __repr__(self) -> str:
        return "ImportLine(…)"


class ImportFault(Struct, frozen=True):
    """``line`` counts from 1. Never quotes the line, which may hold a key."""

    line: int
    message: str


class ImportChange(Struct, frozen=True):
    """One binding that was, or in a dry run would be, made or changed; ``before`` null: made."""

    line: int
    fingerprint: str
    hint: str
    before: dict[str, Any] | None
    after: dict[str, Any]


class ImportReport(Struct, frozen=True):
    """Counts of lines, and the first thousand ``faults`` and ``changes``."""

    dry_run: bool
    created: int
    updated: int
    unchanged: int
    failed: int
    published: bool
    faults: list[ImportFault]
    changes: list[ImportChange]
