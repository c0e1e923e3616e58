"""Cursors: where a page ended, so that the next begins there whatever was inserted meanwhile (keyset pagination).

Where they stand in the walk: a repository reads ``limit + 1`` rows beyond the cursor's position and hands out the
cursor of the last row shown. Clients pass them back unread. A cursor is bound to the sort that made it; it grants
nothing, so it is checked and not signed.

    SORTS = {"last_used_at": datetime, "id": int}
    position = cursors.decode(cursor, "last_used_at:desc", (datetime, int))      # raises InvalidInput
    cursor = cursors.encode("last_used_at:desc", row.last_used_at, row.id)
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import msgspec

from admin_api.errors import InvalidInput

MAX_CHARACTERS = 1024
MAX_INTEGER = 2**63 - 1


def encode(sort: str, *position: object) -> str:
    """``position``: the sort value and what makes it unique, of the last row shown; times must be aware."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([sort, *position])).rstrip(b"=").decode()


def decode(cursor: str, sort: str, types: tuple[type, ...]) -> tuple[Any, ...]:
    """The position, of exactly these types. Raises InvalidInput for what `encode` did not make for this sort."""
    try:
        made_for, *position = _unpacked(cursor)
        if made_for == sort and len(position) == len(types):
            return tuple(_checked(value, kind) for value, kind in zip(position, types, strict=True))
    except (binascii.Error, ValueError, TypeError, OverflowError, msgspec.MsgspecError):
        pass
    fault = {"field": "cursor", "detail": "take it from the answer to the same list with the same sort"}
    raise InvalidInput("the cursor is not one of this list and sort", faults=[fault])


def _unpacked(cursor: str) -> list[Any]:
    raw = base64.b64decode(cursor[:MAX_CHARACTERS] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    return msgspec.msgpack.decode(raw, type=list[Any])


def _checked(value: object, kind: type) -> object:
    converted: Any = msgspec.convert(value, kind, strict=True)
    if isinstance(converted, int) and not -MAX_INTEGER <= converted <= MAX_INTEGER:
        raise ValueError("out of range")
    if isinstance(converted, str) and "\0" in converted:
        raise ValueError("PostgreSQL has no such text")
    return converted.astimezone(UTC) if isinstance(converted, datetime) else converted
