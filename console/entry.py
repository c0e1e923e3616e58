"""Windows with a form: what was typed stays while the admin API finds fault with it, and the fault stands beside it.

Where it stands in the walk: pages that make something new or set a password.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from nicegui import ui

from console.client import Problem, SignedOut
from console.view import View
from console.widgets import states
from console.widgets.basics import button, copyable, tag
from console.widgets.dialogs import SUBMITTED, Call, call_button, window

Submit = Callable[[Mapping[str, str]], Awaitable[str | None]]


def entry(
    view: View,
    title: str,
    action: str,
    build: Callable[[], None],
    submit: Submit,
    *,
    told: str = "",
    wide: bool = False,
    call: Callable[[Mapping[str, str]], Call] | None = None,
) -> None:
    """``submit`` gets the fields by their names; it returns what is wrong, None if all is done. Escape cancels.

    ``call``: what the fields stand for, to be shown.
    """
    with ui.dialog() as dialog, tag("div", "dialog wide" if wide else "dialog"), tag("form", "dialog-form") as form:
        heading = tag("h2", text=title)
        if told:
            tag("p", text=told)
        build()
        fault = tag("p", "fault", role="alert")
        with tag("div", "buttons"):
            if call is not None:
                call_button(view.t, call)
            button(view.t("action.cancel"), dialog.close)
            tag("button", "btn primary", action, type="submit")
    dialog.props["aria-labelledby"] = heading.html_id

    async def run(values: Mapping[str, str]) -> None:
        try:
            wrong = await submit(values)
        except SignedOut:
            raise
        except Problem as problem:
            wrong = states.explain(view.t, problem)
        fault.text = wrong or ""
        if wrong is None:
            dialog.close()

    form.on("submit", lambda event: view.start(partial(run, event.args)), js_handler=SUBMITTED)
    dialog.on("hide", dialog.delete)
    dialog.open()


def show_secret(view: View, title: str, told: str, secret: str) -> None:
    """Once. It is gone with the window."""

    def build(dialog: ui.dialog) -> None:
        states.notice(told, "warn", "key")
        with tag("div", "row-flex"):
            tag("code", "mono secret", secret)
            copyable(secret, view.t("secret.copy"))
        with tag("div", "buttons"):
            button(view.t("secret.kept"), dialog.close, classes="primary")

    window(title, build, wide=True).props("persistent")
