"""Alerts on the wire: what was raised, how its delivery went, and the targets that alerts are sent to.

Where they stand in the walk: `controllers.alerts` and `controllers.alert_targets` speak these, and so does the console.
A target's URL can hold a token and its signing secrets are secrets: no shape here shows the first, and only the answer
that makes a secret shows that.
"""

import enum
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from admin_api.schemas.common import NO_NUL, Ids, Reason
from admin_api.schemas.settings import mask_url

ADDRESSES_SHOWN = 10
KEEP_HOURS_MAX = 168


class AlertKind(enum.StrEnum):
    """What targets subscribe to. ``key_intercepted``: a key reached the threshold of `alert_threshold_count`."""

    KEY_INTERCEPTED = "key_intercepted"
    BINDING_CREATED = "binding_created"
    BINDING_BANNED = "binding_banned"
    ARCHIVE_RUN = "archive_run"
    STORE_OUTAGE = "store_outage"
    STORE_RECOVERED = "store_recovered"


class AlertStatus(enum.StrEnum):
    """``dead``: one of the deliveries was given up. ``pending``: none was, and one is still due. ``delivered``: all
    arrived. ``no_target``: nobody wanted it when it was raised."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    NO_TARGET = "no_target"


class DeliveryState(enum.StrEnum):
    """``dead``: given up, after the last attempt or because the target is disabled; it can be sent anew."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class SendOutcome(enum.StrEnum):
    """What one attempt came to. Codes are stable; a console translates them."""

    DELIVERED = "delivered"
    BAD_URL = "bad_url"
    """The URL cannot be used, or apprise knows no such service."""
    HTTPS_REQUIRED = "https_required"
    """http is for private addresses only, and only where `SENTINEL_ALERT_PRIVATE_TARGETS` allows those."""
    REFUSED_ADDRESS = "refused_address"
    """The name leads to an address that alerts may not go to: see `SENTINEL_ALERT_PRIVATE_TARGETS`."""
    UNRESOLVABLE = "unresolvable"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    PROTOCOL_ERROR = "protocol_error"
    REDIRECT = "redirect"
    """Redirects are never followed: enter the URL that they lead to."""
    GONE = "gone"
    """410: the receiver wants no more, and the target was disabled."""
    HTTP_ERROR = "http_error"
    """Another status than 2xx, 3xx and 410; ``status`` has it."""
    NOT_SENT = "not_sent"
    """The service that apprise speaks to refused it or did not answer."""
    TARGET_DISABLED = "target_disabled"
    INTERRUPTED = "interrupted"
    """The worker ended in the middle; whether the message arrived is not known, so it is sent again."""


class Language(enum.StrEnum):
    EN = "en"
    ZH_CN = "zh-CN"


class TargetKind(enum.StrEnum):
    """``webhook``: JSON posted, signed per Standard Webhooks. ``apprise``: text to Feishu, DingTalk, e-mail …"""

    WEBHOOK = "webhook"
    APPRISE = "apprise"


class DisabledBecause(enum.StrEnum):
    """``gone``: the receiver answered 410. ``setting``: the live setting `alert_webhook_url` is empty."""

    OPERATOR = "operator"
    GONE = "gone"
    SETTING = "setting"


# --- alerts ----------------------------------------------------------------------------------------------------------


class AddressCount(Struct, frozen=True):
    """How many requests were intercepted from one address."""

    address: str
    count: int


class DeliveryCounts(Struct, frozen=True):
    pending: int
    delivered: int
    dead: int


class AlertView(Struct, frozen=True, kw_only=True):
    """One alert. What is about a key is null or empty for alerts that are about none.

    The counts are of refused (``enforced_count``) and observed requests since ``since``; they grow until
    ``quiet_until``, and the key raises no other alert meanwhile. ``addresses`` are the most frequent ones as they were
    when it was raised, out of ``address_count``, and ``bound_networks`` what the key was bound to.
    ``facts`` depends on the kind: ``binding_banned``: ``by``, ``reason``, ``expires_at``, ``count``, ``keys`` (the
    first few: ``binding_id``, ``hint``); ``binding_created``: ``count``, ``keys``; ``archive_run``: what the run
    counted; ``store_outage`` and ``store_recovered``: ``store``, and ``seconds`` when it is over.
    """

    id: int
    raised_at: datetime
    kind: AlertKind
    status: AlertStatus
    binding_id: int | None
    fingerprint: str | None
    hint: str
    enforced_count: int
    observed_count: int
    since: datetime
    last_at: datetime
    quiet_until: datetime | None
    addresses: list[AddressCount]
    address_count: int
    bound_networks: list[str]
    facts: dict[str, Any]
    deliveries: DeliveryCounts


