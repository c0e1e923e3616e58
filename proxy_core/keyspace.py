"""Every name in Redis (or Valkey): key, channel and stream, with its type and lifetime. No other file spells one.

=========================== ======== ====================== ==========================================================
name                        type     lifetime               holds
=========================== ======== ====================== ==========================================================
sentinel:binding:<hex>      string   see the `_TTL_S` below 20-digit version + MessagePack of a binding, or "unbound"
sentinel:claim:<hex>        string   CLAIM_TTL_S, renewed   state, random token and network of who claims the key
sentinel:settings           string   for good               20-digit version + JSON of the live settings
sentinel:changed            channel  -                      which entry changed: see `binding_changed` and below
sentinel:events             stream   until applied          intercepts and touches in batches, drained by EVENTS_GROUP
sentinel:events:done:<hex>  string   EVENT_DONE_TTL_S       one batch is in PostgreSQL: its gateway may forget it
sentinel:events:dead        stream   DEAD_LETTERS_MAX_…     entries that could not be understood, for a human to read
sentinel:gateways           zset     trimmed by readers     gateway name → Unix second of its last heartbeat
sentinel:gateway:<name>     string   HEARTBEAT_TTL_S        MessagePack map: what the gateway says of itself
saq:sentinel:*              SAQ's    SAQ's own              the job queue QUEUE_NAME
saq:job:sentinel:*          string   SAQ's own              the jobs of that queue
saq:abort:*                 string   SAQ's own              which of them are being aborted
=========================== ======== ====================== ==========================================================

Losing all of it loses no binding, no setting and no recorded intercept: PostgreSQL and the gateways' spools have them.
"""

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

# --- gateways and jobs -----------------------------------------------------------------------------------------------

GATEWAYS = f"{PREFIX}gateways"
HEARTBEAT_TTL_S = 15.0


def gateway(name: str) -> str:
    return f"{PREFIX}gateway:{name}"


QUEUE_NAME = "sentinel"
"""SAQ's one queue; SAQ itself makes the keys `saq:sentinel:…`, `saq:job:sentinel:…` and `saq:abort:…` of it."""
