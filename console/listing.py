"""A list of what one path of the admin API answers, page by page, with every state that it can be in.

Where it stands in the walk: pages give it a table, how a row is made, what to say where there is none, and, if
something can be done to many rows at once, what the bar above them offers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from nicegui import ui

from console.client import Problem, SignedOut
from console.filter_bar import FilterBar
from console.lists import NO_PAGING, Pager
from console.view import LOOK_AGAIN_S, View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.dialogs import Call, show_call
from console.widgets.table import DataTable, Row

I = TypeVar("I")  # noqa: E741 - an item
PAGE_ROWS = 50


class PageOf(Protocol[I]):
    """What every list of the admin API answers."""

    items: list[I]
    next: str | None


class Listing(Generic[I]):
    """``none`` draws what an empty list without filters says; ``filters`` None: the list has none.

    ``bulk`` draws what can be done to the selected rows; None: rows cannot be selected. ``sort`` names the order that
    the list has without a word of the URL; empty: its order is fixed.
    """

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
        bulk: Callable[[], object] | None = None,
        sort: str = "",
    ) -> None:
        self._view = view
        self._path = path
        self._kind = kind
        self._row = row
        self._draw_none = none
        self._draw_bulk = bulk
        self._sort = sort
        self._problem: Problem | None = None
        self._loads = 0
        self.filters = filters
        self.items: list[I] = []
        self.seen: dict[int | str, I] = {}
        """Of a list with ``bulk``: what was shown so far, by the rows' ids, since selections outlast a page."""
        with tag("section", "card flush"):
            self._bulk = tag("div", "bulk", role="region", aria_label=view.t("bulk.label"))
            self._bulk.set_visibility(False)
            self._body = tag("div")
            with self._body:
                self.table = table()
            self._none = tag("div")
            self._foot = tag("div")
            with self._foot:
                self.pager = Pager(view, self.as_call)
        self._look_again = ui.timer(LOOK_AGAIN_S, self.load, active=False, immediate=False)
        self.table.on_filter(lambda wanted: view.change(**(wanted | NO_PAGING)))
        self.table.on_sort(self._sorted)
        self.table.on_select(self._selected)
        view.on_change(self.load)

    # --- what it shows -----------------------------------------------------------------------------------------------

    def query(self) -> dict[str, str]:
        """The filters, as the admin API is asked for them."""
        return {} if self.filters is None else self.filters.query()

    def _asked(self, limit: int, cursor: str) -> dict[str, str]:
        order = {name: self._view.query.get(name, "") for name in ("sort", "order")} if self._sort else {}
        return self.query() | order | {"limit": str(limit), "cursor": cursor}

    async def fetch(self, limit: int, cursor: str) -> PageOf[I]:
        page: PageOf[I] = await self._view.api.get(self._path, self._kind, self._asked(limit, cursor))
        return page

    async def load(self) -> None:
        """What the URL says. The table stays as it was until the new rows are there."""
        self._loads += 1
        this = self._loads
        if self.filters is not None:
            self.filters.sync()
        try:
            page = await self.fetch(PAGE_ROWS, self._view.query.get("cursor", ""))
        except SignedOut:
            self._view.leave("ended")
            return
        except Problem as problem:
            if this == self._loads:
                self.show([], problem)
            return
        if this == self._loads:  # else the URL says something else by now, and this is an older answer
            self.show(page.items)
            self.pager.show(len(page.items), page.next)

    def page_by_page(self, *, on: bool) -> None:
        """Off: the list follows what happens, and has no pages."""
        self._foot.set_visibility(on)

    def show(self, items: Sequence[I], problem: Problem | None = None) -> None:
        self._look_again.active = problem is not None and states.passes(problem)
        if problem is not None and self._problem is not None and problem.code == self._problem.code:
            return  # told already: who listens to the page need not hear it again each time
        self._problem = problem
        self.items = list(items)
        rows = [self._row(item) for item in items]
        if self._draw_bulk is not None:
            self.seen |= {row.id: item for row, item in zip(rows, items, strict=True)}
        query = self._view.query
        self.table.show(rows, sort=query.get("sort", self._sort), order=query.get("order", "desc"))
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

    def as_call(self) -> None:
        """The request that the list stands for, as a command."""
        asked = self._asked(PAGE_ROWS, self._view.query.get("cursor", ""))
        show_call(self._view.t, Call("GET", self._path, query=asked))

    # --- the order, and what is selected -----------------------------------------------------------------------------

    def _sorted(self, wanted: str) -> None:
        """Once down, once up."""
        query = self._view.query
        down = query.get("sort", self._sort) == wanted and query.get("order", "desc") == "desc"
        self._view.change(sort=wanted, order="asc" if down else "desc", **NO_PAGING)

    @property
    def selected(self) -> list[int]:
        return [int(each) for each in self.table.selected]

    def select(self, ids: Sequence[int | str]) -> None:
        self.table.select(list(ids))
        self._selected()

    def _selected(self) -> None:
        if self._draw_bulk is None:
            return
        self._bulk.clear()
        self._bulk.set_visibility(bool(self.table.selected))
        if self.table.selected:
            with self._bulk:
                self._draw_bulk()
