"""The tables. `migrations` makes them; a test compares the two, so neither drifts.

Where they stand in the walk: the data plane reads and claims bindings with its own SQL text (`proxy_core.store`); jobs
write intercepts and touches; operators write the rest through `admin_api.operations`.

Rules for whoever edits this file:

- Whoever changes what the data plane shows of a binding (status, ban expiry, mode, networks) sets ``version`` to
  ``nextval('binding_version_seq')`` in the statement that locks the row, and publishes after the commit. Touches
  (counts, last use) do not: no gateway looks at them.
- Deleting a binding draws the tombstone's version in the same way: ``DELETE … RETURNING nextval(…)``.
- What a column may hold is also said to PostgreSQL (CHECK), except where a row must never be lost: `Intercept`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, CIDR, INET, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
BINDING_VERSION_SEQ = Sequence("binding_version_seq", metadata=metadata)
Moment = TIMESTAMP(timezone=True)
ZERO = text("0")
NOW = text("now()")


class Row(DeclarativeBase):
    metadata = metadata


class BindingRow(Row):
    """A key and its owner. No row: nobody owns the key."""

    __tablename__ = "binding"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash_is_sha256"),
        CheckConstraint("status IN ('active', 'banned')", name="status_known"),
        CheckConstraint("mode IN ('enforce', 'observe')", name="mode_known"),
        Index("ix_binding_last_used_at", "last_used_at", "id"),
        Index("ix_binding_banned", "id", postgresql_where=text("status = 'banned'")),
        Index("ix_binding_first_used_at", "first_used_at", "id"),
        Index("ix_binding_intercept_count", "intercept_count", "id"),
        Index("ix_binding_request_count", "request_count", "id"),
        Index(
            "ix_binding_key_hint",
            func.lower(text("key_hint")).label("hint"),
            "id",
            postgresql_ops={"hint": "text_pattern_ops"},
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    key_hash: Mapped[bytes] = mapped_column(BYTEA, unique=True)
    key_hint: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default=text("'active'"))
    ban_reason: Mapped[str | None] = mapped_column(Text)
    ban_expires_at: Mapped[datetime | None] = mapped_column(Moment)
    """None while banned: until an operator lifts it."""
    mode: Mapped[str | None] = mapped_column(Text)
    """None: the live setting."""
    note: Mapped[str] = mapped_column(Text, server_default=text("''"))
    first_used_at: Mapped[datetime] = mapped_column(Moment)
    last_used_at: Mapped[datetime] = mapped_column(Moment)
    last_ip: Mapped[str | None] = mapped_column(INET)
    request_count: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    intercept_count: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    version: Mapped[int] = mapped_column(
        BigInteger, BINDING_VERSION_SEQ, server_default=BINDING_VERSION_SEQ.next_value()
    )

    networks: Mapped[list["BindingNetworkRow"]] = relationship(
        order_by="BindingNetworkRow.id", passive_deletes=True, cascade="all, delete-orphan"
    )


class BindingNetworkRow(Row):
    """One network that may use the key."""

    __tablename__ = "binding_network"
    __table_args__ = (
        CheckConstraint("source IN ('first_use', 'learned', 'operator')", name="source_known"),
        Index("uq_binding_network_binding_id", "binding_id", "network", unique=True),
        Index("ix_binding_network_network", "network", postgresql_using="gist", postgresql_ops={"network": "inet_ops"}),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    binding_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("binding.id", ondelete="CASCADE"))
    network: Mapped[str] = mapped_column(CIDR)
    source: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    """None: for good."""


class InterceptRow(Row):
    """One refused or observed request, or several identical ones: the audit log.

    Partitioned by month (UTC) of ``at``; ``SELECT intercept_ensure_partitions(from, months)`` makes the partitions, and
    `intercept_default` takes what none was made for. ``event_id`` makes ingesting idempotent.
    """

    __tablename__ = "intercept"
    __table_args__ = (
        Index("ix_intercept_at", "at", "event_id"),
        Index("ix_intercept_key_hash", "key_hash", "at"),
        Index("ix_intercept_client", "client", "at"),
        Index("ix_intercept_reason", "reason", "at", "event_id"),
        Index("ix_intercept_observed", "at", "event_id", postgresql_where=text("NOT enforced")),
        Index(
            "ix_intercept_key_hint",
            func.lower(text("key_hint")).label("hint"),
            "at",
            postgresql_ops={"hint": "text_pattern_ops"},
        ),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    event_id: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    key_hash: Mapped[bytes] = mapped_column(BYTEA)
    key_hint: Mapped[str] = mapped_column(Text)
    client: Mapped[str | None] = mapped_column(INET)
    bound_networks: Mapped[list[str]] = mapped_column(ARRAY(CIDR), server_default=text("'{}'"))
    """What the key was bound to at that moment."""
    reason: Mapped[str] = mapped_column(Text)
    enforced: Mapped[bool]
    """False: observed, the request passed."""
    method: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)
    gateway: Mapped[str] = mapped_column(Text)
    repeat_count: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    peer: Mapped[str | None] = mapped_column(INET)
    """The TCP peer from which the request came: the client, or a proxy whose word was taken for it. None: not told."""


class IngestBatchRow(Row):
    """The ledger of ingestion: an event batch that was applied, remembered so that it is never applied again."""

    __tablename__ = "ingest_batch"
    __table_args__ = (Index("ix_ingest_batch_applied_at", "applied_at"),)

    batch_id: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    applied_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)


class RuntimeSettingRow(Row):
    """One version of the live settings. The highest is in force; nothing here is ever changed, only added."""

    __tablename__ = "runtime_setting"
    __table_args__ = (
        CheckConstraint("version > 0", name="version_positive"),
        CheckConstraint("jsonb_typeof(\"values\") = 'object'", name="values_is_object"),
    )

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """The one before plus one, so that of two operators who save at once one is refused."""
    values: Mapped[dict[str, Any]] = mapped_column(JSONB)
    changed_by: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)


class BindingArchiveRow(Row):
    """A binding that was removed, by an operator (``unbound``) or for want of use; its networks as a JSON list."""

    __tablename__ = "binding_archive"
    __table_args__ = (
        CheckConstraint("cause IN ('unbound', 'unused')", name="cause_known"),
        Index("ix_binding_archive_key_hash", "key_hash", "archived_at"),
        Index("ix_binding_archive_archived_at", "archived_at", "id"),
        Index("ix_binding_archive_binding_id", "binding_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    binding_id: Mapped[int] = mapped_column(BigInteger)
    key_hash: Mapped[bytes] = mapped_column(BYTEA)
    key_hint: Mapped[str] = mapped_column(Text)
    mode: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    networks: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """``[{"network", "source", "created_at", "expires_at"}]``, times as ISO 8601."""
    first_used_at: Mapped[datetime] = mapped_column(Moment)
    last_used_at: Mapped[datetime] = mapped_column(Moment)
    last_ip: Mapped[str | None] = mapped_column(INET)
    request_count: Mapped[int] = mapped_column(BigInteger)
    intercept_count: Mapped[int] = mapped_column(BigInteger)
    archived_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    archived_by: Mapped[str] = mapped_column(Text)
    cause: Mapped[str] = mapped_column(Text)
    restored_at: Mapped[datetime | None] = mapped_column(Moment)


class AdminUserRow(Row):
    """An operator. ``version`` rises with each change of role, password or state."""

    __tablename__ = "admin_user"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'operator', 'viewer')", name="role_known"),
        Index("uq_admin_user_name", text("lower(name)"), unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    disabled: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    password_changed_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    last_login_at: Mapped[datetime | None] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


class AdminSessionRow(Row):
    """Where an operator is signed in. The refresh token lies here as SHA-256 only, and the one before it, so that a
    stolen token that is used again is noticed."""

    __tablename__ = "admin_session"
    __table_args__ = (Index("ix_admin_session_user_id", "user_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("admin_user.id", ondelete="CASCADE"))
    refresh_hash: Mapped[bytes] = mapped_column(BYTEA, unique=True)
    used_refresh_hash: Mapped[bytes | None] = mapped_column(BYTEA)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    used_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str] = mapped_column(Text, server_default=text("''"))


class ServiceTokenRow(Row):
    """A script's credential: shown once, kept as SHA-256. ``networks`` empty: from anywhere."""

    __tablename__ = "service_token"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    token_hash: Mapped[bytes] = mapped_column(BYTEA, unique=True)
    hint: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    networks: Mapped[list[str]] = mapped_column(ARRAY(CIDR), server_default=text("'{}'"))
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    used_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)


