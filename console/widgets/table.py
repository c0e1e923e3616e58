"""The table of every list. Rows are data, drawn by ``table.js``; each cell is a few small parts.

    table = DataTable(view.t, "Bindings", [Column("key", "Key", "code")], selectable=True)
    table.show([Row(1, {"key": [Part("sk-a…b", href="/bindings/1", kind="mono")]})])

Values are texts to the browser, whatever they contain.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from console.i18n import Texts

Listener = Callable[[str], Awaitable[None] | None]


class Column(msgspec.Struct, frozen=True):
    """``kind``: text, number, time, code or wide. ``sort``: what the URL and the admin API call this order."""

    name: str
    label: str
    kind: str = "text"
    sort: str = ""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of a cell. ``kind``: mono, muted, block, clip. ``badge``: its tone. ``filter``: name and value.

    ``at``: a time in ISO form, shown relative. ``action``: a button that tells the page so.
    """

    text: str = ""
    href: str = ""
    title: str = ""
    kind: str = ""
    badge: str = ""
    at: str = ""
    action: str = ""
    filter: dict[str, str] | None = None


class Row(msgspec.Struct, frozen=True):
    """``name`` is what a screen reader calls it; ``tone`` becomes a class."""

    id: int | str
    cells: dict[str, list[Part]]
    name: str = ""
    tone: str = ""


class DataTable(Element, component="table.js"):
    """``selected`` holds the ids that are ticked, also of rows on other pages."""

    def __init__(self, t: Texts, label: str, columns: list[Column], *, selectable: bool = False) -> None:
        super().__init__()
        self._t = t
        self.selected: list[int | str] = []
        self.props["label"] = label
        self.props["selectable"] = selectable
        self.props["labels"] = {"select_page": t("list.select_page")}
        self.props["columns"] = tuple(
            {
                "name": column.name,
                "label": column.label,
                "kind": column.kind,
                "sortable": bool(column.sort),
                "sort_label": t("list.sort_by", column=column.label),
            }
            for column in columns
        )
        self._sorts = {column.name: column.sort for column in columns}

    def show(self, rows: list[Row], *, sort: str = "", order: str = "desc") -> None:
        # A tuple: NiceGUI would watch each part of each cell of a list for changes, for half of a page's time.
        shown = tuple(
            {
                "id": row.id,
                "tone": row.tone,
                "select_label": self._t("list.select_row", name=row.name or row.id),
                "cells": {name: msgspec.to_builtins(parts) for name, parts in row.cells.items()},
            }
            for row in rows
        )
        sorted_by = next((name for name, each in self._sorts.items() if each and each == sort), "")
        self.props.update({"rows": shown, "sort": sorted_by, "order": order})
        self.update()

    def select(self, ids: list[int | str]) -> None:
        self.selected = ids
        self.props["selected"] = ids
        self.update()

    def on_select(self, listener: Callable[[], Awaitable[None] | None]) -> None:
        def heard(event: GenericEventArguments) -> Awaitable[None] | None:
            self.select(list(event.args))
            return listener()

        self.on("select", heard)

    def on_sort(self, listener: Listener) -> None:
        """Called with the order's name, as in `Column.sort`."""
        self.on("sort", lambda event: listener(self._sorts[event.args]))

    def on_filter(self, listener: Callable[[dict[str, str]], Awaitable[None] | None]) -> None:
        """Called with the filters that the clicked cell stands for."""
        self.on("filter", lambda event: listener(dict(event.args)))

    def on_act(self, listener: Callable[[str, int | str], Awaitable[None] | None]) -> None:
        """Called with an action's name and the id of its row."""
        self.on("act", lambda event: listener(event.args["action"], event.args["id"]))


def when(at: datetime | None, never: str) -> list[Part]:
    """A cell with a time."""
    return [Part(never, kind="muted")] if at is None else [Part(at=at.isoformat())]
