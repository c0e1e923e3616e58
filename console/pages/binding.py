"""One binding: what it is, who may use it, what would happen to whom, and what happened so far.

Where it stands in the walk: ``GET bindings/{id}``, its timeline and its intercepts; edits carry the version that was
read, so that of two operators who edit at once one is told.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from admin_api.schemas.bindings import (
    BindingMode,
    BindingStatus,
    BindingView,
    Decide,
    Decided,
    Decision,
    Edited,
    SetNote,
    Timeline,
)
from admin_api.schemas.logs import InterceptPage, InterceptView
from console import networks
from console.client import Problem
from console.pages import binding_bulk
from console.pages.allow import allow
from console.pages.binding_timeline import TimelineList
from console.pages.network_editor import NetworkEditor
from console.view import View
from console.widgets import states
from console.widgets.basics import Tag, badge, button, copyable, link, moment, tag
from console.widgets.dialogs import Call, show_call
from console.widgets.forms import text_field
from console.widgets.table import Column, DataTable, Part, Row, when

INTERCEPTS_READ: Final = 200
ADDRESSES_SHOWN: Final = 20
ID_MAX_DIGITS: Final = 19


async def binding(view: View) -> None:
    """``/bindings/{id}``"""
    given = view.params["id"]
    if not (given.isascii() and given.isdigit()) or len(given) > ID_MAX_DIGITS:
        raise Problem("not_found", 404)
    path = f"/bindings/{given}"
    try:
        found, timeline, intercepts = await asyncio.gather(
            view.api.get(path, BindingView),
            view.api.get(f"{path}/timeline", Timeline, {"limit": 50}),
            view.api.get("/logs", InterceptPage, {"binding_id": given, "limit": INTERCEPTS_READ}),
        )
    except Problem as problem:
        if problem.code != "not_found":
            raise
        _gone(view)
        return
    BindingDetail(view, found).draw(timeline, intercepts)


def _gone(view: View) -> None:
    with states.empty(view.t("binding.gone"), view.t("binding.gone.why"), "link_off"):
        link(view.href("/bindings"), view.t("binding.to_list"), "btn")
        link(view.href("/archive"), view.t("binding.to_archive"), "btn")


class BindingDetail:
    """The page of one binding, as it was read."""

    def __init__(self, view: View, found: BindingView) -> None:
        self._view = view
        self._found = found
        self._may = view.may("bindings:write")

    def draw(self, timeline: Timeline, intercepts: InterceptPage) -> None:
        self._head()
        with tag("div", "halves"):
            with tag("div", "stack"):
                self._facts()
                self._note()
            with tag("div", "stack"):
                self._networks()
                self._decide()
        self._addresses(intercepts.items)
        TimelineList(self._view, self._found.id).draw(timeline)

    # --- what it is --------------------------------------------------------------------------------------------------

    def _head(self) -> None:
        view, t, found = self._view, self._view.t, self._found
        with tag("div", "page-head"):
            with tag("div"):
                with tag("div", "row-flex"):
                    tag("h1", "mono", found.hint)
                    copyable(found.fingerprint, t("binding.copy_fingerprint"))
                    banned = found.status is BindingStatus.BANNED
                    badge(t(f"status.{found.status}"), "bad" if banned else "good")
                    if found.mode is not BindingMode.INHERIT:
                        badge(t(f"mode.{found.mode}"), "warn" if found.mode is BindingMode.OBSERVE else "info")
                if banned:
                    self._ban_told()
            tag("div", "space")
            if self._may:
                with tag("div", "row-flex"):
                    self._action(binding_bulk.MODE)
                    self._action(binding_bulk.UNBAN if banned else binding_bulk.BAN)
                    self._action(binding_bulk.UNBIND)
            with tag("div", "row-flex"):
                button("", view.redraw, classes="icon", icon_name="refresh", label=t("action.refresh"))

    def _ban_told(self) -> None:
        t, found = self._view.t, self._found
        with tag("p", "lead"):
            tag("span", text=t("binding.banned_for", reason=found.ban_reason or t("binding.no_reason")))
            if found.ban_expires_at is not None:
                tag("span", text=f" {t('binding.banned_until')} ")
                moment(found.ban_expires_at, "")

    def _action(self, action: binding_bulk.Action) -> None:
        view = self._view
        apply = partial(binding_bulk.apply, view, action, [self._found], self._redraw)
        button(view.t(f"bulk.{action.name}"), partial(view.start, apply), classes="danger" if action.danger else "")

    async def _redraw(self) -> None:
        self._view.redraw()

    def _facts(self) -> None:
        t, found = self._view.t, self._found
        texts = {
            t("bindings.last_ip"): found.last_ip or t("dashboard.unknown"),
            t("bindings.requests"): f"{found.request_count:,}",
            t("bindings.intercepts"): f"{found.intercept_count:,}",
            t("bindings.mode"): t(f"mode.{found.mode}.long"),
        }
        with tag("section", "card"), tag("dl", "facts"):
            with fact(t("bindings.fingerprint")):
                tag("span", "mono", found.fingerprint)
            with fact(t("bindings.first_used")):
                moment(found.first_used_at, "")
            with fact(t("bindings.last_used")):
                moment(found.last_used_at, "")
            for name, text in texts.items():
                with fact(name):
                    tag("span", text=text)

    def _note(self) -> None:
        view, t, found = self._view, self._view.t, self._found
        with tag("section", "card stack"):
            field = text_field(t("bindings.note"), found.note, lines=2, maxlength=2000, disabled=not self._may)
            if self._may:

                def call() -> Call:
                    return Call("PUT", "/bindings/note", body=SetNote(found.id, field.value, found.version))

                async def save() -> None:
                    wanted = call()
                    await self._saved(await view.api.put(wanted.path, wanted.body, Edited))

                with tag("div", "row-flex"):
                    button(t("binding.save_note"), partial(view.start, save), classes="small")
                    button(t("action.call"), lambda: show_call(t, call()), classes="small quiet")

    async def _saved(self, edited: Edited) -> None:
        view = self._view
        view.tell(view.t("binding.saved") if edited.published else view.t("bulk.unpublished"))
        view.redraw()

    # --- who may use it ----------------------------------------------------------------------------------------------

    def _networks(self) -> None:
        t, found = self._view.t, self._found
        with tag("section", "card flush"):
            with tag("div", "card-head"):
                tag("h2", text=t("bindings.networks"))
                tag("span", "muted", f"{found.network_count:,}")
            columns = [
                Column("network", t("bindings.network"), "code"),
                Column("source", t("binding.source")),
                Column("since", t("binding.since"), "time"),
                Column("until", t("binding.until"), "time"),
            ]
            table = DataTable(t, t("bindings.networks"), columns)
            table.show([
                Row(
                    each.network,
                    {
                        "network": [Part(each.network, kind="mono")],
                        "source": [Part(t.known(f"source.{each.source}", each.source))],
                        "since": when(each.created_at, ""),
                        "until": when(each.expires_at, t("binding.for_good")),
                    },
                )
                for each in found.networks
            ])  # fmt: skip
            if self._may:
                NetworkEditor(self._view, found, self._saved)

    # --- what would happen -------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        view, t = self._view, self._view.t
        with tag("section", "card stack"):
            tag("h2", text=t("decide.title"))

            def call() -> Call:
                return Call("POST", "/decide", body=Decide(field.value.strip(), binding_id=self._found.id))

            async def ask() -> None:
                wanted = call()
                answer = await view.api.post(wanted.path, wanted.body, Decided)
                told.clear()
                with told:
                    self._decided(answer)

            field = text_field(t("decide.address"), placeholder="203.0.113.7", entered=partial(view.start, ask))
            with tag("div", "row-flex"):
                button(t("decide.ask"), partial(view.start, ask), classes="small")
                button(t("action.call"), lambda: show_call(t, call()), classes="small quiet")
            told = tag("div", "stack", role="status")

    def _decided(self, answer: Decided) -> None:
        t = self._view.t
        for mode, decision in ((BindingMode.ENFORCE, answer.enforce), (BindingMode.OBSERVE, answer.observe)):
            with tag("div", "decision"):
                with tag("div", "row-flex"):
                    tag("b", text=t(f"mode.{mode}"))
                    verdict_badge(self._view, decision)
                    if answer.in_force is mode:
                        badge(t("decide.in_force"), "info")
                tag("p", "muted", t.known(f"rule.{decision.rule}", decision.rule))
        if answer.network is not None:
            tag("p", "muted", t("decide.network", address=answer.address, network=answer.network))

    # --- what happened -----------------------------------------------------------------------------------------------

    def _addresses(self, intercepts: Sequence[InterceptView]) -> None:
        """Who tried, beside the last one that passed."""
        view, t, found = self._view, self._view.t, self._found
        counts: dict[str, list[InterceptView]] = {}
        for each in intercepts:
            counts.setdefault(each.client or "?", []).append(each)
        bound = [each.network for each in found.networks]
        rows = [self._passed()] if found.last_ip else []
        rows += [
            self._tried(client, rows_of, inside=networks.covers(bound, client))
            for client, rows_of in list(counts.items())[:ADDRESSES_SHOWN]
        ]
        with tag("section", "card flush"):
            with tag("div", "card-head"):
                tag("h2", text=t("binding.addresses"))
            if not rows:
                tag("p", "card-none", t("binding.addresses.none"))
                return
            columns = [
                Column("address", t("binding.address"), "code"),
                Column("what", t("binding.what"), "status"),
                Column("count", t("bindings.intercepts"), "number"),
                Column("last", t("dashboard.last"), "time"),
                Column("act", t("binding.act")),
            ]
            table = DataTable(t, t("binding.addresses"), columns)
            table.show(rows)
            table.on_act(lambda _action, client: view.start(partial(self._allow, str(client))))

    def _passed(self) -> Row:
        found, t = self._found, self._view.t
        cells = {
            "address": [Part(found.last_ip or "", kind="mono")],
            "what": [Part(t("binding.passed"), badge="good")],
            "count": [],
            "last": when(found.last_used_at, ""),
            "act": [],
        }
        return Row(f"{found.last_ip} passed", cells)

    def _tried(self, client: str, intercepts: Sequence[InterceptView], *, inside: bool) -> Row:
        t = self._view.t
        enforced = any(each.enforced for each in intercepts)
        what = Part(t("verdict.refuse" if enforced else "verdict.observe"), badge="bad" if enforced else "warn")
        offered = self._may and not inside and client != "?"
        allow = [Part(t("binding.allow"), action="allow", title=t("binding.allow.why"))] if offered else []
        cells = {
            "address": [Part(client, kind="mono")],
            "what": [what],
            "count": [Part(f"{sum(each.repeat_count for each in intercepts):,}")],
            "last": when(intercepts[0].at, ""),
            "act": [Part(t("binding.inside"), badge="good")] if inside else allow,
        }
        return Row(client, cells)

    async def _allow(self, client: str) -> None:
        await allow(self._view, self._found.id, client, None, "", self._view.redraw)


def verdict_badge(view: View, decision: Decision) -> Tag:
    tones = {"allow": "good", "observe": "warn", "refuse": "bad"}
    text = view.t.known(f"verdict.{decision.verdict}", decision.verdict)
    return badge(f"{text} ({decision.status})" if decision.status else text, tones.get(decision.verdict, ""))


@contextlib.contextmanager
def fact(name: str) -> Iterator[None]:
    """Within a ``dl``: a name and, in the block, what it is."""
    tag("dt", text=name)
    with tag("dd"):
        yield
