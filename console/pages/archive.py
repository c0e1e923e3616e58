"""The archive: bindings that were unbound or that nobody used any more, and the way back.

Where it stands in the walk: ``GET archive`` and ``POST archive/restore``.
"""

from functools import partial
from typing import Final

from admin_api.schemas.bindings import ArchivedBinding, ArchivePage, Restore
from admin_api.schemas.common import Results
from console.client import Problem, SignedOut
from console.lists import NO_PAGING, Pager, chips
from console.pages import binding_bulk
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.dialogs import Question
from console.widgets.forms import choice, text_field
from console.widgets.table import Column, DataTable, Part, Row, when

FILTERS: Final = ("hint", "fingerprint", "restored")
PAGE_ROWS: Final = 50
RESTORE: Final = binding_bulk.Action("restore")


async def archive(view: View) -> None:
    with tag("div", "page-head"), tag("div"):
        tag("h1", text=view.t("nav.archive"))
        tag("p", "lead", view.t("archive.lead"))
    await ArchiveList(view).open()


class ArchiveList:
    """The list of one view."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def open(self) -> None:
        view, t = self._view, self._view.t
        with tag("div", "filters", role="group", aria_label=t("bindings.filters")):
            self._hint = text_field(
                t("bindings.hint"), bare=True, placeholder=t("bindings.hint"), maxlength=16, entered=self._chosen
            )
            states_ = {"": t("archive.any"), "false": t("archive.restored.false"), "true": t("archive.restored.true")}
            self._restored = choice(
                t("archive.restored"), states_, view.query.get("restored", ""), bare=True, changed=self._chosen
            )
        self._chips = tag("div", "filters")
        with tag("section", "card flush", aria_label=t("nav.archive")):
            self._bulk = tag("div", "bulk", role="region", aria_label=t("bulk.label"))
            self._bulk.set_visibility(False)
            self._body = tag("div")
            with self._body:
                self._table = self._make_table()
            self._none = tag("div")
            self._pager = Pager(view)
        view.on_change(self.load)
        await self.load()

    async def load(self) -> None:
        view, t = self._view, self._view.t
        names = {
            "hint": t("bindings.hint"),
            "fingerprint": t("bindings.fingerprint"),
            "restored": t("archive.restored"),
        }
        texts = {each: t(f"archive.restored.{each}") for each in ("true", "false")}
        chips(view, self._chips, names, texts)
        query = {name: view.query.get(name, "") for name in (*FILTERS, "cursor")}
        try:
            page = await view.api.get("/archive", ArchivePage, {**query, "limit": PAGE_ROWS})
        except SignedOut:
            raise
        except Problem as problem:
            self._show([], problem)
            return
        self._show([self._row(item) for item in page.items], None)
        self._pager.show(len(page.items), page.next)

    def _show(self, rows: list[Row], problem: Problem | None) -> None:
        view = self._view
        self._table.show(rows)
        self._body.set_visibility(bool(rows))
        self._none.clear()
        self._none.set_visibility(not rows)
        with self._none:
            if problem is not None:
                states.failed(view.t, problem, partial(view.start, self.load))
            elif not rows:
                states.empty(view.t("archive.empty"), view.t("archive.empty.why"), "inventory_2")

    def _chosen(self) -> None:
        changed = {"hint": self._hint.value.strip().removeprefix("sk-"), "restored": self._restored.value}
        self._view.change(**(changed | NO_PAGING))

    def _make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("key", t("bindings.key"), "code"),
            Column("cause", t("archive.cause"), "status"),
            Column("networks", t("bindings.networks"), "code"),
            Column("note", t("bindings.note"), "wide"),
            Column("last", t("bindings.last_used"), "time"),
            Column("requests", t("bindings.requests"), "number"),
            Column("at", t("archive.at"), "time"),
            Column("by", t("settings.by")),
            Column("restored", t("archive.restored"), "time"),
        ]
        table = DataTable(t, t("nav.archive"), columns, selectable=self._view.may("bindings:write"))
        table.on_select(self._selected)
        table.on_filter(lambda wanted: self._view.change(**(wanted | NO_PAGING)))
        return table

    def _row(self, item: ArchivedBinding) -> Row:
        t = self._view.t
        shown = [Part(each.network.removesuffix("/32"), kind="mono") for each in item.networks[:1]]
        if item.network_count > 1:
            shown.append(Part(t("list.more", n=item.network_count - 1), kind="muted"))
        title = t("list.filter_by", value=item.hint)
        cells = {
            "key": [Part(item.hint, kind="mono", title=title, filter={"fingerprint": item.fingerprint})],
            "cause": [Part(t.known(f"archive.cause.{item.cause}", item.cause), badge="plain")],
            "networks": shown,
            "note": [Part(item.note, kind="clip", title=item.note)] if item.note else [],
            "last": when(item.last_used_at, ""),
            "requests": [Part(f"{item.request_count:,}")],
            "at": when(item.archived_at, ""),
            "by": [Part(item.archived_by)],
            "restored": when(item.restored_at, t("archive.restored.false")),
        }
        return Row(item.id, cells, name=item.hint)

    # --- restoring ---------------------------------------------------------------------------------------------------

    def _selected(self) -> None:
        view, count = self._view, len(self._table.selected)
        self._bulk.clear()
        self._bulk.set_visibility(bool(count))
        with self._bulk:
            tag("b", text=view.t.n("bulk.selected", count))
            button(view.t("bulk.restore"), partial(view.start, self._restore), classes="small")
            button(view.t("bulk.none"), partial(self._select, []), classes="small quiet")

    def _select(self, ids: list[int | str]) -> None:
        self._table.select(ids)
        self._selected()

    async def _restore(self) -> None:
        view, t = self._view, self._view.t
        ids = [int(each) for each in self._table.selected]
        question = Question(
            title=t.n("bulk.restore.title", len(ids)),
            consequence=t("bulk.restore.consequence"),
            action=t.n("bulk.restore.do", len(ids)),
        )
        answer = await view.ask(question)
        if answer is None:
            return
        results = await view.api.post("/archive/restore", Restore(ids, answer.reason), Results)
        whole = all(result.outcome.value == "done" for result in results.results)
        view.tell(binding_bulk.report(view, RESTORE, results), "good" if whole else "bad")
        self._select([])
        await self.load()
