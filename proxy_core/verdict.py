"""The decision: facts in, verdict out. The one table of who may use a key, and nothing else.

Where it stands in the walk: `handler` brings what `bindings` knows of the key and acts on the verdict. Pure: no await,
no clock, no network. Rows that need no binding (malformed keys, unknown addresses) are refused where they are read.

Rules for whoever edits this file:

- A ban is an operator's deliberate act: it holds in observe mode too.
- `judge` never answers ALLOW for a key that somebody else owns, but in observe mode, and then it says so.
- Both answers about the upstream's acceptance are safe in doubt: NOT_JUDGED binds nobody, and the next answer may.
"""

import enum

import msgspec

from proxy_core.contracts import (
    Action,
    Binding,
    BindMethods,
    ClientAddress,
    Failsafe,
    LiveSettings,
    Mode,
    Reason,
    UpstreamProfile,
    Verdict,
)

ALLOWED = Verdict(Action.ALLOW)
"""The plain allowance; compared by identity on the hot path."""

LEARN = Verdict(Action.LEARN)
CLAIM = Verdict(Action.CLAIM)
OBSERVED_ELSEWHERE = Verdict(Action.ALLOW, Reason.KEY_BOUND_TO_OTHER_ADDRESS, observed=True)
REFUSED_ELSEWHERE = Verdict(Action.REFUSE, Reason.KEY_BOUND_TO_OTHER_ADDRESS)
REFUSED_BANNED = Verdict(Action.REFUSE, Reason.KEY_BANNED)
REFUSED_UNDECIDABLE = Verdict(Action.REFUSE, Reason.BINDING_STORE_UNAVAILABLE)

STATUS = {
    Reason.KEY_BANNED: 403,
    Reason.KEY_BOUND_TO_OTHER_ADDRESS: 403,
    Reason.BINDING_STORE_UNAVAILABLE: 503,
}
"""The HTTP status of the reasons that a REFUSE can have."""


def judge(
    binding: Binding | None, address: ClientAddress, live: LiveSettings, now: float, *, may_claim: bool
) -> Verdict:
    """``binding`` None: nobody owns the key. ``may_claim``: this request may make its address an owner."""
    if binding is None:
        return CLAIM if may_claim else ALLOWED
    if binding.is_banned(now):
        return REFUSED_BANNED
    if binding.covers(address, now):
        return ALLOWED
    if _has_room(binding, live, now):
        return LEARN if may_claim else ALLOWED
    return elsewhere(binding.mode or live.mode)


def elsewhere(mode: Mode) -> Verdict:
    """The verdict on an address that is not the owner's, also while the owner's claim is still in flight."""
    return OBSERVED_ELSEWHERE if mode is Mode.OBSERVE else REFUSED_ELSEWHERE


def failsafe(live: LiveSettings) -> Verdict:
    """No store can tell who owns the key."""
    return ALLOWED if live.failsafe is Failsafe.OPEN else REFUSED_UNDECIDABLE


def may_claim(method: str, upgrade: bytes, live: LiveSettings) -> bool:
    """Whether a request may make its address an owner: with ``generating``, only one that can cost quota."""
    return live.bind_methods is BindMethods.ANY or method == "POST" or bool(upgrade)


def _has_room(binding: Binding, live: LiveSettings, now: float) -> bool:
    in_force = sum(bound.expires_at is None or bound.expires_at > now for bound in binding.networks)
    return in_force < live.networks_per_key


# -- what the upstream's answer to a first use says about the key (``new-api-auth`` section 8.1)


class Acceptance(enum.Enum):
    """ACCEPTED: it took the key. REFUSED_KEY: its own 401. NOT_JUDGED: it answered without having looked at the key."""

    ACCEPTED = "accepted"
    REFUSED_KEY = "refused_key"
    NOT_JUDGED = "not_judged"


JUDGED_BY_BODY = frozenset((401, 404))
"""The statuses whose body tells the cases apart; `upstream_accepted` needs it whole."""

_OWN_ERROR_TYPES = frozenset(("new_api_error", "one_api_error"))
_NO_SUCH_ROUTE = "Invalid URL ("


def upstream_accepted(status: int, content_type: bytes, body: bytes, profile: UpstreamProfile) -> Acceptance:
    """``body`` is read for `JUDGED_BY_BODY` only, and may be ``b""`` for every other status."""
    media_type = content_type.partition(b";")[0].strip().lower()
    if 300 <= status < 400 or media_type == b"text/html":
        return Acceptance.NOT_JUDGED  # a redirect, the web UI, or the error page of something in between
    if status < 400:
        return Acceptance.ACCEPTED
    if not media_type.endswith(b"json"):
        return Acceptance.NOT_JUDGED  # Go's own 400, a rate limit by address: before any key was read
    if status == 401:
        return _judge_401(body, profile)
    if status == 404:
        error = _error_of(body)
        unknown_route = error is None or str(error.get("message", "")).startswith(_NO_SUCH_ROUTE)
        return Acceptance.NOT_JUDGED if unknown_route else Acceptance.ACCEPTED
    return Acceptance.ACCEPTED


def _judge_401(body: bytes, profile: UpstreamProfile) -> Acceptance:
    """A 401 relayed from a model's provider means that the key was good; the upstream's own that it was not."""
    if profile is UpstreamProfile.OPENAI:
        return Acceptance.REFUSED_KEY
    error = _error_of(body)
    if error is None:
        return Acceptance.NOT_JUDGED
    own = "type" not in error or error["type"] in _OWN_ERROR_TYPES
    return Acceptance.REFUSED_KEY if own and not error.get("code") else Acceptance.ACCEPTED


def _error_of(body: bytes) -> dict[str, object] | None:
    """The ``error`` object, the whole body if it is an object without one, or None for anything else."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(decoded, dict):
        return None
    error = decoded.get("error", decoded)
    return error if isinstance(error, dict) else {}
