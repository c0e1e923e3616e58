"""The decision: the table of verdicts, row by row, and what an upstream's answer to a first use says of the key."""

import json

import pytest

from proxy_core.client_ip import parse_address
from proxy_core.contracts import (
    Action,
    Binding,
    BindingStatus,
    BindMethods,
    BoundNetwork,
    Failsafe,
    LiveSettings,
    Mode,
    Network,
    Reason,
    UpstreamProfile,
    Verdict,
)
from proxy_core.verdict import STATUS, Acceptance, elsewhere, failsafe, judge, may_claim, upstream_accepted

NOW = 1_000_000.0
INSIDE = parse_address(b"203.0.113.9")
OUTSIDE = parse_address(b"198.51.100.1")
ALLOW = Verdict(Action.ALLOW)
CLAIM = Verdict(Action.CLAIM)
LEARN = Verdict(Action.LEARN)
BANNED = Verdict(Action.REFUSE, Reason.KEY_BANNED)
ELSEWHERE = Verdict(Action.REFUSE, Reason.KEY_BOUND_TO_OTHER_ADDRESS)
OBSERVED = Verdict(Action.ALLOW, Reason.KEY_BOUND_TO_OTHER_ADDRESS, observed=True)


def bound(*networks: str | tuple[str, float], status=BindingStatus.ACTIVE, **fields) -> Binding:
    """A binding to networks, each with the time at which it expires or for good."""
    pairs = [(item, None) if isinstance(item, str) else item for item in networks]
    in_force = tuple(BoundNetwork(Network.parse(text), expires_at) for text, expires_at in pairs)
    return Binding(1, b"f" * 32, "abcd…wxyz", status, in_force, 7, **fields)


HOME = bound("203.0.113.9/32")
WIDE = bound("203.0.113.0/24", "2001:db8::/64")
ENFORCE = LiveSettings()
OBSERVE = LiveSettings(mode=Mode.OBSERVE)
TWO = LiveSettings(networks_per_key=2)


@pytest.mark.parametrize(
    ("binding", "address", "live", "claims", "verdict"),
    [
        # unbound: claim, or pass where this method may not claim
        (None, INSIDE, ENFORCE, True, CLAIM),
        (None, INSIDE, ENFORCE, False, ALLOW),
        (None, INSIDE, OBSERVE, True, CLAIM),
        # bound, inside one of its networks
        (HOME, INSIDE, ENFORCE, True, ALLOW),
        (HOME, INSIDE, ENFORCE, False, ALLOW),
        (WIDE, INSIDE, ENFORCE, True, ALLOW),
        (WIDE, parse_address(b"2001:db8::5"), ENFORCE, True, ALLOW),
        (WIDE, parse_address(b"2001:db8:0:1::5"), ENFORCE, True, ELSEWHERE),
        (bound("0.0.0.0/0"), parse_address(b"2001:db8::5"), ENFORCE, True, ELSEWHERE),
        (bound("::/0"), INSIDE, ENFORCE, True, ELSEWHERE),
        # bound, outside: by the mode, the binding's own first
        (HOME, OUTSIDE, ENFORCE, True, ELSEWHERE),
        (HOME, OUTSIDE, ENFORCE, False, ELSEWHERE),
        (HOME, OUTSIDE, OBSERVE, True, OBSERVED),
        (bound("203.0.113.9/32", mode=Mode.ENFORCE), OUTSIDE, OBSERVE, True, ELSEWHERE),
        (bound("203.0.113.9/32", mode=Mode.OBSERVE), OUTSIDE, ENFORCE, True, OBSERVED),
        # banned: everywhere and in every mode, until the ban expires
        (bound("203.0.113.9/32", status=BindingStatus.BANNED), INSIDE, ENFORCE, True, BANNED),
        (bound("203.0.113.9/32", status=BindingStatus.BANNED), OUTSIDE, OBSERVE, True, BANNED),
        (bound(status=BindingStatus.BANNED), INSIDE, TWO, True, BANNED),
        (bound("203.0.113.9/32", status=BindingStatus.BANNED, mode=Mode.OBSERVE), INSIDE, OBSERVE, True, BANNED),
        (bound("203.0.113.9/32", status=BindingStatus.BANNED, ban_expires_at=NOW + 1), INSIDE, ENFORCE, True, BANNED),
        (bound("203.0.113.9/32", status=BindingStatus.BANNED, ban_expires_at=NOW), INSIDE, ENFORCE, True, ALLOW),
        (bound("203.0.113.9/32", status=BindingStatus.BANNED, ban_expires_at=NOW), OUTSIDE, ENFORCE, True, ELSEWHERE),
        # room left: learn instead of refusing
        (HOME, OUTSIDE, TWO, True, LEARN),
        (HOME, OUTSIDE, TWO, False, ALLOW),
        (HOME, INSIDE, TWO, True, ALLOW),
        (WIDE, OUTSIDE, TWO, True, ELSEWHERE),
        (bound(), OUTSIDE, ENFORCE, True, LEARN),
        # a network that has expired covers nothing and takes no room
        (bound(("203.0.113.9/32", NOW)), INSIDE, ENFORCE, True, LEARN),
        (bound(("203.0.113.9/32", NOW + 1)), INSIDE, ENFORCE, True, ALLOW),
        (bound(("203.0.113.9/32", NOW + 1)), OUTSIDE, ENFORCE, True, ELSEWHERE),
        (bound("203.0.113.9/32", ("198.51.100.0/24", NOW)), OUTSIDE, ENFORCE, True, ELSEWHERE),
    ],
)
def test_the_table(binding, address, live, claims, verdict) -> None:
    """Facts in, verdict out (the table of the decision)."""
    assert judge(binding, address, live, NOW, may_claim=claims) == verdict


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("claims", [True, False])
def test_a_foreign_key_is_never_plainly_allowed(mode, claims) -> None:
    """With no room left, an address outside is refused, or observed and said to be so."""
    verdict = judge(HOME, OUTSIDE, LiveSettings(mode=mode), NOW, may_claim=claims)
    assert verdict.action is Action.REFUSE or verdict.observed
    assert elsewhere(mode) == verdict


