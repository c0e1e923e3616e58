"""Every name in Redis (or Valkey): key, channel and stream, with its type and lifetime. No other file spells one.

=========================== ======== ====================== ==========================================================
name                        type     lifetime               holds
=========================== ======== ====================== ==========================================================
sentinel:binding:<hex>      string   see the `_TTL_S` below 20-digit version + MessagePack of a binding, or "unbound"
sentinel:claim:<hex>        string   CLAIM_TTL_S, renewed   state, random token and network of who claims the key
sentinel:settings           string   for good               20-digit version + JSON of the live settings
sentinel:changed            channel  -                      which entry changed: see `binding_changed` and below
sentinel:open:key:<hex>     hash     OPEN_TTL_S, renewed    worker → its open requests of a key, and until when
sentinel:open:address:<a>   hash     OPEN_TTL_S, renewed    the same for an IPv4 address, or the half of an IPv6 one
sentinel:events             stream   until applied          intercepts and touches in batches, drained by EVENTS_GROUP
sentinel:events:done:<hex>  string   EVENT_DONE_TTL_S       one batch is in PostgreSQL: its gateway may forget it
sentinel:events:dead        stream   DEAD_LETTERS_MAX_…     entries that could not be understood, for a human to read
sentinel:gateways           zset     GATEWAY_REMEMBERED_S   gateway worker → Redis' time (s) of its last heartbeat
sentinel:gateway:<n>:<pid>  string   HEARTBEAT_TTL_S        MessagePack map: what a gateway worker says of itself
sentinel:counted:<n>:<pid>  string   COUNTED_TTL_S          which of the worker's increments was added to a day last
sentinel:day:<YYYY-MM-DD>   hash     DAY_TTL_S              what all gateways counted on that day (UTC), by outcome
sentinel:hour:<…-DD>T<HH>   hash     HOUR_TTL_S             the same of an hour and more, until the roll-up has it
sentinel:keys:<…>T<HH>      HLL      HOUR_TTL_S             fingerprints that were used or intercepted in that hour
sentinel:addresses:<…>T<HH> HLL      HOUR_TTL_S             addresses that used or tried one in that hour
sentinel:login:<hex>        hash     LOGIN_FAILURES_TTL_S   failed sign-ins of an account at an address, of an address
sentinel:login:<hex>        string   LOGIN_FAILURES_TTL_S   sign-ins of an account by strangers to it
sentinel:alert:window:<…>   hash     two windows            intercepts of a key in pieces of the alert window, by time
sentinel:alert:batch:<hex>  string   ALERT_COUNTED_TTL_S    an event batch is counted in those windows
sentinel:alert:outage:<s>   string   OUTAGE_TOLD_TTL_S      a worker tells that the store <s> is away: others need not
saq:sentinel:*              SAQ's    SAQ's own              the job queue QUEUE_NAME
saq:job:sentinel:*          string   SAQ's own              the jobs of that queue
saq:abort:*                 string   SAQ's own              which of them are being aborted
=========================== ======== ====================== ==========================================================

Losing all of it loses no binding, no setting and no recorded intercept: PostgreSQL and the gateways' spools have them.
"""

import time

PREFIX = "sentinel:"

# --- binding entries -------------------------------------------------------------------------------------------------

BINDING_TTL_S = 3600.0
"""A bound key's entry. Writers overwrite it, so the lifetime only bounds the memory that idle keys take."""

UNBOUND_TTL_S = 10.0
"""An "unbound" answer that was read from PostgreSQL: long enough to absorb a flood of one junk key."""

TOMBSTONE_TTL_S = 60.0
"""An "unbound" entry that an unbinding wrote: it must outlive every fill that began before the unbinding committed,
so it stays well above the longest time limit of a PostgreSQL read."""


def binding(fingerprint: bytes) -> str:
    return f"{PREFIX}binding:{fingerprint.hex()}"


# --- claims ----------------------------------------------------------------------------------------------------------

CLAIM_TTL_S = 15.0
"""How long a reservation outlives a gateway that died with it. Renewed every third of it while the request lives."""

ACCEPTED_CLAIM_TTL_S = 86_400.0
"""The same where the upstream took the key while PostgreSQL was away: until the first user's next request, which
binds it, even if the gateway that should have did not live to do it."""


def claim(fingerprint: bytes) -> str:
    return f"{PREFIX}claim:{fingerprint.hex()}"


# --- open requests ---------------------------------------------------------------------------------------------------

OPEN_TTL_S = 30.0
"""How long the seats of a worker that died count on."""


def open_of_key(fingerprint: bytes) -> str:
    return f"{PREFIX}open:key:{fingerprint.hex()}"


