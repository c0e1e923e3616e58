"""A list of what one path of the admin API answers, page by page, with every state that it can be in.

Where it stands in the walk: pages give it a table, how a row is made, and what to say where there is none.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from console.client import Problem, SignedOut
from console.filter_bar import FilterBar
from console.lists import NO_PAGING, Pager
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.table import DataTable, Row

I = TypeVar("I")  # noqa: E741 - an item
PAGE_ROWS = 50


class PageOf(Protocol[I]):
    """What every list of the admin API answers."""

    items: list[I]
    next: str | None


class Listing(Generic[I]):
    """``none`` draws what an empty list without filters says; ``filters`` None: the list has none."""

    def __init__(
        self,
        view: View,
        path: str,
        kind: type[Any],
        table: Callable[[], DataTable],
        row: Callable[[I], Row],
        none: Callable[[], object],
        *,
        filters: FilterBar | None = None,
    ) -> None:
        self._view = view
        self._path = path
        self._kind = kind
        self._row = row
        self._draw_none = none
        self.filters = filters
        self.items: list[I] = []
        with tag("section", "card flush"):
            self._body = tag("div")
            with self._body:
                self.table = table()
            self._none = tag("div")
            self._foot = tag("div")
            with self._foot:
                self.pager = Pager(view)
        self.table.on_filter(lambda wanted: view.change(**(wanted | NO_PAGING)))
        view.on_change(self.load)

    def query(self) -> dict[str, str]:
        return {} if self.filters is None else self.filters.query()

    async def fetch(self, limit: int, cursor: str) -> PageOf[I]:
        asked = self.query() | {"limit": str(limit), "cursor": cursor}
        page: PageOf[I] = await self._view.api.get(self._path, self._kind, asked)
        return page

    async def load(self) -> None:
        """What the URL says. The table stays as it was until the new rows are there."""
        if self.filters is not None:
            self.filters.sync()
        try:
            page = await self.fetch(PAGE_ROWS, self._view.query.get("cursor", ""))
        except SignedOut:
            raise
        except Problem as problem:
            self.show([], problem)
            return
        self.show(page.items)
        self.pager.show(len(page.items), page.next)

    def page_by_page(self, *, on: bool) -> None:
        """Off: the list follows what happens, and has no pages."""
        self._foot.set_visibility(on)

    def show(self, items: Sequence[I], problem: Problem | None = None) -> None:
        self.items = list(items)
        self.table.show([self._row(item) for item in items])
        self._body.set_visibility(bool(items))
        self._none.clear()
        self._none.set_visibility(not items)
        with self._none:
            self._say_none(problem)

    def _say_none(self, problem: Problem | None) -> None:
        view, filters = self._view, self.filters
        if problem is not None and problem.code == "invalid_input" and filters is not None:
            with states.empty(view.t("bindings.invalid"), states.explain(view.t, problem), "filter_alt_off"):
                button(view.t("bindings.none.clear"), filters.clear)
        elif problem is not None:
            states.failed(view.t, problem, partial(view.start, self.load))
        elif not self.items and filters is not None and filters.active:
            with states.empty(view.t("list.none"), view.t("list.none.why"), "filter_alt_off"):
                button(view.t("bindings.none.clear"), filters.clear)
        elif not self.items:
            self._draw_none()
