"""The shapes that cross files on the data plane.

Rules for whoever edits this file:

- A shape is frozen unless its docstring says who fills it in and until when.
- Bytes stay bytes on the wire path. Units are in the names: ``_s``, ``_ms``, ``_bytes``, ``_at`` (Unix seconds, UTC).
- No shape here holds a model key except `RequestHead` and `ModelKey`; neither shows it when printed, and a `ModelKey`
  goes no further than the upstream's header.
- ``gc=False`` on the shapes made once a request keeps them out of the collector's lists; it is sound only while
  they cannot be part of a reference cycle.
"""

import enum
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

HeaderList = Sequence[tuple[bytes, bytes]]
"""Header lines in the order of arrival, names in lower case, as ASGI gives and takes them."""

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Dialect(enum.Enum):
    """Whose error format a route's clients read (``new-api-auth`` section 8.3 names the routes of each)."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    MIDJOURNEY = "midjourney"
    TASK = "task"
    READ_ONLY = "read_only"


class UpstreamProfile(enum.StrEnum):
    """Which upstream's way of reading keys is imitated."""

    NEW_API = "new-api"
    ONE_API = "one-api"
    OPENAI = "openai"


class Route(msgspec.Struct, frozen=True):
    """What a method and path mean to the binding, decided on the exact bytes that are forwarded.

    ``bound`` is False only for the explicit list of routes without a model key; every unknown path is a key route.
    ``session`` is True where an ``Authorization`` that is no model key is a dashboard's login and passes unchanged;
    together with ``bound`` the route takes either.
    ``anonymous`` is True where no credential of any kind is read or forwarded (CORS preflights).
    ``pins_channel`` is False where the upstream's second parse of the key would trip over a channel suffix.
    ``lists_models`` is True where the upstream's handlers look at which header the key came in.
    """

    bound: bool
    dialect: Dialect
    session: bool = False
    anonymous: bool = False
    pins_channel: bool = True
    lists_models: bool = False


class RequestHead(msgspec.Struct, gc=False):
    """A client's request head, taken apart once by `headers.read_request_head` and only read afterwards.

    ``kept`` are the end-to-end headers that go to the upstream as they came, in their order; carriers, framing,
    hop-by-hop and client-address headers are not among them. The sequences hold the values of all lines of a header.
    ``host`` is ``b""`` when there was none (HTTP/1.0). ``upgrade`` is ``b"websocket"`` or ``b""``.
    """

    kept: list[tuple[bytes, bytes]]
    host: bytes = b""
    authorization: Sequence[bytes] = ()
    x_api_key: Sequence[bytes] = ()
    x_goog_api_key: Sequence[bytes] = ()
    mj_api_secret: Sequence[bytes] = ()
    websocket_protocols: Sequence[bytes] = ()
    real_ip: Sequence[bytes] = ()
    forwarded_proto: Sequence[bytes] = ()
    content_length: int | None = None
    chunked: bool = False
    expect_continue: bool = False
    upgrade: bytes = b""
    user_agent: bytes = b""
    anthropic: bool = False
    request_id: bytes = b""

    def __repr__(self) -> str:
        return "RequestHead(…)"


class ModelKey(msgspec.Struct, frozen=True, gc=False):
    """A model key that passed the grammar. Never logged, stored, or put into an event.

    ``text`` is the key in the client's own letter case, without scheme, ``sk-`` and suffix.
    ``suffix`` is ``b""`` or ``b"-<digits>"`` (channel pinning, only where the operator allows it).
    """

    text: bytes
    suffix: bytes = b""

    def __repr__(self) -> str:
        return "ModelKey(…)"