def test_without_stores_the_failsafe_decides() -> None:
    """Closed refuses with 503, open lets pass."""
    assert failsafe(LiveSettings(failsafe=Failsafe.OPEN)) == ALLOW
    refused = failsafe(LiveSettings(failsafe=Failsafe.CLOSED))
    assert refused == Verdict(Action.REFUSE, Reason.BINDING_STORE_UNAVAILABLE)
    assert STATUS == {
        Reason.BINDING_STORE_UNAVAILABLE: 503,
        Reason.KEY_BANNED: 403,
        Reason.KEY_BOUND_TO_OTHER_ADDRESS: 403,
    }


@pytest.mark.parametrize(
    ("method", "upgrade", "methods", "claims"),
    [
        ("GET", b"", BindMethods.ANY, True),
        ("GET", b"", BindMethods.GENERATING, False),
        ("HEAD", b"", BindMethods.GENERATING, False),
        ("DELETE", b"", BindMethods.GENERATING, False),
        ("post", b"", BindMethods.GENERATING, False),
        ("POST", b"", BindMethods.GENERATING, True),
        ("GET", b"websocket", BindMethods.GENERATING, True),
    ],
)
def test_who_may_become_an_owner(method, upgrade, methods, claims) -> None:
    """With ``generating``, only requests that can cost quota may claim."""
    assert may_claim(method, upgrade, LiveSettings(bind_methods=methods)) is claims


# -- the upstream's answer to a first use (``new-api-auth`` section 8.1)

JSON = b"application/json; charset=utf-8"


def error(**fields: object) -> bytes:
    return json.dumps({"error": fields}).encode()


OWN_401 = error(code="", message="Invalid token (request id: 1)", type="new_api_error")


@pytest.mark.parametrize(
    ("status", "content_type", "body", "accepted"),
    [
        (200, JSON, b"", Acceptance.ACCEPTED),
        (200, b"text/event-stream", b"", Acceptance.ACCEPTED),
        (101, b"", b"", Acceptance.ACCEPTED),
        (204, b"", b"", Acceptance.ACCEPTED),
        # the web UI, redirects: nobody looked at the key
        (200, b"text/html; charset=utf-8", b"", Acceptance.NOT_JUDGED),
        (200, b"TEXT/HTML", b"", Acceptance.NOT_JUDGED),
        (301, JSON, b"", Acceptance.NOT_JUDGED),
        (307, b"", b"", Acceptance.NOT_JUDGED),
        # the upstream's own refusal of the key
        (401, JSON, OWN_401, Acceptance.REFUSED_KEY),
        (401, JSON, error(code="", message="无效的令牌", type="new_api_error"), Acceptance.REFUSED_KEY),
        (401, JSON, error(message="x", type="one_api_error"), Acceptance.REFUSED_KEY),
        (401, JSON, b'{"message": "x", "success": false}', Acceptance.REFUSED_KEY),
        # a provider's 401, relayed: the key was good
        (401, JSON, error(code="invalid_api_key", message="x", type="invalid_request_error"), Acceptance.ACCEPTED),
        (401, JSON, error(message="x", type="authentication_error"), Acceptance.ACCEPTED),
        (401, JSON, error(code="other", message="x", type="new_api_error"), Acceptance.ACCEPTED),
        # a 401 of something else, or cut off
        (401, b"text/html", b"<html>", Acceptance.NOT_JUDGED),
        (401, JSON, OWN_401[:-5], Acceptance.NOT_JUDGED),
        (401, JSON, b"\xff\xfe", Acceptance.NOT_JUDGED),
        (401, JSON, b"[" * 100_000, Acceptance.NOT_JUDGED),
        (401, JSON, b"[]", Acceptance.NOT_JUDGED),
        (401, b"", b"", Acceptance.NOT_JUDGED),
        # refusals after the key was accepted
        (403, JSON, b"", Acceptance.ACCEPTED),
        (429, JSON, b"", Acceptance.ACCEPTED),
        (500, JSON, b"", Acceptance.ACCEPTED),
        (503, JSON, b"", Acceptance.ACCEPTED),
        # before any key was read
        (400, b"text/plain; charset=utf-8", b"", Acceptance.NOT_JUDGED),
        (429, b"", b"", Acceptance.NOT_JUDGED),
        (502, b"text/html", b"", Acceptance.NOT_JUDGED),
        (404, JSON, error(message="Invalid URL (GET /v1/x)", type="invalid_request_error"), Acceptance.NOT_JUDGED),
        (404, JSON, error(message="no such model", type="new_api_error"), Acceptance.ACCEPTED),
        (404, JSON, b"not json", Acceptance.NOT_JUDGED),
        (404, b"text/plain", b"", Acceptance.NOT_JUDGED),
    ],
)
def test_what_an_answer_says_of_the_key(status, content_type, body, accepted) -> None:
    """Only the upstream's own 401 refuses the key; in doubt nobody is bound."""
    assert upstream_accepted(status, content_type, body, UpstreamProfile.NEW_API) is accepted


def test_a_plain_openai_upstreams_401_is_its_own() -> None:
    """There is no relay behind it whose 401 could have been passed on."""
    body = error(code="invalid_api_key", message="x", type="invalid_request_error")
    assert upstream_accepted(401, JSON, body, UpstreamProfile.OPENAI) is Acceptance.REFUSED_KEY