class AdminAuditRow(Row):
    """One operation of an operator, a script, a job (``system``) or the local command (``local``)."""

    __tablename__ = "admin_audit"
    __table_args__ = (
        CheckConstraint("actor_kind IN ('user', 'token', 'system', 'local')", name="actor_kind_known"),
        Index("ix_admin_audit_subject", "subject_kind", "subject_id", "id"),
        Index("ix_admin_audit_actor", "actor", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    actor_kind: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(INET)
    action: Mapped[str] = mapped_column(Text)
    """``binding:unban``, ``settings:change``, ``session:login`` …"""
    subject_kind: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[str] = mapped_column(Text)
    subject_name: Mapped[str] = mapped_column(Text, server_default=text("''"))
    reason: Mapped[str] = mapped_column(Text, server_default=text("''"))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    request_id: Mapped[str] = mapped_column(Text, server_default=text("''"))


class HourlyMetricRow(Row):
    """What all gateways counted in one hour (UTC), as the roll-up last saw it; no figure in it is ever lowered.

    An hour has one row for each life of its counters in Redis (``part``), whose sum it is: more than one say that Redis
    lost its data meanwhile.
    """

    __tablename__ = "hourly_metric"

    at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    part: Mapped[str] = mapped_column(Text, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    allowed: Mapped[int] = mapped_column(BigInteger)
    intercepted: Mapped[int] = mapped_column(BigInteger)
    observed: Mapped[int] = mapped_column(BigInteger)
    claims: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[dict[str, int]] = mapped_column(JSONB)
    """By the code that the client got."""
    bytes_in: Mapped[int] = mapped_column(BigInteger)
    bytes_out: Mapped[int] = mapped_column(BigInteger)
    added_time: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    """The buckets of `proxy_core.histogram`."""
    partial: Mapped[bool]
    """A gateway worker has not said that it delivered all of this hour, or Redis lost some of it."""


class DistinctMetricRow(Row):
    """How many different keys and addresses an hour or a day (UTC) saw, within about a percent."""

    __tablename__ = "distinct_metric"
    __table_args__ = (CheckConstraint("step IN ('hour', 'day')", name="step_known"),)

    step: Mapped[str] = mapped_column(Text, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    keys: Mapped[int] = mapped_column(BigInteger)
    addresses: Mapped[int] = mapped_column(BigInteger)


class AlertTargetRow(Row):
    """Where alerts go: a webhook, or a service that apprise knows. ``url`` and ``secrets`` are secrets, kept as they
    are since they have to be used; nothing outside `admin_api.alerts` shows them."""

    __tablename__ = "alert_target"
    __table_args__ = (
        CheckConstraint("kind IN ('webhook', 'apprise')", name="kind_known"),
        CheckConstraint("language IN ('en', 'zh-CN')", name="language_known"),
        CheckConstraint("disabled_because IN ('operator', 'gone', 'setting')", name="disabled_because_known"),
        CheckConstraint("jsonb_typeof(secrets) = 'array'", name="secrets_is_list"),
        Index("uq_alert_target_from_setting", "from_setting", unique=True, postgresql_where=text("from_setting")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    language: Mapped[str] = mapped_column(Text)
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_because: Mapped[str | None] = mapped_column(Text)
    from_setting: Mapped[bool] = mapped_column(server_default=text("false"))
    """The one whose URL is the live setting ``alert_webhook_url``."""
    secrets: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """``[{"secret", "created_at", "expires_at"}]``, the newest first; times as ISO 8601, ``expires_at`` may be null."""
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    changed_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


class AlertRow(Row):
    """Something that operators want to be told. What a message says lies in ``facts`` and is not changed, so that each
    attempt says the same; the counts of a key's alert grow until ``quiet_until``."""

    __tablename__ = "alert"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('key_intercepted', 'binding_created', 'binding_banned', 'archive_run', 'store_outage', "
            "'store_recovered')",
            name="kind_known",
        ),
        CheckConstraint("jsonb_typeof(facts) = 'object'", name="facts_is_object"),
        Index("ix_alert_raised_at", "raised_at", "id"),
        Index("ix_alert_kind", "kind", "raised_at", "id"),
        Index("ix_alert_key_hash", "key_hash", "quiet_until"),
        Index("ix_alert_binding_id", "binding_id", "raised_at", "id"),
        Index(
            "ix_alert_key_hint",
            func.lower(text("key_hint")).label("hint"),
            "raised_at",
            postgresql_ops={"hint": "text_pattern_ops"},
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    message_id: Mapped[UUID] = mapped_column(unique=True, server_default=text("gen_random_uuid()"))
    raised_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    kind: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes | None] = mapped_column(BYTEA)
    key_hint: Mapped[str] = mapped_column(Text, server_default=text("''"))
    binding_id: Mapped[int | None] = mapped_column(BigInteger)
    enforced_count: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    observed_count: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    since: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    last_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    quiet_until: Mapped[datetime | None] = mapped_column(Moment)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class AlertDeliveryRow(Row):
    """One alert on its way to one target. While ``pending`` it is due at ``next_at``, which whoever sends it moves
    ahead first: so a worker that dies with it loses nothing, and no two send it at once."""

    __tablename__ = "alert_delivery"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state_known"),
        CheckConstraint("jsonb_typeof(attempts) = 'array'", name="attempts_is_list"),
        Index("uq_alert_delivery_alert_id", "alert_id", "target_id", unique=True),
        Index("ix_alert_delivery_target_id", "target_id"),
        Index("ix_alert_delivery_due", "next_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    alert_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("alert.id", ondelete="CASCADE"))
    target_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("alert_target.id", ondelete="SET NULL"))
    target_name: Mapped[str] = mapped_column(Text)
    target_kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default=text("'pending'"))
    tries: Mapped[int] = mapped_column(Integer, server_default=ZERO)
    """Since it was raised or sent anew; ``attempts`` has all of them, the last 50."""
    next_at: Mapped[datetime | None] = mapped_column(Moment, server_default=NOW)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=NOW)
    delivered_at: Mapped[datetime | None] = mapped_column(Moment)
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    """``[{"at", "took_ms", "outcome", "status"}]``, the oldest first."""
