"""The tables. `migrations` makes them; a test compares the two, so neither drifts.

One file a subject, each with its rules; together they are `metadata`. What a column may hold is also said to PostgreSQL
(CHECK), except where a row must never be lost: `history.InterceptRow`.
"""

from admin_api.models import alerts, bindings, history, operators
from admin_api.models.ground import metadata

__all__ = ["alerts", "bindings", "history", "metadata", "operators"]
