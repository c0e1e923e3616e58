"""The pages, in the order of the navigation. One function a page; each file says what operators do there."""

from typing import Final

from console.pages.about import about
from console.pages.alerts import alert, alerts
from console.pages.archive import archive
from console.pages.audit import audit
from console.pages.binding import binding
from console.pages.bindings import bindings
from console.pages.dashboard import dashboard
from console.pages.intercepts import intercepts
from console.pages.operators import operators
from console.pages.sessions import sessions
from console.pages.settings import settings
from console.pages.targets import targets
from console.pages.tokens import tokens
from console.view import Page

PAGES: Final = (
    Page("/", "nav.dashboard", dashboard, icon="space_dashboard", scope="logs:read"),
    Page("/bindings", "nav.bindings", bindings, icon="link", scope="bindings:read"),
    Page("/bindings/{id}", "binding.title", binding, scope="bindings:read"),
    Page("/intercepts", "nav.intercepts", intercepts, icon="block", scope="logs:read"),
    Page("/alerts", "nav.alerts", alerts, icon="notifications", scope="alerts:read"),
    Page("/alerts/{id}", "nav.alerts", alert, scope="alerts:read"),
    Page("/targets", "nav.targets", targets, icon="send", scope="alerts:read"),
    Page("/archive", "nav.archive", archive, icon="inventory_2", scope="bindings:read"),
    Page("/settings", "nav.settings", settings, icon="tune", scope="settings:read"),
    Page("/audit", "nav.audit", audit, icon="history", scope="audit:read"),
    Page("/operators", "nav.operators", operators, icon="group", scope="operators:read"),
    Page("/tokens", "nav.tokens", tokens, icon="vpn_key", scope="tokens:read"),
    Page("/sessions", "nav.sessions", sessions, icon="devices"),
    Page("/about", "nav.about", about, icon="fact_check", scope="settings:read"),
)
