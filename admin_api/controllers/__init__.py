"""One file a resource. A controller reads the request, asks `operations` or `repositories`, and shapes the answer."""

from litestar.types import ControllerRouterHandler

CONTROLLERS: list[ControllerRouterHandler] = []

OPEN_PATHS = ("/login", "/refresh", "/openapi.*")
"""Below the prefix; everything else needs a token."""