class KeyIdentity(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a key: ``HMAC-SHA256(secret, lower(key))`` and its first and last four characters."""

    fingerprint: bytes
    hint: str


class ClientAddress(NamedTuple):
    """The address that a request is judged by: canonical, IPv4-mapped IPv6 folded to IPv4."""

    text: str
    encoded: bytes
    version: int
    value: int


class Network(msgspec.Struct, frozen=True, gc=False):
    """A CIDR network in the form that `contains` needs: two integer operations on the hot path."""

    version: int
    value: int
    prefix: int
    text: str

    @classmethod
    def parse(cls, text: str) -> "Network":
        """Raises ValueError for anything that is not a network without host bits."""
        network = ipaddress.ip_network(text)
        return cls(network.version, int(network.network_address), network.prefixlen, str(network))

    @classmethod
    def around(cls, address: ClientAddress, *, ipv4_prefix: int, ipv6_prefix: int) -> "Network":
        """The network that a first use from ``address`` binds."""
        prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
        return cls.parse(str(ipaddress.ip_network(f"{address.text}/{prefix}", strict=False)))

    def contains(self, address: ClientAddress) -> bool:
        if address.version != self.version:
            return False
        shift = (32 if self.version == 4 else 128) - self.prefix
        return (address.value >> shift) == (self.value >> shift)


class BindingStatus(enum.StrEnum):
    ACTIVE = "active"
    BANNED = "banned"


class Mode(enum.StrEnum):
    ENFORCE = "enforce"
    OBSERVE = "observe"


class BoundNetwork(msgspec.Struct, frozen=True, gc=False):
    """One network of a binding; ``expires_at`` None means for good."""

    network: Network
    expires_at: float | None = None


class Binding(msgspec.Struct, frozen=True):
    """A key and where it may be used, as the data plane sees it.

    ``version`` comes from one database sequence, so that of two states of a key, also across unbinding and binding
    again, the later one always has the higher version.
    ``mode`` None inherits the live setting.
    """

    id: int
    fingerprint: bytes
    hint: str
    status: BindingStatus
    networks: tuple[BoundNetwork, ...]
    version: int
    mode: Mode | None = None
    ban_expires_at: float | None = None

    def covers(self, address: ClientAddress, now: float) -> bool:
        for bound in self.networks:
            if bound.network.contains(address) and (bound.expires_at is None or bound.expires_at > now):
                return True
        return False

    def is_banned(self, now: float) -> bool:
        return self.status is BindingStatus.BANNED and (self.ban_expires_at is None or self.ban_expires_at > now)


class Failsafe(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"


class BindOn(enum.StrEnum):
    ACCEPTED = "accepted"
    FIRST_USE = "first_use"


class BindMethods(enum.StrEnum):
    ANY = "any"
    GENERATING = "generating"


class LiveSettings(msgspec.Struct, frozen=True):
    """One consistent state of the settings that change while running; a request takes one and keeps it.

    ``version`` 0 means that nothing was stored yet: the environment's first values are in force.
    """

    version: int = 0
    mode: Mode = Mode.ENFORCE
    failsafe: Failsafe = Failsafe.CLOSED
    bind_on: BindOn = BindOn.ACCEPTED
    bind_methods: BindMethods = BindMethods.ANY
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    networks_per_key: int = 1
    max_concurrent_per_key: int = 0
    max_concurrent_per_address: int = 0
    cut_on_revocation: bool = False
    archive_days: int = 90
    log_retention_days: int = 180
    alert_threshold_count: int = 5
    alert_threshold_s: int = 300
    alert_cooldown_s: int = 3600
    alert_webhook_url: str = ""


class StoredSettings(msgspec.Struct, frozen=True):
    """One version of the live settings as it lies in PostgreSQL and Redis; ``values`` is a JSON object."""

    version: int
    values: bytes


class RequestLimits(msgspec.Struct, frozen=True):
    """How much one request may be. ``body_max_bytes`` 0: any length. Where they come from says what they refuse."""

    target_max_bytes: int = 16_384
    headers_max_bytes: int = 65_536
    headers_max_count: int = 100
    body_max_bytes: int = 0


class Reason(enum.StrEnum):
    """Why a request was refused (or would have been). The value is the stable code that clients and rows carry."""

    INVALID_API_KEY = "invalid_api_key"
    CONFLICTING_CREDENTIALS = "conflicting_credentials"
    CLIENT_ADDRESS_UNKNOWN = "client_address_unknown"
    ORIGINAL_REQUEST_UNKNOWN = "original_request_unknown"
    PROXY_NOT_TRUSTED = "proxy_not_trusted"
    MALFORMED_REQUEST = "malformed_request"
    TARGET_TOO_LONG = "target_too_long"
    HEADERS_TOO_LARGE = "headers_too_large"
    BODY_TOO_LARGE = "body_too_large"
    KEY_CONCURRENCY_EXCEEDED = "key_concurrency_exceeded"
    ADDRESS_CONCURRENCY_EXCEEDED = "address_concurrency_exceeded"
    KEY_BANNED = "key_banned"
    KEY_BOUND_TO_OTHER_ADDRESS = "key_bound_to_other_address"
    BINDING_STORE_UNAVAILABLE = "binding_store_unavailable"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    REQUEST_TIMEOUT = "request_timeout"
    INTERNAL_ERROR = "internal_error"


INTERCEPTS = frozenset((Reason.KEY_BANNED, Reason.KEY_BOUND_TO_OTHER_ADDRESS))
"""The reasons that are about a key's binding: each such request is recorded, also one that was only observed."""


class Action(enum.Enum):
    ALLOW = "allow"
    LEARN = "learn"
    CLAIM = "claim"
    REFUSE = "refuse"


class Verdict(msgspec.Struct, frozen=True):
    """What happens to a request.

    ``observed`` marks an ALLOW that enforce mode would have refused for ``reason``; it is recorded.
    LEARN: allowed, and the address's network is added to the binding first. CLAIM: nobody owns the key yet.
    """

    action: Action
    reason: Reason | None = None
    observed: bool = False


class Intercept(msgspec.Struct, frozen=True):
    """One refused (or observed) request, as it leaves the worker for the event stream.

    ``repeat_count`` counts the identical ones (key, address, reason) that the batch folded into this first one.
    ``peer`` is the TCP peer from which it came, ``""`` in batches of versions that did not tell.
    """

    event_id: bytes
    at: float
    fingerprint: bytes
    hint: str
    client: str
    bound_networks: tuple[str, ...]
    reason: Reason
    enforced: bool
    method: str
    path: str
    user_agent: str
    gateway: str
    repeat_count: int = 1
    peer: str = ""


class Touch(msgspec.Struct, frozen=True):
    """What a worker has seen of one binding since its last batch: coalesced, one per binding and batch."""

    fingerprint: bytes
    binding_id: int
    last_used_at: float
    last_ip: str
    requests: int


class EventBatch(msgspec.Struct, frozen=True):
    """What a worker sends at once, and the unit of idempotency: the tables see a ``batch_id`` (16 bytes) once.

    A later version may add fields with defaults only: batches wait in streams and spool files across upgrades.
    """

    batch_id: bytes
    gateway: str
    at: float
    intercepts: tuple[Intercept, ...] = ()
    touches: tuple[Touch, ...] = ()
