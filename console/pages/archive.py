"""The archive: bindings that were unbound or that nobody used any more, and the way back.

Where it stands in the walk: ``GET archive`` and ``POST archive/restore``.
"""

from functools import partial
from typing import Final

from admin_api.schemas.bindings import ArchivedBinding, ArchivePage, Restore
from admin_api.schemas.common import Results
from console.filter_bar import FilterBar
from console.listing import Listing
from console.pages import binding_bulk
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.dialogs import Answer, Call, Question
from console.widgets.table import Column, DataTable, Part, Row, when

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
        bar = FilterBar(view, t("bindings.filters"))
        with bar:
            bar.hint()
            restored = {each: t(f"archive.restored.{each}") for each in ("false", "true")}
            bar.choice("restored", t("archive.restored"), {"": t("archive.any")} | restored)
        bar.name("fingerprint", t("bindings.fingerprint"))
        self._list: Listing[ArchivedBinding] = Listing(
            *(view, "/archive", ArchivePage, self._make_table, self._row, self._none),
            filters=bar,
            bulk=self._draw_bulk,
        )
        await self._list.load()

    def _none(self) -> None:
        states.empty(self._view.t("archive.empty"), self._view.t("archive.empty.why"), "inventory_2")

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
        return DataTable(t, t("nav.archive"), columns, selectable=self._view.may("bindings:write"))

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

    def _draw_bulk(self) -> None:
        view, listing = self._view, self._list
        tag("b", text=view.t.n("bulk.selected", len(listing.selected)))
        button(view.t("bulk.restore"), partial(view.start, self._restore), classes="small")
        button(view.t("bulk.none"), partial(listing.select, []), classes="small quiet")

    async def _restore(self) -> None:
        view, t = self._view, self._view.t
        ids = self._list.selected

        def call(answer: Answer) -> Call:
            return Call("POST", "/archive/restore", body=Restore(ids, answer.reason))

        question = Question(
            title=t.n("bulk.restore.title", len(ids)),
            consequence=t("bulk.restore.consequence"),
            action=t.n("bulk.restore.do", len(ids)),
            call=call,
        )
        answer = await view.ask(question)
        if answer is None:
            return
        wanted = call(answer)
        results = await view.api.post(wanted.path, wanted.body, Results)
        whole = all(result.outcome.value == "done" for result in results.results)
        view.tell(binding_bulk.report(view, RESTORE, results), "good" if whole else "bad")
        self._list.select([])
        await self._list.load()
