"""What stands above and below a list: its filters as they are in the URL, and the way from page to page.

Where it stands in the walk: the pages that show lists.
"""

from collections.abc import Callable, Mapping
from functools import partial

from console.view import View
from console.widgets.basics import Tag, button, icon, set_attribute, tag

PAGING = ("cursor", "page")
NO_PAGING = dict.fromkeys(PAGING, "")
"""A changed filter or order begins on the first page again: ``view.change(hint="ab", **NO_PAGING)``."""


def chips(view: View, area: Tag, names: Mapping[str, str], values: Mapping[str, str] | None = None) -> None:
    """One for each filter of the URL; a click removes it. ``names``: query name to label; ``values``: value to text."""
    area.clear()
    active = [name for name in names if view.query.get(name)]
    with area:
        for name in active:
            value = view.query[name]
            shown = (values or {}).get(value, value)
            label = view.t("filter.remove", name=names[name])
            drop = partial(view.change, **({name: ""} | NO_PAGING))
            with tag("button", "chip", type="button", aria_label=f"{label}: {shown}", title=label) as chip:
                tag("span", "muted", names[name])
                tag("b", text=shown)
                icon("close")
            chip.on("click", drop, [])
        if len(active) > 1:
            button(
                view.t("action.clear"), partial(view.change, **(dict.fromkeys(names, "") | NO_PAGING)),
                classes="small quiet",
            )  # fmt: skip
    area.set_visibility(bool(active))


class Pager:
    """First, previous, next. Pages are found by cursors: a previous one is known only if one came from there."""

    def __init__(self, view: View, as_call: Callable[[], None]) -> None:
        self._view = view
        self._cursors: dict[int, str] = {1: ""}
        self._next = ""
        with tag("div", "list-foot"):
            self._told = tag("span", role="status")
            button(view.t("action.call"), as_call, classes="small quiet")
            tag("div", "space")
            self._ways = tag("div", "row-flex")
        with self._ways:
            self._place = tag("span")
            self._first = button(view.t("list.newer"), partial(self._go, 1), classes="small")
            self._back = button(view.t("list.previous"), self._go_back, classes="small")
            self._forth = button(view.t("list.next"), self._go_forth, classes="small")

    @property
    def has_more(self) -> bool:
        return bool(self._next)

    @property
    def page(self) -> int:
        given = self._view.query.get("page", "1")
        return max(1, int(given)) if given.isascii() and given.isdigit() and len(given) < 7 else 1

    def show(self, count: int, next_cursor: str | None) -> None:
        self._cursors[self.page] = self._view.query.get("cursor", "")
        self._next = next_cursor or ""
        self._told.text = self._view.t.n("list.rows", count)
        self._ways.set_visibility(self.page > 1 or bool(self._next))
        self._place.text = self._view.t("list.page", page=self.page)
        set_attribute(self._first, "disabled", self.page == 1)
        set_attribute(self._back, "disabled", self.page - 1 not in self._cursors)
        set_attribute(self._forth, "disabled", not self._next)

    def _go(self, page: int) -> None:
        self._view.change(page="" if page == 1 else str(page), cursor=self._cursors[page])

    def _go_back(self) -> None:
        self._go(self.page - 1)

    def _go_forth(self) -> None:
        self._cursors[self.page + 1] = self._next
        self._go(self.page + 1)
