"""Where an operator is signed in, with a way to end each session; of oneself also the password.

Where it stands in the walk: ``GET sessions``, ``DELETE sessions/{id}``, ``PUT me/password``. ``?operator=3`` shows
another operator's, for those who may see operators.
"""

from collections.abc import Mapping
from functools import partial

from admin_api.schemas.auth import PasswordChange, Session, Sessions
from console.client import Problem
from console.entry import entry
from console.pages.operators import PASSWORD_MIN, password_field
from console.view import View
from console.widgets import states
from console.widgets.basics import button, link, tag
from console.widgets.dialogs import Call, Question
from console.widgets.table import Column, DataTable, Part, Row, when

ID_MAX_DIGITS = 18


async def sessions(view: View) -> None:
    given = view.query.get("operator", "")
    if given and (not (given.isascii() and given.isdigit()) or len(given) > ID_MAX_DIGITS):
        raise Problem("not_found", 404)
    own = given in ("", str(view.session.operator.id))
    found = await view.api.get("/sessions", Sessions, {"operator_id": "" if own else given})
    SessionsPage(view, found, own=own).draw()


class SessionsPage:
    """As they were read."""

    def __init__(self, view: View, found: Sessions, *, own: bool) -> None:
        self._view = view
        self._found = found
        self._own = own
        self._may = own or view.may("operators:write")

    def draw(self) -> None:
        view, t = self._view, self._view.t
        with tag("div", "page-head"):
            with tag("div"):
                tag("h1", text=t("nav.sessions") if self._own else t("sessions.of_other"))
                tag("p", "lead", t("sessions.lead"))
            tag("div", "space")
            with tag("div", "row-flex"):
                if not self._own:
                    link(view.href("/operators"), t("sessions.to_operators"), "btn")
                others = [each for each in self._found.items if not each.current]
                if self._may and len(others) > 1:
                    button(t("sessions.end_others"), partial(view.start, partial(self._end, others)), classes="danger")
                if self._own:
                    button(t("password.change"), self._change_password)
        with tag("section", "card flush"):
            if not self._found.items:
                states.empty(t("sessions.none"), t("sessions.none.why"), "devices")
                return
            self._table()

    def _table(self) -> None:
        t = self._view.t
        columns = [
            Column("address", t("audit.address"), "code"),
            Column("agent", t("sessions.agent"), "wide"),
            Column("begun", t("sessions.begun"), "time"),
            Column("used", t("sessions.used"), "time"),
            Column("ends", t("sessions.ends"), "time"),
            Column("act", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.sessions"), columns)
        table.show([self._row(each) for each in self._found.items])
        table.on_act(self._act)

    def _row(self, each: Session) -> Row:
        t = self._view.t
        end = [Part(t("sessions.end"), action="end")] if self._may else []
        cells = {
            "address": [Part(each.address or "\N{EN DASH}", kind="mono")],
            "agent": [Part(each.user_agent or "\N{EN DASH}", kind="clip", title=each.user_agent)],
            "begun": when(each.created_at, ""),
            "used": when(each.used_at, ""),
            "ends": when(each.expires_at, ""),
            "act": [Part(t("sessions.current"), badge="good")] if each.current else end,
        }
        return Row(str(each.id), cells, name=each.address or "")

    def _act(self, _action: str, session_id: int | str) -> None:
        chosen = [each for each in self._found.items if str(each.id) == session_id]
        self._view.start(partial(self._end, chosen))

    async def _end(self, chosen: list[Session]) -> None:
        view, t = self._view, self._view.t
        question = Question(
            title=t.n("sessions.end.title", len(chosen)),
            consequence=t("sessions.end.consequence"),
            action=t("sessions.end"),
            danger=True,
            asks_reason=False,
            call=(lambda _: end_call(chosen[0])) if len(chosen) == 1 else None,
        )
        if await view.ask(question) is None:
            return
        for each in chosen:
            wanted = end_call(each)
            try:
                await view.api.call(wanted.method, wanted.path)
            except Problem as problem:
                if problem.code != "not_found":  # it ended by itself
                    raise
        view.tell(t.n("sessions.ended", len(chosen)))
        view.redraw()

    def _change_password(self) -> None:
        view, t = self._view, self._view.t

        def build() -> None:
            password_field(view, "old", t("password.old"), present=True)
            password_field(view, "new", t("password.new"))
            password_field(view, "again", t("password.again"))

        def call(values: Mapping[str, str]) -> Call:
            return Call("PUT", "/me/password", body=PasswordChange(values["old"], values["new"]))

        async def submit(values: Mapping[str, str]) -> str | None:
            if len(values["new"]) < PASSWORD_MIN:
                return t("password.short", n=PASSWORD_MIN)
            if values["new"] != values["again"]:
                return t("password.differ")
            wanted = call(values)
            await view.api.call(wanted.method, wanted.path, wanted.body)
            view.tell(t("password.changed"))
            view.redraw()
            return None

        consequence = t("password.consequence")
        entry(view, t("password.change"), t("password.change"), build, submit, told=consequence, call=call)


def end_call(session: Session) -> Call:
    return Call("DELETE", f"/sessions/{session.id}")
