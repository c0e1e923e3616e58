"""Guards: the scope that a route needs, said where the route is declared.

@get("/bindings", guards=[requires(Scope.BINDINGS_READ)])
"""

from collections.abc import Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from admin_api.actors import Actor, Scope
from admin_api.errors import NotAllowed

Guard = Callable[[ASGIConnection[Any, Actor, Any, Any], BaseRouteHandler], None]


def requires(scope: Scope) -> Guard:
    def guard(connection: ASGIConnection[Any, Actor, Any, Any], _handler: BaseRouteHandler) -> None:
        if not connection.user.may(scope):
            raise NotAllowed(f"this needs the scope {scope.value}", scope=scope.value)

    return guard
