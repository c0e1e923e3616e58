"""What operators want to be told, where to, and how far it got on its way.

Where it stands in the walk: jobs raise alerts and send them (`admin_api.alerts`); operators choose the targets.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from admin_api.models.ground import NOW, ZERO, Moment, Row


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
        Index("ix_alert_delivery_dead", "alert_id", postgresql_where=text("state = 'dead'")),
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
