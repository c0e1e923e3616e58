"""The pages, in the order of the navigation. One function a page; each file says what operators do there."""

from typing import Final

from console.pages.about import about
from console.pages.archive import archive
from console.pages.binding import binding
from console.pages.bindings import bindings
from console.pages.dashboard import dashboard
from console.pages.settings import settings
from console.view import Page

PAGES: Final = (
    Page("/", "nav.dashboard", dashboard, icon="space_dashboard", scope="logs:read"),
    Page("/bindings", "nav.bindings", bindings, icon="link", scope="bindings:read"),
    Page("/bindings/{id}", "binding.title", binding, scope="bindings:read"),
    Page("/archive", "nav.archive", archive, icon="inventory_2", scope="bindings:read"),
    Page("/settings", "nav.settings", settings, icon="tune", scope="settings:read"),
    Page("/about", "nav.about", about, icon="fact_check", scope="settings:read"),
)
