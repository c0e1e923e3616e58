"""Refusals and failures in the words of the caller's API: an error body that its SDK understands, and no secret in it.

Where it stands in the walk: `handler` sends what is made here instead of the upstream's answer. The shapes are those of
``new-api-auth`` section 8.3.

Rules for whoever edits this file:

- The caller learns its own address (so that it can tell its operator), never the bound ones.
- 403 tells SDKs not to retry (``x-should-retry``); 401 would make people rotate a good key, 429 would bring a storm:
  that is for what passes by waiting, and says for how long.
- Browsers can only read an error with CORS headers on it.
"""

from typing import Any

import msgspec

from proxy_core.contracts import Dialect, Reason


class Reply(msgspec.Struct, frozen=True):
    """A whole response; the headers are ready for ASGI."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


_MESSAGES = {
    Reason.INVALID_API_KEY: "the API key is malformed",
    Reason.CONFLICTING_CREDENTIALS: "the request carries two different API keys",
    Reason.CLIENT_ADDRESS_UNKNOWN: "the gateway cannot tell your network address; its operator has to mend that",
    Reason.ORIGINAL_REQUEST_UNKNOWN: "the gateway cannot tell your request; its operator has to mend that",
    Reason.PROXY_NOT_TRUSTED: "verdicts are for the proxies in SENTINEL_TRUSTED_PROXIES only",
    Reason.MALFORMED_REQUEST: "the request is malformed",
    Reason.TARGET_TOO_LONG: "the request's target is longer than this gateway accepts",
    Reason.HEADERS_TOO_LARGE: "the request's headers are larger than this gateway accepts",
    Reason.BODY_TOO_LARGE: "the request's body is larger than this gateway accepts",
    Reason.KEY_CONCURRENCY_EXCEEDED: "this API key has as many requests open as it may; wait for one of them to end",
    Reason.ADDRESS_CONCURRENCY_EXCEEDED: "your network address has as many requests open as it may; "
    "wait for one of them to end",
    Reason.KEY_BANNED: "this API key is banned; ask whoever gave it to you",
    Reason.KEY_BOUND_TO_OTHER_ADDRESS: "this API key is bound to another network address",
    Reason.BINDING_STORE_UNAVAILABLE: "the gateway cannot check API keys at the moment; try again in a few seconds",
    Reason.UPSTREAM_UNAVAILABLE: "the model API behind this gateway cannot be reached",
    Reason.UPSTREAM_TIMEOUT: "the model API behind this gateway did not answer in time",
    Reason.REQUEST_TIMEOUT: "the request body did not arrive in time",
    Reason.INTERNAL_ERROR: "the gateway failed; its log tells more under the request id",
}

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    408: "timeout_error",
    413: "invalid_request_error",
    414: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    504: "timeout_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    413: "request_too_large",
    414: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    504: "timeout_error",
}
_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    414: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}
_MIDJOURNEY_CODE = 4
_WORTH_A_RETRY = (408, 429)

_COMMON_HEADERS = [
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"x-request-id"),
]


def refusal(
    dialect: Dialect,
    status: int,
    reason: Reason,
    *,
    address: str | None,
    request_id: str,
    detail: str = "",
    retry_after_s: int | None = None,
) -> Reply:
    """``address`` is the caller's as it was seen, ``detail`` says more than the reason and may go to the caller."""
    message = _message(reason, detail, address)
    body = msgspec.json.encode(_body(dialect, status, reason, message, request_id))
    headers = [*_COMMON_HEADERS, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id.encode())]
    if status < 500 and status not in _WORTH_A_RETRY:
        headers.append((b"x-should-retry", b"false"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    return Reply(status, headers, body)


def _message(reason: Reason, detail: str, address: str | None) -> str:
    message = detail or _MESSAGES[reason]
    if reason is Reason.KEY_BOUND_TO_OTHER_ADDRESS and address is not None:
        return f"{message}; this request came from {address}. Ask whoever gave you the key to release it"
    return message


def _body(dialect: Dialect, status: int, reason: Reason, message: str, request_id: str) -> dict[str, Any]:
    code = reason.value
    match dialect:
        case Dialect.ANTHROPIC:
            error = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": message}
            return {"type": "error", "error": error, "request_id": request_id}
        case Dialect.GEMINI:
            kind = _GEMINI_STATUSES.get(status, "UNAVAILABLE")
            return {"error": {"code": status, "message": message, "status": kind}}
        case Dialect.MIDJOURNEY:
            kind = _OPENAI_TYPES.get(status, "api_error")
            return {"code": _MIDJOURNEY_CODE, "description": message, "type": kind}
        case Dialect.TASK:
            return {"code": code, "message": message, "data": None}
        case Dialect.READ_ONLY:
            return {"success": False, "message": message}
        case Dialect.OPENAI:
            kind = _OPENAI_TYPES.get(status, "api_error")
            return {"error": {"message": message, "type": kind, "param": None, "code": code}}
