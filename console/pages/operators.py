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
from console.widgets.dialogs import Call, Question
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

        def call(values: Mapping[str, str]) -> Call:
            new = OperatorNew(values["name"].strip(), role_of(values["role"]), values["password"])
            return Call("POST", "/operators", body=new)

        async def submit(values: Mapping[str, str]) -> str | None:
            if len(values["password"]) < PASSWORD_MIN:
                return t("password.short", n=PASSWORD_MIN)
            wanted = call(values)
            made = await view.api.post(wanted.path, wanted.body, Operator)
            await self._done(t("operators.added", name=made.name))
            return None

        entry(view, t("operators.add"), t("operators.add"), build, submit, call=call)

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
            call=lambda answer: edit_call(operator, OperatorEdit(operator.version, role=role_of(answer.choice))),
        )
        answer = await self._view.ask(question)
        if answer is not None:
            edited = await self._edit(operator, OperatorEdit(operator.version, role=role_of(answer.choice)))
            await self._changed(edited, OperatorEdit(edited.version, role=operator.role))

    async def _is_sure(self, operator: Operator, action: str, call: Call) -> bool:
        """``action``: the middle of its message keys."""
        t = self._view.t
        question = Question(
            title=t(f"operators.{action}.title", name=operator.name),
            consequence=t(f"operators.{action}.consequence"),
            action=t(f"operators.{action}"),
            danger=True,
            asks_reason=False,
            call=lambda _: call,
        )
        return await self._view.ask(question) is not None

    async def _disable(self, operator: Operator) -> None:
        edit = OperatorEdit(operator.version, disabled=True)
        if await self._is_sure(operator, "disable", edit_call(operator, edit)):
            edited = await self._edit(operator, edit)
            await self._changed(edited, OperatorEdit(edited.version, disabled=False))

    async def _enable(self, operator: Operator) -> None:
        edited = await self._edit(operator, OperatorEdit(operator.version, disabled=False))
        await self._changed(edited, OperatorEdit(edited.version, disabled=True))

    async def _edit(self, operator: Operator, edit: OperatorEdit) -> Operator:
        wanted = edit_call(operator, edit)
        return await self._view.api.patch(wanted.path, wanted.body, Operator)

    async def _changed(self, operator: Operator, back: OperatorEdit) -> None:
        async def undo() -> None:
            await self._edit(operator, back)
            await self._done(self._view.t("action.undone"))

        self._view.tell(self._view.t("operators.changed", name=operator.name), undo=undo)
        await self.listing.load()

    async def _remove(self, operator: Operator) -> None:
        wanted = Call("DELETE", f"/operators/{operator.id}")
        if await self._is_sure(operator, "remove", wanted):
            await self._view.api.call(wanted.method, wanted.path)
            await self._done(self._view.t("operators.removed", name=operator.name))

    def _reset(self, operator: Operator) -> None:
        view, t = self._view, self._view.t

        def build() -> None:
            password_field(view, "password", t("password.new"))

        def call(values: Mapping[str, str]) -> Call:
            return Call("POST", f"/operators/{operator.id}/password", body=PasswordReset(values["password"]))

        async def submit(values: Mapping[str, str]) -> str | None:
            if len(values["password"]) < PASSWORD_MIN:
                return t("password.short", n=PASSWORD_MIN)
            wanted = call(values)
            await view.api.post(wanted.path, wanted.body, Operator)
            await self._done(t("operators.reset", name=operator.name))
            return None

        title, consequence = t("operators.password.title", name=operator.name), t("operators.password.consequence")
        entry(view, title, t("operators.password"), build, submit, told=consequence, call=call)

    async def _done(self, told: str) -> None:
        self._view.tell(told)
        await self.listing.load()


def edit_call(operator: Operator, edit: OperatorEdit) -> Call:
    return Call("PATCH", f"/operators/{operator.id}", body=edit)


def role_of(name: str) -> RoleName:
    return next(each for each in ROLES if each == name)


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