def open_of_address(address: str) -> str:
    return f"{PREFIX}open:address:{address}"


# --- live settings and the invalidation channel ----------------------------------------------------------------------

SETTINGS = f"{PREFIX}settings"

CHANGED_CHANNEL = f"{PREFIX}changed"
ALL_BINDINGS_CHANGED = b"b:*"
SETTINGS_CHANGED = b"s"
BINDING_CHANGED_PREFIX = b"b:"


def binding_changed(fingerprint: bytes) -> bytes:
    """The message that makes every gateway worker drop its entry of one key."""
    return BINDING_CHANGED_PREFIX + fingerprint.hex().encode()


def changed_binding(message: bytes) -> bytes | None:
    """The fingerprint that a message is about; None: it is about something else."""
    if not message.startswith(BINDING_CHANGED_PREFIX):
        return None
    try:
        return bytes.fromhex(message[len(BINDING_CHANGED_PREFIX) :].decode())
    except ValueError:
        return None


# --- events ----------------------------------------------------------------------------------------------------------

EVENTS_STREAM = f"{PREFIX}events"
EVENTS_GROUP = "ingest"
"""The stream has no MAXLEN, which would drop what nobody has read: ingestion deletes what it applied, and a gateway
sends no more than `outbox` allows to be unconfirmed."""

EVENTS_CONSUMER = "worker"
"""All workers read under one name. Redis gives an entry to one of them all the same, and entries of the dead are found
by how long they have been pending, not by whose they are; so no list of consumers grows with every restart."""

EVENT_DONE_TTL_S = 600
"""A gateway that was cut off for longer sends again, which changes nothing: a batch is applied once."""


def event_done(batch_id: bytes) -> str:
    return f"{PREFIX}events:done:{batch_id.hex()}"


DEAD_LETTERS_STREAM = f"{PREFIX}events:dead"
DEAD_LETTERS_MAX_LENGTH = 1_000

# --- gateways --------------------------------------------------------------------------------------------------------

GATEWAYS = f"{PREFIX}gateways"
HEARTBEAT_TTL_S = 15.0
GATEWAY_REMEMBERED_S = 3600
"""How long a worker that died without a word is listed. One that stops takes its entry away."""

DAY_TTL_S = 40 * 86_400
HOUR_TTL_S = 3 * 86_400
"""For so long may all workers be away until history has a gap."""

COUNTED_TTL_S = 86_400


def gateway_worker(name: str, pid: int) -> str:
    """The member of `GATEWAYS`, and the end of the worker's own keys."""
    return f"{name}:{pid}"


def heartbeat(worker: str) -> str:
    return f"{PREFIX}gateway:{worker}"


def counted(worker: str) -> str:
    return f"{PREFIX}counted:{worker}"


def day(date: str) -> str:
    """``date`` as in 2030-12-31, UTC."""
    return f"{PREFIX}day:{date}"


def hour_name(at: float) -> str:
    """Of the hour (UTC) in which ``at`` (Unix seconds) lies, as in 2030-12-31T23: what the next three take."""
    return time.strftime("%Y-%m-%dT%H", time.gmtime(at))


def hour(name: str) -> str:
    return f"{PREFIX}hour:{name}"


def keys_seen(hour: str) -> str:
    return f"{PREFIX}keys:{hour}"


def addresses_seen(hour: str) -> str:
    return f"{PREFIX}addresses:{hour}"


# --- operators -------------------------------------------------------------------------------------------------------

LOGIN_FAILURES_TTL_S = 3600
"""After the last attempt: longer than the longest wait that `admin_api.lockout` imposes."""


def login_failures(counter: str) -> str:
    return f"{PREFIX}login:{counter}"


# --- alerts ----------------------------------------------------------------------------------------------------------

ALERT_COUNTED_TTL_S = 900
"""A batch that comes again later may count twice; PostgreSQL, which decides, has its rows once."""

OUTAGE_TOLD_TTL_S = 600


def alert_window(piece_s: int, fingerprint: bytes) -> str:
    """Of pieces of ``piece_s`` seconds: after a change of the setting, counting begins anew."""
    return f"{PREFIX}alert:window:{piece_s}:{fingerprint.hex()}"


def alert_counted(batch_id: bytes) -> str:
    return f"{PREFIX}alert:batch:{batch_id.hex()}"


def outage_told(store: str) -> str:
    return f"{PREFIX}alert:outage:{store}"


# --- jobs ------------------------------------------------------------------------------------------------------------

QUEUE_NAME = "sentinel"
"""SAQ's one queue; SAQ itself makes the keys `saq:sentinel:…`, `saq:job:sentinel:…` and `saq:abort:…` of it."""
