"""The pages, in the order of the navigation. One function a page; each file says what operators do there."""

from typing import Final

from console.pages.bindings import bindings
from console.view import Page

PAGES: Final = (Page("/bindings", "nav.bindings", bindings, icon="link", scope="bindings:read"),)
