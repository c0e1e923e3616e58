"""Why one request was refused, hop by hop, what would happen to it now, and what can be done about it.

Where it stands in the walk: opened from a row of the intercepts. The row tells what was so at that moment; ``POST
decide`` tells what is so now.
"""

from datetime import timedelta
from functools import partial
from typing import Final

from nicegui import ui

from admin_api.schemas.bindings import BindingMode, BindingStatus, BindingView, Decide, Decided
from admin_api.schemas.logs import InterceptView
from console.client import Problem, SignedOut
from console.pages import binding_bulk
from console.pages.allow import allow
from console.pages.binding import verdict_badge
from console.view import View
from console.widgets import states
from console.widgets.basics import Handler, badge, button, copyable, icon, link, moment, tag
from console.widgets.dialogs import window

DAY: Final = timedelta(days=1)
NETWORKS_SHOWN: Final = 20


async def explain(view: View, intercept: InterceptView, done: Handler) -> None:
    """Within an action. ``done``: something was changed."""
    now = await _decide(view, intercept)

    def build(dialog: ui.dialog) -> None:
        Explanation(view, intercept, now, dialog, done).draw()

    window(view.t("why.title"), build, wide=True)


async def _decide(view: View, intercept: InterceptView) -> Decided | Problem | None:
    """None: nobody owns the key now, or the role may not know."""
    if intercept.binding_id is None or intercept.client is None or not view.may("bindings:read"):
        return None
    try:
        wanted = Decide(intercept.client, binding_id=intercept.binding_id, method=intercept.method)
        return await view.api.post("/decide", wanted, Decided)
    except SignedOut:
        raise
    except Problem as problem:
        return None if problem.code == "not_found" else problem


class Explanation:
    """The content of the window."""

    def __init__(
        self, view: View, intercept: InterceptView, now: Decided | Problem | None, dialog: ui.dialog, done: Handler
    ) -> None:
        self._view = view
        self._row = intercept
        self._now = now
        self._dialog = dialog
        self._done = done

    def draw(self) -> None:
        t, row = self._view.t, self._row
        with tag("p", "row-flex"):
            moment(row.at, "", absolute=True)
            tag("span", "mono", f"{row.method} {row.path}")
        if row.user_agent:
            tag("p", "muted", row.user_agent)
        with tag("ol", "hops"):
            self._peer()
            self._address()
            self._bound()
            self._verdict()
            self._present()
        with tag("div", "buttons"):
            copyable(row.event_id, t("why.copy"))
            tag("div", "space")
            self._actions()
            button(t("action.close"), self._dialog.close, autofocus=True)

    # --- what was so -------------------------------------------------------------------------------------------------

    def _peer(self) -> None:
        t, row = self._view.t, self._row
        with tag("li"):
            icon("lan")
            tag("b", text=t("why.peer"))
            if row.peer is None:
                tag("span", "muted", t("why.peer.unknown"))
                return
            tag("span", "mono", row.peer)
            if row.peer == row.client:
                badge(t("why.direct"), "plain")
            else:
                badge(t("why.proxy"), "good")
        if row.peer != row.client:
            with tag("li"):
                icon("alt_route")
                tag("b", text="X-Real-IP")
                tag("span", "mono", row.client or "?")
                tag("span", "muted", t("why.believed"))

    def _address(self) -> None:
        with tag("li"):
            icon("person_pin_circle")
            tag("b", text=self._view.t("why.address"))
            tag("span", "mono", self._row.client or "?")

    def _bound(self) -> None:
        t, row = self._view.t, self._row
        with tag("li"):
            icon("vpn_key")
            tag("b", text=t("why.bound"))
            tag("span", "mono", row.hint)
            icon("arrow_forward")
            shown = ", ".join(row.bound_networks[:NETWORKS_SHOWN])
            tag("span", "mono", shown) if shown else tag("span", "muted", t("why.bound.none"))
            more = len(row.bound_networks) - NETWORKS_SHOWN
            if more > 0:
                tag("span", "muted", t("list.more", n=more))

    def _verdict(self) -> None:
        t, row = self._view.t, self._row
        with tag("li"):
            icon("rule")
            tag("b", text=t("why.rule"))
            tag("span", text=t.known(f"why.rule.{row.reason}", t.known(f"reason.{row.reason}", row.reason)))
        with tag("li"):
            icon("gavel")
            tag("b", text=t("why.verdict"))
            badge(t("verdict.refuse" if row.enforced else "verdict.observe"), "bad" if row.enforced else "warn")
            if row.repeat_count > 1:
                tag("span", text=t("why.times", n=f"{row.repeat_count:,}"))
            tag("span", "muted", t("why.gateway", gateway=row.gateway))

    # --- what is so now ----------------------------------------------------------------------------------------------

    def _present(self) -> None:
        t, now = self._view.t, self._now
        with tag("li"):
            icon("update")
            tag("b", text=t("why.now"))
            if isinstance(now, Problem):
                tag("span", "muted", states.explain(t, now))
            elif now is None:
                tag("span", "muted", t("why.now.unbound"))
            else:
                decision = now.enforce if now.in_force is BindingMode.ENFORCE else now.observe
                verdict_badge(self._view, decision)
                tag("span", "muted", t.known(f"rule.{decision.rule}", decision.rule))

    def _actions(self) -> None:
        view, t, row, now = self._view, self._view.t, self._row, self._now
        if row.binding_id is None or not view.may("bindings:read"):
            return
        link(view.href(f"/bindings/{row.binding_id}"), t("why.open"), "btn")
        if not isinstance(now, Decided) or now.binding is None or not view.may("bindings:write"):
            return
        if now.binding.status is BindingStatus.BANNED:
            return  # no address would get through: the page of the binding lifts bans
        button(t("bulk.ban"), partial(self._ban, now.binding), classes="danger")
        if now.network is None:
            button(t("allow.day"), partial(self._allow, DAY))
            button(t("allow.good"), partial(self._allow, None))

    def _allow(self, lasts: timedelta | None) -> None:
        row = self._row
        assert row.binding_id is not None  # noqa: S101 - `_actions` looked
        reason = f"intercept {row.event_id}"
        self._dialog.close()
        address = row.client or ""
        self._view.start(partial(allow, self._view, row.binding_id, address, lasts, reason, self._done))

    def _ban(self, found: BindingView) -> None:
        async def finished() -> None:
            self._view.start(self._done)

        self._dialog.close()
        self._view.start(partial(binding_bulk.apply, self._view, binding_bulk.BAN, [found], finished))
