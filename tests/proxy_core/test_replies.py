"""Refusals in the words of the caller's API: every reason in every dialect (``new-api-auth`` section 8.3)."""

import json

import pytest

from proxy_core.contracts import Dialect, Reason
from proxy_core.replies import Reply, refusal

STATUSES = {
    Reason.INVALID_API_KEY: 401,
    Reason.CONFLICTING_CREDENTIALS: 400,
    Reason.CLIENT_ADDRESS_UNKNOWN: 400,
    Reason.ORIGINAL_REQUEST_UNKNOWN: 400,
    Reason.PROXY_NOT_TRUSTED: 403,
    Reason.MALFORMED_REQUEST: 400,
    Reason.TARGET_TOO_LONG: 414,
    Reason.HEADERS_TOO_LARGE: 431,
    Reason.BODY_TOO_LARGE: 413,
    Reason.KEY_CONCURRENCY_EXCEEDED: 429,
    Reason.ADDRESS_CONCURRENCY_EXCEEDED: 429,
    Reason.KEY_BANNED: 403,
    Reason.KEY_BOUND_TO_OTHER_ADDRESS: 403,
    Reason.BINDING_STORE_UNAVAILABLE: 503,
    Reason.UPSTREAM_UNAVAILABLE: 502,
    Reason.UPSTREAM_TIMEOUT: 504,
    Reason.REQUEST_TIMEOUT: 408,
    Reason.INTERNAL_ERROR: 500,
}


def make(dialect: Dialect, reason: Reason, **fields) -> Reply:
    return refusal(dialect, STATUSES[reason], reason, **{"address": "203.0.113.9", "request_id": "r-1", **fields})


def test_every_reason_has_a_status_here() -> None:
    """A new reason comes with its replies."""
    assert set(STATUSES) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("dialect", Dialect)
def test_body_has_the_dialects_shape(dialect, reason) -> None:
    """Valid JSON with exactly the members that the dialect's clients read."""
    status = STATUSES[reason]
    body = json.loads(make(dialect, reason).body)
    match dialect:
        case Dialect.OPENAI:
            assert list(body) == ["error"]
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert (body["error"]["param"], body["error"]["code"]) == (None, reason.value)
            message, kind = body["error"]["message"], body["error"]["type"]
        case Dialect.ANTHROPIC:
            assert set(body) == {"type", "error", "request_id"}
            assert (body["type"], body["request_id"], set(body["error"])) == ("error", "r-1", {"type", "message"})
            message, kind = body["error"]["message"], body["error"]["type"]
        case Dialect.GEMINI:
            assert list(body) == ["error"]
            assert set(body["error"]) == {"code", "message", "status"}
            assert body["error"]["code"] == status
            message, kind = body["error"]["message"], body["error"]["status"]
        case Dialect.MIDJOURNEY:
            assert set(body) == {"code", "description", "type"}
            assert body["code"] == 4
            message, kind = body["description"], body["type"]
        case Dialect.TASK:
            assert set(body) == {"code", "message", "data"}
            assert (body["code"], body["data"]) == (reason.value, None)
            message, kind = body["message"], body["code"]
        case Dialect.READ_ONLY:
            assert set(body) == {"success", "message"}
            assert body["success"] is False
            message, kind = body["message"], "-"
    assert message
    assert kind


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [
        (Dialect.OPENAI, "permission_error"),
        (Dialect.ANTHROPIC, "permission_error"),
        (Dialect.GEMINI, "PERMISSION_DENIED"),
        (Dialect.MIDJOURNEY, "permission_error"),
    ],
)
@pytest.mark.parametrize("reason", [Reason.KEY_BANNED, Reason.KEY_BOUND_TO_OTHER_ADDRESS])
def test_a_key_bound_elsewhere_is_a_permission_error(dialect, kind, reason) -> None:
    """The SDKs raise their permission error for it."""
    body = json.loads(make(dialect, reason).body)
    error = body.get("error", body)
    assert kind in (error.get("type"), error.get("status"))


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("dialect", Dialect)
def test_headers(dialect, reason) -> None:
    """Readable by browsers, never cached, with its request id; retried by SDKs only where that helps."""
    reply = make(dialect, reason)
    headers = dict(reply.headers)
    assert len(headers) == len(reply.headers)
    assert reply.status == STATUSES[reason]
    assert headers[b"content-type"] == b"application/json; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"x-request-id"] == b"r-1"
    assert headers[b"content-length"] == str(len(reply.body)).encode()
    retry_helps = reply.status >= 500 or reply.status in (408, 429)
    assert headers.get(b"x-should-retry") == (None if retry_helps else b"false")
    assert b"retry-after" not in headers
    assert (b"www-authenticate" in headers) == (reply.status == 401)


def test_retry_after_is_said_where_given() -> None:
    """A failing store is a matter of seconds."""
    reply = make(Dialect.OPENAI, Reason.BINDING_STORE_UNAVAILABLE, retry_after_s=5)
    assert (b"retry-after", b"5") in reply.headers


@pytest.mark.parametrize("dialect", Dialect)
def test_callers_learn_their_own_address_where_it_matters(dialect) -> None:
    """The address that was seen helps an operator to release the key; other refusals do not speak of it."""
    assert b"203.0.113.9" in make(dialect, Reason.KEY_BOUND_TO_OTHER_ADDRESS).body
    for reason in set(Reason) - {Reason.KEY_BOUND_TO_OTHER_ADDRESS}:
        assert b"203.0.113.9" not in make(dialect, reason).body
    assert b"None" not in make(dialect, Reason.KEY_BOUND_TO_OTHER_ADDRESS, address=None).body


@pytest.mark.parametrize("dialect", Dialect)
def test_detail_takes_the_messages_place(dialect) -> None:
    """What is said more exactly is said instead, whatever characters are in it."""
    detail = 'a "quoted"\nline \u2028 ü'
    body = make(dialect, Reason.MALFORMED_REQUEST, detail=detail).body
    assert detail in _texts(json.loads(body))


def _texts(value: object) -> list[object]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    return [value]
