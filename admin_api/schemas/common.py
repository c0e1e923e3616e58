"""What several resources of the wire contract share: ids, bounded texts, answers per id."""

import enum
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

MAX_IDS = 1000
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL has no text with a NUL in it."""

Id = Annotated[int, Meta(ge=1, le=2**63 - 1, description="a binding's, an archived binding's … id")]
Ids = Annotated[list[Id], Meta(min_length=1, max_length=MAX_IDS)]
Reason = Annotated[str, Meta(max_length=500, pattern=NO_NUL, description="why; kept in the audit")]
Note = Annotated[str, Meta(max_length=2000, pattern=NO_NUL)]
Moment = Annotated[datetime, Meta(tz=True, description="ISO 8601 with an offset")]
KeyText = Annotated[
    str, Meta(min_length=1, max_length=600, description="a model key as a client sends it; hashed at once, never kept")
]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}$", description="HMAC-SHA256 of a key, in hex")]


def refuse_beyond_calendar(*moments: datetime | None) -> None:
    """Raises ValueError for a time at an end of the calendar that is none in UTC: no database can hold it."""
    for moment in moments:
        if moment is not None:
            try:
                moment.astimezone(UTC)
            except OverflowError:
                raise ValueError("a time lies beyond the calendar of UTC") from None


class Outcome(enum.StrEnum):
    """What a request came to for one id. Repeating a request that was ``done`` answers ``unchanged``."""

    DONE = "done"
    UNCHANGED = "unchanged"
    NOT_FOUND = "not_found"
    BANNED = "banned"
    """Not unbound, since anybody could then use the key again: unban it first."""
    CONFLICT = "conflict"
    """Somebody else owns the key by now."""
    NO_TARGET = "no_target"
    """No target that is enabled wants this alert."""


class Result(Struct, frozen=True):
    id: int
    outcome: Outcome


class Results(Struct, frozen=True):
    """``published`` false: committed, but Redis could not be told yet; gateways follow as soon as it can."""

    results: list[Result]
    published: bool
