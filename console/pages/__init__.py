"""The pages, in the order of the navigation. One function a page; each file says what operators do there."""

from typing import Final

from console.pages.binding import binding
from console.pages.bindings import bindings
from console.pages.dashboard import dashboard
from console.view import Page

PAGES: Final = (
    Page("/", "nav.dashboard", dashboard, icon="space_dashboard", scope="logs:read"),
    Page("/bindings", "nav.bindings", bindings, icon="link", scope="bindings:read"),
    Page("/bindings/{id}", "binding.title", binding, scope="bindings:read"),
)
