"""Access tokens: JWTs of a few minutes that say which session asks. And refresh tokens, which renew them.

Pure: no clock, no store. Where it stands in the walk: `authentication` reads them on every request,
`operations.sessions` issues them. What a token says is never enough: the session and the operator behind it are looked
up each time, so that revoking works now.
"""

import base64
import hmac
import secrets
from typing import NamedTuple
from uuid import UUID

import jwt

from admin_api.errors import NotAuthenticated

ALGORITHM = "HS256"
ISSUER = "sentinel"
AUDIENCE = "sentinel-admin"
LEEWAY_S = 10


class Claims(NamedTuple):
    """What a valid token says: the operator and the session."""

    user_id: int
    session_id: UUID


def issue(secret: str, claims: Claims, *, now: float, life_s: int) -> str:
    issued_at = int(now)
    payload = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(claims.user_id),
        "sid": str(claims.session_id),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + life_s,
    }
    return jwt.encode(payload, secret, algorithm=ALGORITHM)


def read(secret: str, token: str) -> Claims:
    """Raises NotAuthenticated for anything but a token of ours that is valid at this moment."""
    try:
        payload = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "sid"]},
        )
        return Claims(int(payload["sub"]), UUID(payload["sid"]))
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
        raise NotAuthenticated("the access token is not valid (any more)") from None


# --- refresh tokens --------------------------------------------------------------------------------------------------
# 16 bytes of the session's id, 16 random ones, 16 of a MAC over both. The MAC tells a token that was used before, which
# ends its session, from one that somebody made up, which must not.

REFRESH_PREFIX = "srt_"
REFRESH_BYTES = 48


def issue_refresh(secret: str, session_id: UUID) -> str:
    body = session_id.bytes + secrets.token_bytes(16)
    return REFRESH_PREFIX + base64.urlsafe_b64encode(body + _mac(secret, body)).decode()


def read_refresh(secret: str, token: str) -> UUID:
    """The session that the token was made for; whether it is the newest one, only the session knows.

    Raises NotAuthenticated for what we did not make.
    """
    try:
        raw = base64.b64decode(token.removeprefix(REFRESH_PREFIX), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    body, mac = raw[:32], raw[32:]
    if len(raw) != REFRESH_BYTES or not hmac.compare_digest(mac, _mac(secret, body)):
        raise NotAuthenticated("the refresh token is not valid")
    return UUID(bytes=body[:16])


def _mac(secret: str, body: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"refresh" + body, "sha256")[:16]
