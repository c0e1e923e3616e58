"""Signing in and out: `POST login`, `POST refresh`, `GET me`, `PUT me/password`, `GET sessions`."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from admin_api.schemas.common import NO_NUL

Secret = Annotated[str, Meta(min_length=1, max_length=1024)]
NewPassword = Annotated[str, Meta(min_length=12, max_length=1024, description="at least 12 characters")]


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: Secret
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL)] = "admin"


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token is good for one use: the answer holds the next one. Using one twice ends the session."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=256)]


class Me(msgspec.Struct, frozen=True):
    """``kind`` is ``user`` or ``token``; a token has no role."""

    kind: str
    id: int
    name: str
    role: str | None
    scopes: list[str]
    session_id: UUID | None = None


class SignedIn(msgspec.Struct, frozen=True):
    """``access_token`` goes into ``Authorization: Bearer …`` for ``expires_in_s`` seconds."""

    access_token: str
    expires_in_s: int
    refresh_token: str
    session_id: UUID
    operator: Me
    token_type: str = "Bearer"  # noqa: S105 - the scheme


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    old_password: Secret
    new_password: NewPassword


class Session(msgspec.Struct, frozen=True):
    """Where an operator is signed in. ``current``: the one that asks."""

    id: UUID
    operator_id: int
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str
    current: bool


class Sessions(msgspec.Struct, frozen=True):
    """All that have not ended; their number is bounded, so ``next`` is always null."""

    items: list[Session]
    next: str | None = None
