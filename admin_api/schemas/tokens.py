"""Service tokens, for scripts: `GET tokens`, `POST tokens`, `DELETE tokens/{id}`."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from admin_api.schemas.common import NO_NUL, Moment


class ServiceToken(msgspec.Struct, frozen=True):
    """``hint`` is how the token begins. ``networks`` empty: good from anywhere. ``expires_at`` null: for good."""

    id: int
    name: str
    hint: str
    scopes: list[str]
    networks: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class ServiceTokens(msgspec.Struct, frozen=True):
    items: list[ServiceToken]
    next: str | None


class ServiceTokenNew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``scopes`` such as ``bindings:read``, none beyond those of whoever asks."""

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=NO_NUL)]
    scopes: Annotated[list[str], Meta(min_length=1, max_length=50)]
    networks: Annotated[list[str], Meta(max_length=1000, description="such as 203.0.113.0/24")] = []
    expires_at: Moment | None = None


class ServiceTokenMade(msgspec.Struct, frozen=True):
    """``token`` is shown here and never again."""

    token: str
    description: ServiceToken
