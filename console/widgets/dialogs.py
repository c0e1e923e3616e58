"""Questions to an operator: what will happen, to how many, and why it is done."""

import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import msgspec
from nicegui import ui

from console.i18n import Texts
from console.widgets.basics import button, copyable, tag
from console.widgets.forms import choice, text_field

DURATIONS: dict[str, timedelta | None] = {
    "good": None,
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}

SUBMITTED = "(event) => { event.preventDefault(); emit(Object.fromEntries(new FormData(event.target))) }"
"""The fields as they are at that moment: what was typed last may not have reached the server yet."""

TYPED = """(event) => {
  const typed = new FormData(event.target.form);
  for (const field of event.target.form.querySelectorAll("input[type=password]")) typed.set(field.name, "…");
  emit(Object.fromEntries(typed));
}"""
"""The same to be shown: nothing is submitted, and passwords stay in the browser."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """``consequence`` names what will happen. ``choices``: value to text, the first one chosen."""

    title: str
    consequence: str
    action: str
    danger: bool = False
    asks_reason: bool = True
    asks_duration: bool = False
    choices_label: str = ""
    choices: Mapping[str, str] = {}
    call: "Callable[[Answer], Call] | None" = None


class Answer(msgspec.Struct, frozen=True):
    """``expires_at`` None: for good."""

    reason: str = ""
    expires_at: datetime | None = None
    choice: str = ""


async def ask(t: Texts, question: Question) -> Answer | None:
    """None: the operator thought better of it. Escape and a click beside it cancel."""
    with ui.dialog() as dialog, tag("div", "dialog"), tag("form", "dialog-form") as form:
        heading = tag("h2", text=question.title)
        told = tag("p", text=question.consequence)
        dialog.props["aria-labelledby"] = heading.html_id
        dialog.props["aria-describedby"] = told.html_id
        if question.choices:
            choice(question.choices_label, question.choices, next(iter(question.choices)), name="choice")
        if question.asks_duration:
            names = {name: t(f"duration.{name}") for name in DURATIONS}
            choice(t("duration.label"), names, "good", name="duration")
        if question.asks_reason:
            text_field(t("reason.label"), maxlength=500, name="reason")
        with tag("div", "buttons"):
            if question.call is not None:
                _call_button(t, question.call)
            button(t("action.cancel"), lambda: dialog.submit(None), autofocus=not question.asks_reason)
            style = "danger solid" if question.danger else "primary"
            tag("button", f"btn {style}", question.action, type="submit")
        form.on("submit", lambda event: dialog.submit(event.args), js_handler=SUBMITTED)
    try:
        submitted = await dialog
    finally:
        dialog.delete()
    return None if submitted is None else _answer(submitted)


def _call_button(t: Texts, call: "Callable[[Answer], Call]") -> None:
    call_button(t, lambda values: call(_answer(values)))


def call_button(t: Texts, call: "Callable[[Mapping[str, str]], Call]") -> None:
    """Within a form: shows the request that it stands for, with what is typed at that moment."""
    made = tag("button", "btn quiet aside", t("action.call"), type="button")
    made.on("click", lambda event: show_call(t, call(event.args)), js_handler=TYPED)


def _answer(values: Mapping[str, str]) -> Answer:
    lasts = DURATIONS.get(values.get("duration", ""))
    expires_at = None if lasts is None else datetime.now(UTC) + lasts
    return Answer(values.get("reason", "").strip(), expires_at, values.get("choice", ""))


class Call(msgspec.Struct, frozen=True):
    """A request to the admin API. ``query``: what is empty is left out. ``body`` None: there is none."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: object = None

    def command(self) -> str:
        """For a shell, with API and AUTH as the README sets them."""
        query = urlencode({name: value for name, value in self.query.items() if value})
        method = "" if self.method == "GET" else f" -X {self.method}"
        command = f'curl -sS -f -H "$AUTH"{method} "$API{self.path}{"?" if query else ""}{query}"'
        if self.body is None:
            return command
        sent = shlex.quote(msgspec.json.encode(self.body).decode())
        return f'{command} -H "Content-Type: application/json" -d {sent}'


def show_call(t: Texts, call: Call) -> None:
    """The request that a form or a list stands for, to be copied."""
    command = call.command()

    def build(dialog: ui.dialog) -> None:
        tag("p", "muted", t("call.why"))
        tag("pre", "code mono", command)
        with tag("div", "buttons"):
            copyable(command, t("call.title"))
            button(t("action.close"), dialog.close, autofocus=True)

    window(t("call.title"), build, wide=True)


def window(title: str, build: Callable[[ui.dialog], None], *, wide: bool = False) -> ui.dialog:
    """A dialog of any content, open already; it deletes itself when it is closed."""
    with ui.dialog() as dialog, tag("div", f"dialog {'wide' if wide else ''}".strip()):
        heading = tag("h2", text=title)
        dialog.props["aria-labelledby"] = heading.html_id
        build(dialog)
    dialog.on("hide", dialog.delete)
    dialog.open()
    return dialog
