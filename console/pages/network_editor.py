"""The editor of a binding's networks: text, one a line; what will not do is said while one types. Those that end at
some time, and are left in, still do.

Where it stands in the walk: on the page of a binding; it saves with ``PUT bindings/ip``.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

from admin_api.schemas.bindings import BindingView, Edited, SetNetworks
from console import networks
from console.networks import Entered, Fault
from console.view import View
from console.widgets import states
from console.widgets.basics import button, set_attribute, tag
from console.widgets.dialogs import Call, Question, show_call
from console.widgets.forms import text_field

FAULTS_SHOWN = 3
LINES_MIN = 3
LINES_MAX = 16


class NetworkEditor:
    """``saved`` gets what the admin API answered."""

    def __init__(self, view: View, found: BindingView, saved: Callable[[Edited], Awaitable[None]]) -> None:
        self._view = view
        self._found = found
        self._saved = saved
        self._standing = {
            each if isinstance(each, str) else each.network: each
            for each in networks.standing(found.networks, datetime.now(UTC))
        }
        self._before = list(self._standing)
        t = view.t
        with tag("div", "card-foot stack"):
            self._text = text_field(
                t("networks.edit"),
                "\n".join(self._before),
                hint=t("networks.hint"),
                lines=min(LINES_MAX, max(LINES_MIN, len(self._before))),
                changed=self._check,
            )
            self._text.element.classes("mono")
            self._told = tag("div", "stack", role="status")
            self._reason = text_field(t("reason.label"), maxlength=500)
            with tag("div", "row-flex"):
                self._save = button(t("networks.save"), partial(view.start, self._store), classes="small primary")
                button(t("action.call"), self._as_call, classes="small quiet")

    def _as_call(self) -> None:
        show_call(self._view.t, Call("PUT", "/bindings/ip", body=self._edit()))

    def _edit(self) -> SetNetworks:
        wanted = networks.entered(self._text.value)
        timed = [self._standing.get(each, each) for each in wanted.networks]
        return SetNetworks(self._found.id, timed, None, self._reason.value.strip(), self._found.version)

    def _check(self) -> None:
        wanted = networks.entered(self._text.value)
        self._told.clear()
        with self._told:
            for fault in wanted.faults[:FAULTS_SHOWN]:
                tag("p", "fault", self._explain(fault))
            if not wanted.faults:
                self._difference(wanted)
        self._text.refuse(None)
        set_attribute(self._text.element, "aria-invalid", "true" if wanted.faults else None)
        set_attribute(self._save, "disabled", bool(wanted.faults or not wanted.networks))

    def _explain(self, fault: Fault) -> str:
        return self._view.t(f"networks.{fault.kind}", line=fault.line, text=fault.text, meant=fault.meant)

    def _difference(self, wanted: Entered) -> None:
        t, before, after = self._view.t, set(self._before), set(wanted.networks)
        for sign, changed in (("+", sorted(after - before)), ("\N{MINUS SIGN}", sorted(before - after))):
            for each in changed:
                tag("p", "mono", f"{sign} {each}")
        if not after:
            tag("p", "fault", t("networks.none"))
        for each in wanted.broad:
            states.notice(t("networks.broad", network=each), "warn", "warning")

    async def _store(self) -> None:
        """The text as it is now; a network that holds half the world is asked about once more."""
        wanted = networks.entered(self._text.value)
        if wanted.faults or not wanted.networks:
            self._check()
            return
        if wanted.broad:
            t = self._view.t
            question = Question(
                title=t("networks.broad.title"),
                consequence=t("networks.broad", network=", ".join(wanted.broad)),
                action=t("networks.save"),
                asks_reason=False,
            )
            if await self._view.ask(question) is None:
                return
        await self._saved(await self._view.api.put("/bindings/ip", self._edit(), Edited))
