"""What would change: ``GET settings/impact``, before enforcement is switched on. And ``POST address``: whose it is."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct


class AffectedKey(Struct, frozen=True):
    """A key whose requests would be refused. ``requests`` of ``addresses`` different ones."""

    binding_id: int
    fingerprint: str
    hint: str
    note: str
    requests: int
    addresses: int
    last_at: datetime


class Impact(Struct, frozen=True):
    """Requests since ``since`` that passed in observe mode, and would be refused if they came now in enforce mode.

    Left out: keys whose own mode is observe, since they go on passing; addresses that have become one of their key's;
    keys that nobody owns now. ``estimated``: only the newest ones were looked at, there are more.
    ``most``: the keys with the most such requests.
    """

    since: datetime
    estimated: bool
    requests: int
    keys: int
    addresses: int
    most: list[AffectedKey]


class AddressSeen(Struct, frozen=True, forbid_unknown_fields=True):
    """``peer``: who connected, ``real_ip``: each ``X-Real-IP`` that it sent."""

    peer: Annotated[str, Meta(max_length=64)]
    real_ip: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=16)] = []


class AddressDerived(Struct, frozen=True):
    """``trusted``: the peer is one of ``trusted_proxies``, so that its ``X-Real-IP`` is the client.

    ``address`` null: a gateway would refuse with ``code``, and ``detail`` says why.
    """

    address: str | None
    trusted: bool
    trusted_proxies: list[str]
    code: str | None = None
    detail: str = ""
