"""One file a resource. A controller reads the request, asks `operations` or `repositories`, and shapes the answer."""

from litestar.types import ControllerRouterHandler

from admin_api.controllers.settings import SettingsController

CONTROLLERS: list[ControllerRouterHandler] = [
    SettingsController,
]

OPEN_PATHS = ("/login", "/refresh", "/openapi.*")
"""Below the prefix; everything else needs a token."""
