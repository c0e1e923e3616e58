"""What happened, as the jobs write it: intercepts, the ledger of their ingestion, and the figures of hours and days."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, CIDR, INET, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from admin_api.models.ground import NOW, Moment, Row


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
        Index("ix_intercept_gateway", "gateway", "at"),
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
