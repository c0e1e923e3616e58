"""Problem documents: how every error of the control plane goes over the wire (RFC 9457).

Where it stands in the walk: the application's exception handlers. Whatever is raised becomes one document with a
``code`` that a console can translate; what nobody expected is logged here and told without its text.
"""

import traceback
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.serialization import msgspec_hooks
from sqlalchemy.exc import InterfaceError, OperationalError

from admin_api.errors import AdminError, InvalidInput
from proxy_core.errors import StoreUnavailable

log = structlog.get_logger(__name__)

POSTGRESQL_FAILURES = (
    OperationalError,
    InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)
"""What an absent PostgreSQL looks like: connections are made by asyncpg itself, queries by SQLAlchemy."""

MEDIA_TYPE = "application/problem+json"
READS_BODIES = msgspec_hooks.__name__

_CODES = {
    400: "invalid_input",
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_attempts",
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """``code`` is stable; ``title`` and ``detail`` are English for people; ``faults`` names bad fields."""

    title: str
    status: int
    code: str
    detail: str = ""
    faults: list[dict[str, str]] = []
    extra: dict[str, Any] = {}


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response[Problem]:
    return Response(problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers or {})


def on_admin_error(_request: Request[Any, Any, Any], error: AdminError) -> Response[Problem]:
    extra = dict(error.extra)
    faults = extra.pop("faults", [])
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if "retry_after_s" in extra:
        headers["retry-after"] = str(extra["retry_after_s"])
    problem = Problem(error.title, error.status, error.code, error.detail, faults, extra)  # type: ignore[arg-type]
    return respond(problem, headers)


def on_http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Litestar's own: routing, and input that does not have the declared shape."""
    status = error.status_code
    faults: list[dict[str, str]] = []
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        faults = [
            {"field": str(fault.get("key", "")), "detail": str(fault.get("message", ""))}
            for fault in error.extra
            if isinstance(fault, dict)
        ]
    code = _CODES.get(status, "invalid_input" if status < 500 else "internal_error")
    title = "The input is not valid" if status == 400 else error.__class__.__doc__ or "The request failed"
    return respond(
        Problem(title.strip().partition("\n")[0], status, code, error.detail, faults), dict(error.headers or {})
    )


def on_store_error(_request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    store = "redis" if isinstance(error, StoreUnavailable) and str(error).startswith("redis") else "postgresql"
    log.warning("a store does not answer", store=store, failure=type(error).__name__)
    return respond(
        Problem("A store does not answer", 503, "store_unavailable", extra={"store": store}), {"retry-after": "5"}
    )


def on_unreadable(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """What reading a body raises beside the errors that Litestar knows; raised anywhere else it is a fault of ours."""
    frames = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or frames[-1] != READS_BODIES:
        return on_fault(request, error)
    detail = "the body is nested too deeply" if isinstance(error, RecursionError) else "the body is not UTF-8"
    return respond(Problem(InvalidInput.title, InvalidInput.status, InvalidInput.code, detail))


def on_fault(_request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    log.error("request failed unexpectedly", exc_info=error)
    return respond(Problem("The server failed", 500, "internal_error"))


HANDLERS: Any = {
    AdminError: on_admin_error,
    HTTPException: on_http_error,
    StoreUnavailable: on_store_error,
    **dict.fromkeys(POSTGRESQL_FAILURES, on_store_error),
    **dict.fromkeys((RecursionError, UnicodeDecodeError), on_unreadable),
    Exception: on_fault,
}
