"""The list of bindings: found, filtered, sorted and paged by the admin API, and changed many at a time.

Where it stands in the walk: rows of ``GET /bindings`` become cells; the URL says which.
"""

from functools import partial

from admin_api.schemas.bindings import BindingMode, BindingPage, BindingStatus, BindingView
from console.client import Problem, SignedOut
from console.lists import NO_PAGING, Pager, chips
from console.look_up import look_up
from console.networks import is_network, short
from console.pages import binding_bulk
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.forms import choice, text_field
from console.widgets.search import FINGERPRINT, HINT_MAX, looks_like_key
from console.widgets.table import Column, DataTable, Part, Row, when

FILTERS = ("hint", "note", "network", "fingerprint", "status", "mode")
PAGE_ROWS = 50
NETWORKS_SHOWN = 1
STATUS_TONE = {BindingStatus.ACTIVE: "good", BindingStatus.BANNED: "bad"}
MODE_TONE = {BindingMode.INHERIT: "plain", BindingMode.ENFORCE: "info", BindingMode.OBSERVE: "warn"}


async def bindings(view: View) -> None:
    with tag("div", "page-head"), tag("div"):
        tag("h1", text=view.t("bindings.title"))
        tag("p", "lead", view.t("bindings.lead"))
    await BindingList(view).open()


