"""Keys, their owners, and what was removed of them.

Where it stands in the walk: the data plane reads and claims with its own SQL text (`proxy_core.store`); jobs count the
uses; operators write through `admin_api.operations`.

Rules for whoever edits this file:

- Whoever changes what the data plane shows of a binding (status, ban expiry, mode, networks) sets ``version`` to
  ``nextval('binding_version_seq')`` in the statement that locks the row, and publishes after the commit. Touches
  (counts, last use) do not: no gateway looks at them.
- Deleting a binding draws the tombstone's version in the same way: ``DELETE … RETURNING nextval(…)``.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Sequence, Text, func, text
from sqlalchemy.dialects.postgresql import BYTEA, CIDR, INET, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from admin_api.models.ground import NOW, ZERO, Moment, Row, metadata

BINDING_VERSION_SEQ = Sequence("binding_version_seq", metadata=metadata)


class BindingRow(Row):
    """A key and its owner. No row: nobody owns the key."""

    __tablename__ = "binding"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash_is_sha256"),
        CheckConstraint("status IN ('active', 'banned')", name="status_known"),
        CheckConstraint("mode IN ('enforce', 'observe')", name="mode_known"),
        Index("ix_binding_last_used_at", "last_used_at", "id"),
        Index("ix_binding_banned", "id", postgresql_where=text("status = 'banned'")),
        Index("ix_binding_mode", "mode", "id", postgresql_where=text("mode IS NOT NULL")),
        Index("ix_binding_noted", "id", postgresql_where=text("note <> ''")),
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


class BindingArchiveRow(Row):
    """A binding that was removed, by an operator (``unbound``) or for want of use; its networks as a JSON list."""

    __tablename__ = "binding_archive"
    __table_args__ = (
        CheckConstraint("cause IN ('unbound', 'unused')", name="cause_known"),
        Index("ix_binding_archive_key_hash", "key_hash", "archived_at"),
        Index("ix_binding_archive_archived_at", "archived_at", "id"),
        Index("ix_binding_archive_binding_id", "binding_id", "id"),
        Index("ix_binding_archive_restored", "archived_at", "id", postgresql_where=text("restored_at IS NOT NULL")),
        Index(
            "ix_binding_archive_key_hint",
            func.lower(text("key_hint")).label("hint"),
            "archived_at",
            postgresql_ops={"hint": "text_pattern_ops"},
        ),
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