class AlertPage(Struct, frozen=True):
    """Newest first. ``next`` is the cursor of the next page, null on the last one."""

    items: list[AlertView]
    next: str | None


class AttemptView(Struct, frozen=True):
    """``status``: of the receiver's HTTP answer, null if there was none or the target is no webhook."""

    at: datetime
    took_ms: int
    outcome: SendOutcome
    status: int | None = None


class DeliveryView(Struct, frozen=True, kw_only=True):
    """``target_id`` null: the target was removed. ``next_at``: when it is tried next, null unless ``pending``.
    ``attempts``: the oldest first, the last 50."""

    id: int
    target_id: int | None
    target_name: str
    target_kind: TargetKind
    state: DeliveryState
    created_at: datetime
    next_at: datetime | None
    delivered_at: datetime | None
    attempts: list[AttemptView]


class AlertDetail(Struct, frozen=True):
    alert: AlertView
    deliveries: list[DeliveryView]


class Redeliver(Struct, frozen=True, forbid_unknown_fields=True):
    """``ids`` of alerts. ``target_id``: only to that target; else to all that are enabled and subscribed to its kind.

    Outcomes: ``done``; ``unchanged``: it is due everywhere already; ``no_target``: no such target is enabled.
    """

    ids: Ids
    target_id: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    reason: Reason = ""


# --- targets ---------------------------------------------------------------------------------------------------------

TargetName = Annotated[str, Meta(min_length=1, max_length=100, pattern=NO_NUL, examples=["on-call"])]
TargetUrl = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2048,
        pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[!-~]+$(?!\n)",
        description="a webhook's http(s) URL, or an apprise URL such as `feishu://token`; never shown again",
        examples=["https://hooks.example.com/sentinel"],
    ),
]
Events = Annotated[list[AlertKind], Meta(min_length=1, max_length=20, examples=[["key_intercepted"]])]


class SecretView(Struct, frozen=True):
    """A live signing secret, without itself. ``expires_at`` null: until the next rotation."""

    created_at: datetime
    expires_at: datetime | None


class TargetView(Struct, frozen=True, kw_only=True):
    """``url`` is masked. ``from_setting``: its URL is the live setting `alert_webhook_url`; name, events, language and
    ``enabled`` can be changed here, the URL there. ``secrets``: the newest first; none means unsigned."""

    id: int
    name: str
    kind: TargetKind
    url: str
    events: list[AlertKind]
    language: Language
    enabled: bool
    disabled_because: DisabledBecause | None
    from_setting: bool
    secrets: list[SecretView]
    created_by: str
    created_at: datetime
    changed_at: datetime
    version: int


class Targets(Struct, frozen=True):
    """By id."""

    items: list[TargetView]
    next: str | None


class TargetNew(Struct, frozen=True, forbid_unknown_fields=True):
    name: TargetName
    kind: TargetKind
    url: TargetUrl
    events: Events
    language: Language = Language.EN
    enabled: bool = True

    def __repr__(self) -> str:
        return "TargetNew(…)"


class TargetEdit(Struct, frozen=True, forbid_unknown_fields=True):
    """``version`` as it was read: if somebody changed the target since, the answer is 409 `stale_version`. What is
    left out stays. ``url`` of another host than before makes old secrets no less valid: rotate them if it matters."""

    version: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    name: TargetName | UnsetType = UNSET
    url: TargetUrl | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def __repr__(self) -> str:
        return "TargetEdit(…)"


class TargetMade(Struct, frozen=True):
    """``secret`` (`whsec_…`) is shown here and never again; null for apprise, which signs nothing."""

    target: TargetView
    secret: str | None


class Rotate(Struct, frozen=True, forbid_unknown_fields=True):
    """A new signing secret beside the present one, which stays good for ``keep_hours``. 0: it ends at once."""

    keep_hours: Annotated[int, Meta(ge=0, le=KEEP_HOURS_MAX)] = 24


class SendResult(Struct, frozen=True):
    """What happened to a message. Nothing of what the receiver answered is shown but its ``status``."""

    outcome: SendOutcome
    took_ms: int
    status: int | None = None


def mask_target_url(kind: TargetKind, url: str) -> str:
    """Of an apprise URL the scheme only: what stands where a host would can be the token."""
    return mask_url(url) if kind is TargetKind.WEBHOOK else f"{url.partition('://')[0]}://…"