class BindingList:
    """The list of one view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen: dict[int | str, BindingView] = {}

    async def open(self) -> None:
        view = self._view
        self._filter_bar()
        with tag("section", "card flush", aria_label=view.t("bindings.title")):
            self._bulk = tag("div", "bulk", role="region", aria_label=view.t("bulk.label"))
            self._bulk.set_visibility(False)
            self._body = tag("div")
            with self._body:
                self._table = self._make_table()
            self._none = tag("div")
            self._pager = Pager(view)
        view.on_change(self.load)
        await self.load()

    async def load(self) -> None:
        """What the URL says. The table stays as it was until the new rows are there."""
        view = self._view
        chips(view, self._chips, self._filter_names(), self._value_names())
        query = {name: view.query.get(name, "") for name in (*FILTERS, "sort", "order", "cursor")}
        try:
            page = await view.api.get("/bindings", BindingPage, {**query, "limit": PAGE_ROWS})
        except SignedOut:
            raise
        except Problem as problem:
            self._show([], problem)
            return
        self._seen |= {item.id: item for item in page.items}
        self._show([self._row(item) for item in page.items], None)
        self._pager.show(len(page.items), page.next)

    def _show(self, rows: list[Row], problem: Problem | None) -> None:
        view = self._view
        self._table.show(rows, sort=view.query.get("sort", "last_used_at"), order=view.query.get("order", "desc"))
        self._body.set_visibility(bool(rows))
        self._none.clear()
        self._none.set_visibility(not rows)
        with self._none:
            if problem is not None and problem.code == "invalid_input":
                with states.empty(view.t("bindings.invalid"), states.explain(view.t, problem), "filter_alt_off"):
                    button(view.t("bindings.none.clear"), self._clear)
            elif problem is not None:
                states.failed(view.t, problem, partial(view.start, self.load))
            elif not rows and any(view.query.get(name) for name in FILTERS):
                with states.empty(view.t("bindings.none"), view.t("bindings.none.why"), "filter_alt_off"):
                    button(view.t("bindings.none.clear"), self._clear)
            elif not rows:
                states.empty(view.t("bindings.empty"), view.t("bindings.empty.why"), "link_off")

    def _clear(self) -> None:
        self._view.change(**(dict.fromkeys(self._view.query, "")))
        self._view.redraw()

    # --- filters -----------------------------------------------------------------------------------------------------

    def _filter_bar(self) -> None:
        view = self._view
        with tag("div", "filters", role="group", aria_label=view.t("bindings.filters")):
            self._search = text_field(
                view.t("bindings.search"), bare=True, placeholder=view.t("bindings.search"), entered=self._searched
            )
            self._search.element.classes("grow")
            statuses = {"": view.t("bindings.any_status")} | {
                each.value: view.t(f"status.{each.value}") for each in BindingStatus
            }
            modes = {"": view.t("bindings.any_mode")} | {
                each.value: view.t(f"mode.{each.value}") for each in BindingMode
            }
            self._status = choice(
                *(view.t("bindings.status"), statuses, view.query.get("status", "")), changed=self._chosen, bare=True
            )
            self._mode = choice(
                *(view.t("bindings.mode"), modes, view.query.get("mode", "")), changed=self._chosen, bare=True
            )
            refresh = view.t("action.refresh")
            button("", partial(view.start, self.load), classes="icon", icon_name="refresh", label=refresh)
        self._chips = tag("div", "filters")

    def _chosen(self) -> None:
        self._view.change(status=self._status.value, mode=self._mode.value, **NO_PAGING)

    def _searched(self) -> None:
        """Enter: what was typed becomes the filter that it looks like. A whole key is looked up and never in a URL."""
        text = self._search.value.strip()
        self._search.put("")
        if FINGERPRINT.fullmatch(text):
            self._view.change(fingerprint=text, **NO_PAGING)
        elif looks_like_key(text):
            self._view.start(partial(look_up, self._view, text))
        elif is_network(text):
            self._view.change(network=text, **NO_PAGING)
        elif " " in text or len(text.removeprefix("sk-")) > HINT_MAX or not text.isascii():
            self._view.change(note=text, **NO_PAGING)
        else:
            self._view.change(hint=text.removeprefix("sk-"), **NO_PAGING)

    def _filter_names(self) -> dict[str, str]:
        return {name: self._view.t(f"bindings.{name}") for name in FILTERS}

    def _value_names(self) -> dict[str, str]:
        names = {each.value: self._view.t(f"status.{each.value}") for each in BindingStatus}
        return names | {each.value: self._view.t(f"mode.{each.value}") for each in BindingMode}

    # --- rows --------------------------------------------------------------------------------------------------------

    def _make_table(self) -> DataTable:
        t = self._view.t
        table = DataTable(
            t,
            t("bindings.title"),
            [
                Column("key", t("bindings.key"), "code"),
                Column("status", t("bindings.status"), "status"),
                Column("networks", t("bindings.networks"), "code"),
                Column("note", t("bindings.note"), "wide"),
                Column("last", t("bindings.last_used"), "time", sort="last_used_at"),
                Column("from", t("bindings.last_ip"), "code"),
                Column("requests", t("bindings.requests"), "number", sort="request_count"),
                Column("intercepts", t("bindings.intercepts"), "number", sort="intercept_count"),
                Column("first", t("bindings.first_used"), "time", sort="first_used_at"),
            ],
            selectable=self._view.may("bindings:write"),
        )
        table.on_sort(self._sort)
        table.on_filter(lambda wanted: self._view.change(**(wanted | NO_PAGING)))
        table.on_select(self._selected)
        return table

    def _sort(self, wanted: str) -> None:
        """Once down, once up."""
        query = self._view.query
        down = query.get("sort", "last_used_at") == wanted and query.get("order", "desc") == "desc"
        self._view.change(sort=wanted, order="asc" if down else "desc", **NO_PAGING)

    def _row(self, binding: BindingView) -> Row:
        t, view = self._view.t, self._view
        cells = {
            "key": [Part(binding.hint, href=view.href(f"/bindings/{binding.id}"), kind="mono")],
            "status": _status(view, binding),
            "networks": _networks(view, binding),
            "note": [Part(binding.note, kind="clip", title=binding.note)] if binding.note else [],
            "last": when(binding.last_used_at, t("time.never")),
            "from": [address(view, binding.last_ip)] if binding.last_ip else [],
            "requests": [Part(f"{binding.request_count:,}")],
            "intercepts": [Part(f"{binding.intercept_count:,}", kind="" if binding.intercept_count else "muted")],
            "first": when(binding.first_used_at, t("time.never")),
        }
        return Row(binding.id, cells, name=binding.hint)

    # --- many at a time ----------------------------------------------------------------------------------------------

    def _selected(self) -> None:
        view, count = self._view, len(self._table.selected)
        self._bulk.clear()
        self._bulk.set_visibility(bool(count))
        if not count:
            return
        with self._bulk:
            tag("b", text=view.t.n("bulk.selected", count))
            for action in binding_bulk.ACTIONS:
                style = "small danger" if action.danger else "small"
                button(view.t(f"bulk.{action.name}"), partial(self._apply, action), classes=style)
            if self._pager.has_more or self._pager.page > 1:
                button(view.t("bulk.all_matching"), lambda: view.start(self._select_matching), classes="small quiet")
            button(view.t("bulk.none"), lambda: self._select([]), classes="small quiet")

    def _select(self, ids: list[int | str]) -> None:
        self._table.select(ids)
        self._selected()

    async def _select_matching(self) -> None:
        query = {name: self._view.query.get(name, "") for name in FILTERS}
        found = await binding_bulk.matching(self._view.api, query)
        self._seen |= {each.id: each for each in found}
        self._select([each.id for each in found])

    def _apply(self, action: binding_bulk.Action) -> None:
        chosen = [self._seen[each] for each in self._table.selected]
        self._view.start(partial(binding_bulk.apply, self._view, action, chosen, self._done))

    async def _done(self) -> None:
        self._select([])
        await self.load()


def _status(view: View, binding: BindingView) -> list[Part]:
    t = view.t
    status = Part(
        t(f"status.{binding.status}"),
        badge=STATUS_TONE[binding.status],
        title=binding.ban_reason or t("list.filter_by", value=t(f"status.{binding.status}")),
        filter={"status": binding.status.value},
    )
    if binding.mode is BindingMode.INHERIT:
        return [status]
    mode = t(f"mode.{binding.mode}")
    title = t("list.filter_by", value=mode)
    return [status, Part(mode, badge=MODE_TONE[binding.mode], title=title, filter={"mode": binding.mode.value})]


def _networks(view: View, binding: BindingView) -> list[Part]:
    parts = [address(view, each.network) for each in binding.networks[:NETWORKS_SHOWN]]
    more = binding.network_count - len(parts)
    if more > 0:
        parts.append(Part(view.t("list.more", n=more), href=view.href(f"/bindings/{binding.id}"), kind="muted"))
    return parts


def address(view: View, text: str) -> Part:
    """An address or a network; a click filters by it. One address' network is shown as the address."""
    shown = short(text)
    return Part(shown, kind="mono", title=view.t("list.filter_by", value=shown), filter={"network": text})
