"""One file a resource. A controller reads the request, asks `operations` or `repositories`, and shapes the answer."""

from litestar.types import ControllerRouterHandler

from admin_api.controllers.addresses import AddressesController
from admin_api.controllers.alert_targets import AlertTargetsController
from admin_api.controllers.alerts import AlertsController
from admin_api.controllers.archive import ArchiveController
from admin_api.controllers.audit import AuditController
from admin_api.controllers.auth import MeController, SignInController
from admin_api.controllers.bindings import BindingReads, BindingWrites, Decisions
from admin_api.controllers.dashboard import DashboardController
from admin_api.controllers.gateways import GatewaysController
from admin_api.controllers.logs import LogsController
from admin_api.controllers.metrics import MetricsController
from admin_api.controllers.operators import OperatorsController
from admin_api.controllers.settings import SettingsController
from admin_api.controllers.tokens import TokensController

CONTROLLERS: list[ControllerRouterHandler] = [
    SignInController,
    MeController,
    OperatorsController,
    TokensController,
    AuditController,
    DashboardController,
    GatewaysController,
    MetricsController,
    LogsController,
    SettingsController,
    AddressesController,
    BindingReads,
    BindingWrites,
    Decisions,
    ArchiveController,
    AlertsController,
    AlertTargetsController,
]

OPEN_PATHS = ("/login", "/refresh", "/openapi.*")
"""Below the prefix; everything else needs a token."""
