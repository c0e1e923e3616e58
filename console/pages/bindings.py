"""The list of bindings: found, filtered, sorted and paged by the admin API, and changed many at a time.

Where it stands in the walk: rows of ``GET /bindings`` become cells; the URL says which.
"""

from functools import partial

from admin_api.schemas.bindings import BindingMode, BindingPage, BindingStatus, BindingView
from admin_api.schemas.common import MAX_IDS
from console.bulk_run import Matching
from console.filter_bar import FilterBar
from console.listing import Listing
from console.lists import NO_PAGING
from console.look_up import look_up
from console.networks import is_network, short
from console.pages import binding_bulk
from console.pages.binding_run import RunCard
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.search import FINGERPRINT, HINT_MAX, looks_like_key
from console.widgets.table import Column, DataTable, Part, Row, when

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
        self._matching: Matching | None = None
        """All that the filters let through, when that is what was selected."""

    async def open(self) -> None:
        view = self._view
        self._run = RunCard(view, self._done)
        self._list: Listing[BindingView] = Listing(
            *(view, "/bindings", BindingPage, self._make_table, self._row, self._none),
            filters=self._make_bar(),
            bulk=self._draw_bulk,
            sort="last_used_at",
        )
        await self._list.load()

    def _none(self) -> None:
        states.empty(self._view.t("bindings.empty"), self._view.t("bindings.empty.why"), "link_off")

    # --- filters -----------------------------------------------------------------------------------------------------

    def _make_bar(self) -> FilterBar:
        view, t = self._view, self._view.t
        bar = FilterBar(view, t("bindings.filters"))
        for name in ("hint", "note", "network", "fingerprint"):
            bar.name(name, t(f"bindings.{name}"))
        with bar:
            bar.text("search", t("bindings.search"), self._searched, grow=True)
            statuses = {each.value: t(f"status.{each.value}") for each in BindingStatus}
            bar.choice("status", t("bindings.status"), {"": t("bindings.any_status")} | statuses)
            modes = {each.value: t(f"mode.{each.value}") for each in BindingMode}
            bar.choice("mode", t("bindings.mode"), {"": t("bindings.any_mode")} | modes)
            button("", self._reload, classes="icon", icon_name="refresh", label=t("action.refresh"))
        return bar

    def _reload(self) -> None:
        self._view.start(self._list.load)

    def _searched(self, text: str) -> None:
        """What was typed becomes the filter that it looks like. A whole key is looked up and never in a URL."""
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

    # --- rows --------------------------------------------------------------------------------------------------------

    def _make_table(self) -> DataTable:
        t = self._view.t
        return DataTable(
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

    def _draw_bulk(self) -> None:
        view, t, listing = self._view, self._view.t, self._list
        matching, self._matching = self._matching, None  # until the next tick, which chooses otherwise
        count = len(listing.selected) if matching is None else len(matching.ids)
        tag("b", text=t.n("bulk.selected" if matching is None else "bulk.selected.matching", count))
        for action in binding_bulk.ACTIONS:
            style = "small danger" if action.danger else "small"
            button(t(f"bulk.{action.name}"), partial(self._apply, action, matching), classes=style)
        if matching is None and (listing.pager.has_more or listing.pager.page > 1):
            button(t("bulk.all_matching"), partial(view.start, self._select_matching), classes="small quiet")
        button(t("bulk.none"), partial(listing.select, []), classes="small quiet")

    async def _select_matching(self) -> None:
        """Ticks all of it, or of more than one call may change those on the page: a browser need not hold a million."""
        found = await self._run.collect(self._list.query())
        if found is not None:
            self._list.seen |= {each.id: each for each in found.views}
            self._matching = found
            self._list.select([each.id for each in found.views or self._list.items])

    def _apply(self, action: binding_bulk.Action, matching: Matching | None) -> None:
        ids = self._list.selected if matching is None else matching.ids
        if len(ids) > MAX_IDS:
            self._view.start(partial(self._run.apply, action, ids))
        else:
            chosen = [self._list.seen[each] for each in ids]
            self._view.start(partial(binding_bulk.apply, self._view, action, chosen, self._done))

    async def _done(self) -> None:
        self._list.select([])
        await self._list.load()


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
