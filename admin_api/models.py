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

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, MetaData, Sequence, Text, text
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
