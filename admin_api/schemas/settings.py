"""The live settings on the wire: what is in force, a change of it, and the versions before.

Where they stand in the walk: `controllers.settings` and the console speak these. The ranges stand here once, and both
the validation and the OpenAPI document come from them.
"""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import UNSET, Meta, Struct, UnsetType

from proxy_core.contracts import BindMethods, BindOn, Failsafe, Mode

ModeField = Annotated[Mode, Meta(description="refuse a key from elsewhere, or only record that it would be refused")]
FailsafeField = Annotated[Failsafe, Meta(description="what happens while no store can tell who owns a key")]
BindOnField = Annotated[BindOn, Meta(description="bind when the upstream took the key, or on arrival")]
BindMethodsField = Annotated[BindMethods, Meta(description="which requests may make an owner")]
Ipv4Prefix = Annotated[int, Meta(ge=8, le=32, description="size of the network that a first use over IPv4 binds")]
Ipv6Prefix = Annotated[int, Meta(ge=32, le=128, description="size of the network that a first use over IPv6 binds")]
NetworksPerKey = Annotated[int, Meta(ge=1, le=64, description="networks that a key may learn; 1: the first only")]
MaxConcurrentPerKey = Annotated[
    int, Meta(ge=0, le=100_000, description="requests of one key that may be open at once, then 429; 0: any number")
]
MaxConcurrentPerAddress = Annotated[
    int,
    Meta(
        ge=0,
        le=100_000,
        description="requests from one IPv4 address or IPv6 /64 that may be open at once, then 429; 0: any number",
    ),
]
CutOnRevocation = Annotated[
    bool,
    Meta(
        description="break off running streams too when their key is banned, released or bound elsewhere; "
        "WebSockets are closed in any case"
    ),
]
ArchiveDays = Annotated[
    int, Meta(ge=0, le=36_500, description="days without use until a binding is archived; 0: never")
]
RetentionDays = Annotated[int, Meta(ge=0, le=36_500, description="days for which intercepts are kept; 0: for ever")]
ThresholdCount = Annotated[
    int, Meta(ge=0, le=1_000_000, description="intercepts of one key within the window that raise an alert; 0: never")
]
ThresholdSeconds = Annotated[int, Meta(ge=1, le=86_400, description="length of that window in seconds")]
CooldownSeconds = Annotated[
    int, Meta(ge=0, le=604_800, description="seconds after an alert in which the same key raises no other; 0: none")
]
WebhookUrl = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^([Hh][Tt][Tt][Pp][Ss]?://[!-~]+)?$",
        description="where alerts are posted: an http or https URL; empty: nowhere",
        examples=["https://hooks.example.com/sentinel"],
    ),
]


class SettingValues(Struct, frozen=True):
    """Every live setting."""

    mode: ModeField
    failsafe: FailsafeField
    bind_on: BindOnField
    bind_methods: BindMethodsField
    ipv4_prefix: Ipv4Prefix
    ipv6_prefix: Ipv6Prefix
    networks_per_key: NetworksPerKey
    max_concurrent_per_key: MaxConcurrentPerKey
    max_concurrent_per_address: MaxConcurrentPerAddress
    cut_on_revocation: CutOnRevocation
    archive_days: ArchiveDays
    log_retention_days: RetentionDays
    alert_threshold_count: ThresholdCount
    alert_threshold_s: ThresholdSeconds
    alert_cooldown_s: CooldownSeconds
    alert_webhook_url: WebhookUrl


class SettingChanges(Struct, frozen=True, forbid_unknown_fields=True):
    """Some of the live settings, or all; what is left out stays as it is."""

    mode: ModeField | UnsetType = UNSET
    failsafe: FailsafeField | UnsetType = UNSET
    bind_on: BindOnField | UnsetType = UNSET
    bind_methods: BindMethodsField | UnsetType = UNSET
    ipv4_prefix: Ipv4Prefix | UnsetType = UNSET
    ipv6_prefix: Ipv6Prefix | UnsetType = UNSET
    networks_per_key: NetworksPerKey | UnsetType = UNSET
    max_concurrent_per_key: MaxConcurrentPerKey | UnsetType = UNSET
    max_concurrent_per_address: MaxConcurrentPerAddress | UnsetType = UNSET
    cut_on_revocation: CutOnRevocation | UnsetType = UNSET
    archive_days: ArchiveDays | UnsetType = UNSET
    log_retention_days: RetentionDays | UnsetType = UNSET
    alert_threshold_count: ThresholdCount | UnsetType = UNSET
    alert_threshold_s: ThresholdSeconds | UnsetType = UNSET
    alert_cooldown_s: CooldownSeconds | UnsetType = UNSET
    alert_webhook_url: WebhookUrl | UnsetType = UNSET


class SettingsPut(Struct, frozen=True, forbid_unknown_fields=True):
    """``version`` is the one that was read: of two who save at once, one is told (409) that the other was first."""

    version: Annotated[int, Meta(ge=0, le=2**53)]
    values: SettingChanges


class SettingsState(Struct, frozen=True):
    """``version`` 0: nothing was stored yet, the environment's first values are in force.

    ``published`` False: stored, but Redis could not be told; gateways look by themselves every few seconds.
    """

    version: int
    values: SettingValues
    changed_by: str | None
    changed_at: datetime | None
    published: bool = True


class SettingsVersion(Struct, frozen=True):
    """One version as it was stored. ``values`` may lack what did not exist then; the webhook's URL is masked."""

    version: int
    values: dict[str, Any]
    changed_by: str
    changed_at: datetime


class SettingsHistory(Struct, frozen=True):
    """Newest first."""

    items: list[SettingsVersion]
    next: str | None


def mask_url(url: str) -> str:
    """Scheme and host only: a webhook's path, query or user name can be all that protects it."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "…"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}/…"
