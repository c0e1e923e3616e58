"""The operators, for administrators: add one, change a role, disable, set another password, remove.

Where it stands in the walk: ``operators`` of the admin API, which keeps the last active administrator one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final, get_args

from admin_api.schemas.operators import Operator, OperatorEdit, OperatorNew, Operators, PasswordReset, RoleName
from console.entry import entry
from console.listing import Listing
from console.view import View
from console.widgets import states
from console.widgets.basics import button, tag
from console.widgets.dialogs import Question
from console.widgets.forms import choice, text_field
from console.widgets.table import Column, DataTable, Part, Row, when

ROLES: Final[tuple[RoleName, ...]] = get_args(RoleName)
PASSWORD_MIN: Final = 12


async def operators(view: View) -> None:
    page = OperatorsPage(view)
    page.draw()
    await page.listing.load()


class OperatorsPage:
    def __init__(self, view: View) -> None:
        self._view = view
        self._may = view.may("operators:write")

    def draw(self) -> None:
        view, t = self._view, self._view.t
        with tag("div", "page-head"):
            with tag("div"):
                tag("h1", text=t("nav.operators"))
                tag("p", "lead", t("operators.lead"))
            tag("div", "space")
            if self._may:
                button(t("operators.add"), self._add, classes="primary")
        self.listing: Listing[Operator] = Listing(
            view, "/operators", Operators, self._make_table, self._row, self._none
        )

    def _make_table(self) -> DataTable:
        t = self._view.t
        columns = [
            Column("name", t("login.name")),
            Column("role", t("field.role"), "status"),
            Column("state", t("bindings.status"), "status"),
            Column("login", t("operators.last_login"), "time"),
            Column("password", t("operators.password_at"), "time"),
            Column("made", t("operators.made"), "time"),
            Column("act", t("binding.act"), "status"),
        ]
        table = DataTable(t, t("nav.operators"), columns)
        table.on_act(self._act)
        return table

    def _row(self, operator: Operator) -> Row:
        view, t = self._view, self._view.t
        state = (
            Part(t("operators.disabled"), badge="warn")
            if operator.disabled
            else Part(t("operators.active"), badge="good")
        )
        is_self = operator.id == view.session.operator.id
        name = [Part(operator.name), *([Part(t("operators.you"), kind="muted")] if is_self else [])]
        actions = [Part(t("sessions.show"), href=view.href("/sessions", {"operator": str(operator.id)}))]
        if self._may:
            toggle = "enable" if operator.disabled else "disable"
            actions += [Part(t(f"operators.{each}"), action=each) for each in ("role", "password", toggle, "remove")]
        cells = {
            "name": name,
            "role": [
                Part(
                    t.known(f"role.{operator.role}", operator.role),
                    badge="info" if operator.role == "admin" else "plain",
                )
            ],
            "state": [state],
            "login": when(operator.last_login_at, t("time.never")),
            "password": when(operator.password_changed_at, ""),
            "made": when(operator.created_at, ""),
            "act": actions,
        }
        return Row(operator.id, cells, name=operator.name)

    def _none(self) -> None:
        states.empty(self._view.t("operators.none"), self._view.t("operators.none.why"), "group")

    # --- what is done ------------------------------------------------------------------------------------------------

    def _add(self) -> None:
        view, t = self._view, self._view.t

        def build() -> None:
            text_field(t("login.name"), maxlength=64, name="name", required=True)
            choice(t("field.role"), {role: t(f"role.{role}") for role in reversed(ROLES)}, "viewer", name="role")
            password_field(view, "password", t("login.password"))

        async def submit(values: Mapping[str, str]) -> str | None:
            role = next(each for each in ROLES if each == values["role"])
            if len(values["password"]) < PASSWORD_MIN:
                return t("password.short", n=PASSWORD_MIN)
            made = await view.api.post(
                "/operators", OperatorNew(values["name"].strip(), role, values["password"]), Operator
            )
            await self._done(t("operators.added", name=made.name))
            return None

        entry(view, t("operators.add"), t("operators.add"), build, submit)

    def _act(self, action: str, operator_id: int | str) -> None:
        operator = next((each for each in self.listing.items if each.id == operator_id), None)
        if operator is None:
            return
        if action == "password":
            self._reset(operator)
        else:
            does = {"role": self._role, "disable": self._disable, "enable": self._enable, "remove": self._remove}
            self._view.start(partial(does[action], operator))

    async def _role(self, operator: Operator) -> None:
        t = self._view.t
        others: dict[str, str] = {role: t(f"role.{role}") for role in ROLES if role != operator.role}
        question = Question(
            title=t("operators.role.title", name=operator.name),
            consequence=t("operators.role.consequence"),
            action=t("operators.role"),
            asks_reason=False,
            choices_label=t("field.role"),
            choices=others,
        )
        answer = await self._view.ask(question)
        if answer is not None:
            role = next(each for each in ROLES if each == answer.choice)
            edited = await self._edit(operator, OperatorEdit(operator.version, role=role))
            await self._changed(edited, OperatorEdit(edited.version, role=operator.role))

    async def _disable(self, operator: Operator) -> None:
        t = self._view.t
        question = Question(
            title=t("operators.disable.title", name=operator.name),
            consequence=t("operators.disable.consequence"),
            action=t("operators.disable"),
            danger=True,
            asks_reason=False,
        )
        if await self._view.ask(question) is not None:
            edited = await self._edit(operator, OperatorEdit(operator.version, disabled=True))
            await self._changed(edited, OperatorEdit(edited.version, disabled=False))

    async def _enable(self, operator: Operator) -> None:
        edited = await self._edit(operator, OperatorEdit(operator.version, disabled=False))
        await self._changed(edited, OperatorEdit(edited.version, disabled=True))

    async def _edit(self, operator: Operator, edit: OperatorEdit) -> Operator:
        return await self._view.api.patch(f"/operators/{operator.id}", edit, Operator)

    async def _changed(self, operator: Operator, back: OperatorEdit) -> None:
        async def undo() -> None:
            await self._edit(operator, back)
            await self._done(self._view.t("action.undone"))

        self._view.tell(self._view.t("operators.changed", name=operator.name), undo=undo)
        await self.listing.load()

    async def _remove(self, operator: Operator) -> None:
        t = self._view.t
        question = Question(
            title=t("operators.remove.title", name=operator.name),
            consequence=t("operators.remove.consequence"),
            action=t("operators.remove"),
            danger=True,
            asks_reason=False,
        )
        if await self._view.ask(question) is not None:
            await self._view.api.call("DELETE", f"/operators/{operator.id}")
            await self._done(t("operators.removed", name=operator.name))

    def _reset(self, operator: Operator) -> None:
        view, t = self._view, self._view.t

        def build() -> None:
            password_field(view, "password", t("password.new"))

        async def submit(values: Mapping[str, str]) -> str | None:
            if len(values["password"]) < PASSWORD_MIN:
                return t("password.short", n=PASSWORD_MIN)
            path = f"/operators/{operator.id}/password"
            await view.api.post(path, PasswordReset(values["password"]), Operator)
            await self._done(t("operators.reset", name=operator.name))
            return None

        title = t("operators.password.title", name=operator.name)
        entry(view, title, t("operators.password"), build, submit, told=t("operators.password.consequence"))

    async def _done(self, told: str) -> None:
        self._view.tell(told)
        await self.listing.load()


def password_field(view: View, name: str, label: str, *, present: bool = False) -> None:
    """``present``: the one that is in use, which a browser may fill in."""
    text_field(
        label,
        hint="" if present else view.t("password.hint", n=PASSWORD_MIN),
        type="password",
        autocomplete="current-password" if present else "new-password",
        maxlength=1024,
        name=name,
        required=True,
    )
