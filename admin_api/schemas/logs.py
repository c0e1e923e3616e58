"""Intercepts on the wire: which requests were refused, or would have been, and how they are exported.

Where they stand in the walk: rows of `repositories.logs` become these; `controllers.logs` answers with them.
"""

import enum
from datetime import datetime

from msgspec import Struct


class ExportFormat(enum.StrEnum):
    """``csv``: every cell quoted, formulas neutralised. ``jsonl``: one JSON object a line."""

    CSV = "csv"
    JSONL = "jsonl"


class InterceptView(Struct, frozen=True):
    """One refused or observed request, or ``repeat_count`` identical ones within a short while.

    ``reason`` is a `Reason`, or one of another version. ``enforced`` False: observed, the request passed.
    ``bound_networks``: what the key was bound to at that moment. ``binding_id`` null: nobody owns the key now.
    ``peer``: from whom the connection came, a trusted proxy if it is not the client; null: not recorded.
    """

    event_id: str
    at: datetime
    client: str | None
    hint: str
    fingerprint: str
    binding_id: int | None
    bound_networks: list[str]
    reason: str
    enforced: bool
    repeat_count: int
    method: str
    path: str
    user_agent: str
    gateway: str
    peer: str | None


class InterceptPage(Struct, frozen=True):
    """Newest first. ``next`` is the cursor of the next page, null on the last one."""

    items: list[InterceptView]
    next: str | None
