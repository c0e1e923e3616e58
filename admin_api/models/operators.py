"""Who operates: people, their sessions, scripts; what they did, and the live settings that they made.

Where it stands in the walk: written through `admin_api.operations` only, each with its line of `AdminAuditRow`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, CIDR, INET, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from admin_api.models.ground import NOW, Moment, Row


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
    """Where an operator is signed in. Of the refresh token only the SHA-256 lies here: the signed token of a session
    that has another was used before, and ends it."""

    __tablename__ = "admin_session"
    __table_args__ = (Index("ix_admin_session_user_id", "user_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("admin_user.id", ondelete="CASCADE"))
    refresh_hash: Mapped[bytes] = mapped_column(BYTEA, unique=True)
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
        Index("ix_admin_audit_action", "action", "id", postgresql_ops={"action": "text_pattern_ops"}),
        Index("ix_admin_audit_at", "at", "id"),
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
