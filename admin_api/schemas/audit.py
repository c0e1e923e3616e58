"""The audit on the wire: what operators, scripts and jobs did."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class AuditEntry(Struct, frozen=True):
    """One operation. ``actor_kind``: ``user``, ``token``, ``system`` (a job) or ``local`` (the command on the machine).

    ``before`` and ``after`` are the subject's state, null where there is none; they hold no secrets.
    """

    id: int
    at: datetime
    actor_kind: str
    actor: str
    address: str | None
    action: str
    subject_kind: str
    subject_id: str
    subject_name: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str


class AuditPage(Struct, frozen=True):
    """Newest first. ``next`` is the cursor of the next page, null on the last one."""

    items: list[AuditEntry]
    next: str | None
