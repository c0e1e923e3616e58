"""Who asks the control plane for something, and what they may do.

Where it stands in the walk: `authentication` makes an `Actor` of a token, `guards` look at its scopes, `operations`
write its name into the audit.
"""

import enum
from typing import Final

import msgspec


class Role(enum.StrEnum):
    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Scope(enum.StrEnum):
    """One right. ``…:read`` never changes anything but what was last seen."""

    BINDINGS_READ = "bindings:read"
    BINDINGS_WRITE = "bindings:write"
    LOGS_READ = "logs:read"
    SETTINGS_READ = "settings:read"
    SETTINGS_WRITE = "settings:write"
    OPERATORS_READ = "operators:read"
    OPERATORS_WRITE = "operators:write"
    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"
    AUDIT_READ = "audit:read"
    METRICS_READ = "metrics:read"
    ALERTS_READ = "alerts:read"
    ALERTS_WRITE = "alerts:write"
    """Send alerts anew, and tests to targets."""
    ALERT_TARGETS_WRITE = "alert_targets:write"
    """Say where alerts go: whoever may can make the server send to an address of their choice."""


_LOOK = frozenset(
    (
        Scope.BINDINGS_READ,
        Scope.LOGS_READ,
        Scope.SETTINGS_READ,
        Scope.AUDIT_READ,
        Scope.METRICS_READ,
        Scope.ALERTS_READ,
    )
)

SCOPES: Final[dict[Role, frozenset[Scope]]] = {
    Role.VIEWER: _LOOK,
    Role.OPERATOR: _LOOK | {Scope.BINDINGS_WRITE, Scope.ALERTS_WRITE},
    Role.ADMIN: frozenset(Scope),
}


class ActorKind(enum.StrEnum):
    """As the audit has it. ``system``: a job. ``local``: the `sentinel` command on the machine itself."""

    USER = "user"
    TOKEN = "token"  # noqa: S105 - a kind, no secret
    SYSTEM = "system"
    LOCAL = "local"


class Actor(msgspec.Struct, frozen=True):
    """``id`` is the operator's or the token's, ``session_id`` an operator's session; ``address`` as it was seen."""

    kind: ActorKind
    name: str
    scopes: frozenset[Scope]
    id: int = 0
    session_id: str = ""
    address: str | None = None
    request_id: str = ""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes
