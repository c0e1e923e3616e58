"""Signing webhooks as Standard Webhooks wants it, with every live secret of the target.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Where it stands in the walk: `operations.alert_targets` makes and rotates secrets, `webhook` signs with them.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

PREFIX = "whsec_"
SECRET_BYTES = 32
SECRETS_MAX = 2
"""More live secrets than these would be a rotation that never ends."""


class Secret(msgspec.Struct, frozen=True):
    """As it lies in ``alert_target.secrets``; ``expires_at`` None: until the next rotation."""

    secret: str
    created_at: datetime
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Secret(created_at={self.created_at})"


def new_secret(now: datetime) -> Secret:
    return Secret(PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode(), now)


def stored(kept: Sequence[Secret]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = msgspec.to_builtins(list(kept))
    return listed


def live(rows: object, now: datetime) -> list[Secret]:
    """Of what lies in the column, the newest first."""
    kept = msgspec.convert(rows, list[Secret])
    return [each for each in kept if each.expires_at is None or each.expires_at > now]


def rotated(kept: Sequence[Secret], now: datetime, keep: timedelta) -> list[Secret]:
    """A new one first, the present one until ``keep`` is over; an older one ends now."""
    present = [msgspec.structs.replace(each, expires_at=now + keep) for each in kept[: SECRETS_MAX - 1] if keep]
    return [new_secret(now), *present]


def headers(message_id: str, at: int, body: bytes, secrets_: Sequence[Secret]) -> dict[str, str]:
    """``at`` in Unix seconds: of the attempt, not of the alert, since receivers refuse what is old."""
    signed = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    if secrets_:
        content = f"{message_id}.{at}.".encode() + body
        signed["webhook-signature"] = " ".join(_signature(each.secret, content) for each in secrets_)
    return signed


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
