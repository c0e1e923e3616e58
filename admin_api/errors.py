"""The control plane's exceptions: each is one problem document (RFC 9457) with a stable code.

Where they stand in the walk: guards, controllers, operations and repositories raise them; `problems` writes them.
``code`` is what a console translates and a script compares: never change one, only add.
"""

from typing import ClassVar


class AdminError(Exception):
    """Root of the family. ``detail`` is for people; ``extra`` adds members to the document."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The server failed"

    def __init__(self, detail: str = "", **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InvalidInput(AdminError):
    """The request's content cannot be used; ``faults`` (in ``extra``) names each field and what is wrong with it."""

    status = 400
    code = "invalid_input"
    title = "The input is not valid"


class NotAuthenticated(AdminError):
    """No token, or one that is not valid (any more)."""

    status = 401
    code = "not_authenticated"
    title = "Sign in first"


class WrongCredentials(AdminError):
    """Name or password is wrong; nobody is told which."""

    status = 401
    code = "wrong_credentials"
    title = "Name or password is wrong"


class NotAllowed(AdminError):
    """Signed in, but without the scope that this needs (``extra``: ``scope``)."""

    status = 403
    code = "not_allowed"
    title = "Not allowed"


class NotFound(AdminError):
    """There is no such thing (any more)."""

    status = 404
    code = "not_found"
    title = "Not found"


class Stale(AdminError):
    """Somebody changed it since it was read: read again, then decide (``extra``: ``version``, what is there now)."""

    status = 409
    code = "stale_version"
    title = "It was changed meanwhile"


class Conflict(AdminError):
    """It cannot be done in the state in which things are, such as removing the last administrator."""

    status = 409
    code = "conflict"
    title = "Not possible as things are"


class TooManyAttempts(AdminError):
    """Locked out for a while (``extra``: ``retry_after_s``)."""

    status = 429
    code = "too_many_attempts"
    title = "Too many attempts"


class Unavailable(AdminError):
    """A store that this needs does not answer (``extra``: ``store``). Nothing was changed, unless the text says so."""

    status = 503
    code = "store_unavailable"
    title = "A store does not answer"
