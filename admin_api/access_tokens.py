"""Access tokens: JWTs of a few minutes that say which session asks. Pure: no clock, no store.

Where it stands in the walk: `authentication` reads them on every request, the login controller issues them. What a
token says is never enough: the session and the operator behind it are looked up each time, so that revoking works now.
"""

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
