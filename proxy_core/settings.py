"""The static settings of a gateway process: read once at its start from the environment and ``.env``, then frozen.

A setting's description says what it does, what zero means and when not to touch it; README.md prints these
descriptions, and a test keeps the two the same. What changes while running
is `LiveSettings`; here are only its first values.

Nothing here echoes a value that may hold a secret: error messages name the variable, say what is wrong and what to do.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from proxy_core.contracts import Failsafe, IPNetwork, LiveSettings, UpstreamProfile
from proxy_core.setting_values import UpstreamUrl, parse_networks, parse_upstream_url, refuse_weak_secret

PREFIX = "SENTINEL_"
DEFAULT_WORKERS_MAX = 4
STORE_SCHEMES = {"pg_dsn": ("postgresql://", "postgres://"), "redis_url": ("redis://", "rediss://", "unix://")}

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class SettingsError(Exception):
    """The settings cannot be used; ``faults`` holds one readable line for each thing that is wrong, all of them."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that a gateway process is told from outside. Made by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    # what stands behind and beside us
    downstream_url: str = Field(
        validation_alias="DOWNSTREAM_URL",
        description="the LLM gateway that requests are forwarded to: `http(s)://host[:port][/base/path]`",
    )
    pg_dsn: str = Field(
        validation_alias="PG_DSN",
        repr=False,
        description="PostgreSQL, which decides who owns a key: `postgresql://user:password@host/database`",
    )
    redis_url: str = Field(
        validation_alias="REDIS_URL",
        repr=False,
        description="Redis or Valkey: `redis://host:6379/0`, `rediss://…` or `unix:///path?db=0`",
    )
    hmac_secret: SecretStr = Field(
        description="makes the fingerprints of keys; at least 32 random bytes (`openssl rand -hex 32`). "
        "Never change it while bindings exist: every key would count as new",
    )
    trusted_proxies: Annotated[tuple[IPNetwork, ...], NoDecode, BeforeValidator(_networks)] = Field(
        default=(),
        description="networks of the reverse proxies whose `X-Real-IP` is believed, separated by commas or spaces. "
        "Empty: nobody's, and the TCP peer is the client",
    )
    upstream_profile: UpstreamProfile = Field(
        default=UpstreamProfile.NEW_API,
        description="whose way of reading keys is imitated: `new-api`, `one-api` or `openai` (Authorization only)",
    )
    key_extra_characters: str = Field(
        default="",
        description="characters besides letters and digits that your imported keys contain. "
        "Never `-`, space, comma or `;`: the upstream cuts keys there",
    )
    allow_channel_suffix: bool = Field(
        default=False,
        description="let `sk-KEY-123` through (the upstream's administrators pin a channel with it) as the key `KEY`",
    )

    # where we listen
    host: str = Field(
        default="127.0.0.1",
        description="address to listen on. The default suits a reverse proxy on the same machine; `0.0.0.0` or `::` "
        "in a container, behind a firewall that lets only the proxy in",
    )
    port: int = Field(default=7000, ge=1, le=65_535, description="port to listen on")
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description=f"processes that serve requests. 0: one per processor, at most {DEFAULT_WORKERS_MAX}",
    )
    cpu_scheduling: Literal["batch", "normal"] = Field(
        default="batch",
        description="`batch`: a gateway's threads do not interrupt one another, which takes about a fifth less "
        "processor time a request; where other programs keep every processor busy, a request may wait some "
        "milliseconds longer. `normal`: as the system does it. Linux only",
    )
    drain_notice_s: Seconds = Field(
        default=5.0,
        description="at a stop, how long requests are still taken while `/ready` says 503 and answers close their "
        "connections. Longer than the proxy keeps idle ones (`nginx/`: 4 s). 0: no notice, for the only gateway",
    )
    drain_timeout_s: Seconds = Field(
        default=30.0,
        description="after that notice, how long open requests may go on before they are cut. 0: cut at once",
    )
    request_head_timeout_s: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] = Field(
        default=30.0,
        description="time in which the head of a request must have arrived, from the connection's or the request's "
        "begin; then the connection is closed",
    )
    request_target_max_bytes: int = Field(
        default=16_384,
        ge=256,
        le=65_534,
        description="length of a request's path and query (then 414). nginx passes at most 8 KiB by default; "
        "beyond 65534 the server itself answers",
    )
    request_headers_max_bytes: int = Field(
        default=65_536,
        ge=4096,
        le=1_048_576,
        description="names and values of a request's headers together (then 431). "
        "nginx passes at most 32 KiB by default",
    )
    request_headers_max_count: int = Field(
        default=100,
        ge=10,
        le=100,
        description="headers of a request (then 431). The server itself takes no more than 100",
    )
    request_body_max_bytes: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000_000,
        description="length of a request's body, counted as it passes where it is not announced (then 413). 0: any; "
        "the upstream has a limit of its own",
    )
    request_body_idle_timeout_s: Seconds = Field(
        default=60.0,
        description="time without progress after which an upload is given up (408). 0: never; "
        "then slow clients can hold connections for ever",
    )
    request_body_min_bytes_per_s: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = Field(
        default=500.0,
        description="what an upload has to bring on average over `SENTINEL_REQUEST_BODY_IDLE_TIMEOUT_S` (else 408), "
        "counting only the time in which the client was waited for. 0: a byte now and then is enough",
    )
    client_stall_timeout_s: Seconds = Field(
        default=300.0,
        description="how long an answer or a WebSocket message (a large one: for each MiB) may wait for a client that "
        "takes nothing of it, or hardly anything: then it is cut, and the connection closed. What the system buffers "
        "counts as taken. 0: for ever; then slow readers can hold connections to the upstream",
    )

    # the exchange with the upstream
    upstream_connections: int = Field(
        default=4096,
        ge=1,
        le=60_000,
        description="connections to the upstream per worker; each open stream holds one. "
        "Needs as many file descriptors again for the clients",
    )
    upstream_connect_timeout_s: SomeSeconds = Field(
        default=5.0, description="time to connect to the upstream, TLS included (then 502)"
    )
    upstream_head_timeout_s: Seconds = Field(
        default=600.0,
        description="time until the upstream begins to answer (then 504). 0: no limit. "
        "Reasoning models can be silent for many minutes: do not shorten it without cause",
    )
    upstream_idle_timeout_s: Seconds = Field(
        default=330.0,
        description="silence between two pieces of an answer after which the stream is cut. 0: no limit. "
        "Keep it above the upstream's own streaming limit (New API: 300 s)",
    )
    upstream_pool_wait_s: Seconds = Field(
        default=5.0,
        description="how long a request waits for one of `SENTINEL_UPSTREAM_CONNECTIONS` (then 503). 0: not at all",
    )
    upstream_keepalive_s: Seconds = Field(
        default=55.0,
        description="how long an idle connection is kept. 0: never reused. "
        "Keep it below the upstream's own keep-alive time, or requests meet closed connections",
    )
    websocket_handshake_timeout_s: Seconds = Field(
        default=60.0,
        description="time until the upstream accepts or refuses a WebSocket (then 504). 0: no limit",
    )
    websocket_message_max_bytes: int = Field(
        default=67_108_864,
        ge=0,
        le=1_000_000_000,
        description="size of one WebSocket message, either way (then the socket is closed with 1009). 0: no limit. "
        "The server takes no more than 64 MiB from clients whatever this says, and 16 MiB in one frame",
    )
    upstream_tls_ca_file: Path | None = Field(
        default=None,
        description="certificates (PEM) that an `https` upstream is verified against. Empty: the system's",
    )

    # memory and stores
    l1_entries: int = Field(
        default=100_000, ge=100, le=10_000_000, description="bindings that each worker remembers (about 1 KB each)"
    )
    l1_ttl_s: SomeSeconds = Field(
        default=30.0,
        description="how long a worker trusts its memory of a binding; operators' changes arrive at once all the same",
    )
    l1_ttl_degraded_s: SomeSeconds = Field(
        default=2.0, description="the same while the invalidation channel is down and changes cannot arrive"
    )
    # `keyspace.TOMBSTONE_TTL_S` has to outlive a read that these two allow.
    redis_timeout_ms: int = Field(
        default=300, ge=10, le=5_000, description="time for one answer of Redis; after it, Redis counts as unavailable"
    )
    pg_timeout_ms: int = Field(
        default=2000,
        ge=10,
        le=20_000,
        description="time for one answer of PostgreSQL; after it, PostgreSQL counts as unavailable",
    )
    pg_pool_size: int = Field(
        default=8,
        ge=1,
        le=200,
        description="PostgreSQL connections per worker. Times workers, it must stay below `max_connections`",
    )
    event_spool_dir: Path = Field(
        default=Path(".sentinel/spool"),
        description="folder that keeps records of intercepts while Redis is away; must survive a restart",
    )
    event_spool_max_bytes: int = Field(
        default=64_000_000,
        ge=0,
        le=100_000_000_000,
        description="size of the spool per worker; beyond it intercepts are only counted. 0: no spool",
    )

    # how we appear
    gateway_name: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=64,
        description="this gateway's name in records and heartbeats. Empty: the machine's host name",
    )
    server_timing: bool = Field(
        default=False,
        description="tell clients in a `Server-Timing` header for how many milliseconds Sentinel held their request",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe level that is logged (to stderr): `debug`, `info`, `warning`, `error`"
    )

    # first values of the live settings
    archive_days: int = Field(
        default=90,
        ge=0,
        le=36_500,
        validation_alias="ARCHIVE_DAYS",
        description="first value: days without use after which a binding is archived. 0: never",
    )
    failsafe_mode: Failsafe = Field(
        default=Failsafe.CLOSED,
        description="first value: while no store can tell who owns a key, refuse (`closed`) or let through (`open`)",
    )
    alert_webhook_url: str = Field(
        default="",
        repr=False,
        validation_alias="ALERT_WEBHOOK_URL",
        description="first value: a webhook that alerts go to, beside the targets of the admin API. Empty: none",
    )
    alert_threshold_count: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        validation_alias="ALERT_THRESHOLD_COUNT",
        description="first value: intercepts of one key within the window that raise an alert. 0: never",
    )
    alert_threshold_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        validation_alias="ALERT_THRESHOLD_SECONDS",
        description="first value: length of that window in seconds",
    )

    @property
    def upstream(self) -> UpstreamUrl:
        return parse_upstream_url(self.downstream_url)

    @property
    def worker_count(self) -> int:
        if self.workers:
            return self.workers
        usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return min(DEFAULT_WORKERS_MAX, usable)

    def initial_live_settings(self) -> LiveSettings:
        """What is in force until somebody stores live settings."""
        return LiveSettings(
            failsafe=self.failsafe_mode,
            archive_days=self.archive_days,
            alert_threshold_count=self.alert_threshold_count,
            alert_threshold_s=self.alert_threshold_seconds,
            alert_webhook_url=self.alert_webhook_url,
        )

    @field_validator("downstream_url")
    @classmethod
    def _check_downstream_url(cls, value: str) -> str:
        parse_upstream_url(value)
        return value

    @field_validator("pg_dsn", "redis_url")
    @classmethod
    def _check_store_url(cls, value: str, info: ValidationInfo) -> str:
        if not value.lower().startswith(schemes := STORE_SCHEMES[info.field_name or ""]):
            raise ValueError(f"must begin with {' or '.join(schemes)}")
        return value

    @field_validator("hmac_secret")
    @classmethod
    def _check_hmac_secret(cls, value: SecretStr) -> SecretStr:
        refuse_weak_secret(value.get_secret_value())
        return value

    @field_validator("key_extra_characters")
    @classmethod
    def _check_key_extra_characters(cls, value: str) -> str:
        bad = sorted({character for character in value if not "!" <= character <= "~" or character in "-,;"})
        if bad:
            raise ValueError(f"may not contain {' '.join(map(ascii, bad))}: the upstream cuts or folds keys there")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _check_alert_webhook_url(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("must begin with https:// or http:// and name a host")
        return value

    @field_validator("upstream_tls_ca_file")
    @classmethod
    def _check_upstream_tls_ca_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is not a file")
        return value


S = TypeVar("S", bound=BaseSettings)


def load_settings(**given: Any) -> Settings:
    """From the environment and ``.env``; ``given`` wins over both. Raises SettingsError with every fault."""
    return load(Settings, **given)


def load(kind: type[S], **given: Any) -> S:
    """The same for a process that needs more settings than the data plane, or others."""
    try:
        return kind(**given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise SettingsError([_fault(kind, fault["loc"], fault["type"], fault["msg"]) for fault in faults]) from None


def variable_of(field_name: str, kind: type[BaseSettings] = Settings) -> str:
    alias = kind.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{field_name}".upper()


def _fault(model: type[BaseSettings], location: tuple[int | str, ...], kind: str, message: str) -> str:
    fields = model.model_fields
    # What a validator says of an aliased field is filed under the alias, what is missing too.
    name = next((name for name in fields if location[0] in (name, variable_of(name, model))), str(location[0]))
    variable = variable_of(name, model) if name in fields else name
    if kind == "missing":
        return f"{variable} is missing: {fields[name].description}"
    text = message.removeprefix("Value error, ")
    return f"{variable} {text}" if kind == "value_error" else f"{variable}: {text[0].lower()}{text[1:]}"
