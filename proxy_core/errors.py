"""The data plane's exceptions: each says when it is raised. Foreign ones are translated where a library is owned."""

from proxy_core.contracts import Reason


class ProxyError(Exception):
    """Root of the family."""


class RequestRefused(ProxyError):
    """The request cannot be judged or forwarded as it stands; ``status`` and ``reason`` make the reply."""

    def __init__(self, status: int, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class StoreUnavailable(ProxyError):
    """Redis or PostgreSQL did not answer, or not in time. The message names which and why, never a value."""


class UpstreamError(ProxyError):
    """The upstream could not be asked or did not answer properly; raised before its response head was passed on."""

    status = 502
    reason = Reason.UPSTREAM_UNAVAILABLE


class UpstreamBusy(UpstreamError):
    """Every connection to the upstream was taken for as long as a request may wait for one."""

    status = 503


class UpstreamTimeout(UpstreamError):
    """A time limit of the exchange with the upstream ran out before the response head."""

    status = 504
    reason = Reason.UPSTREAM_TIMEOUT


class UploadTimeout(ProxyError):
    """The client stopped sending its request body for longer than the limit, or sent it too slowly."""

    status = 408
    reason = Reason.REQUEST_TIMEOUT


class BodyTooLarge(ProxyError):
    """A body that did not announce its length turned out to be longer than a request's may be."""

    status = 413
    reason = Reason.BODY_TOO_LARGE


class UpstreamCut(ProxyError):
    """The upstream broke off in the middle of its response body: the client's response is to be broken off too."""

    status = 502
    reason = Reason.UPSTREAM_UNAVAILABLE


class KeyRevoked(ProxyError):
    """The key may not be used from there any more; raised to whoever is still using it."""


class ClientGone(ProxyError):
    """The client left before its answer was complete."""


class ClientStalled(ProxyError):
    """The client took nothing of its answer for longer than the limit."""


class ResponseBroken(ProxyError):
    """A response that has begun must not end cleanly; raised to the server, which closes the client's connection."""
