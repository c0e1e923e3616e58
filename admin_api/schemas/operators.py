"""Operators: `GET operators`, `POST operators`, `PATCH operators/{id}`, `POST operators/{id}/password`."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from admin_api.schemas.auth import NewPassword

RoleName = Literal["admin", "operator", "viewer"]
OperatorName = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^\w[\w.@+-]*$(?!\n)", description="letters, digits and . @ + - _")
]


class Operator(msgspec.Struct, frozen=True):
    """``version`` rises with each change of role, state or password."""

    id: int
    name: str
    role: RoleName
    disabled: bool
    created_at: datetime
    password_changed_at: datetime
    last_login_at: datetime | None
    version: int


class Operators(msgspec.Struct, frozen=True):
    items: list[Operator]
    next: str | None


class OperatorNew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: OperatorName
    role: RoleName
    password: NewPassword


class OperatorEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``version`` as it was read: if somebody changed the operator since, the answer is 409 `stale_version`."""

    version: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    role: RoleName | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class PasswordReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signs the operator out everywhere."""

    password: NewPassword
