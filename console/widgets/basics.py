"""Plain elements with text and attributes. Texts go to the browser as texts: nothing here makes HTML of a string.

    with tag("section", "card"):
        tag("h2", text="Title")
        link(view.href("/bindings"), "Bindings")

Attribute names are written in the code and never begin with ``:``, which NiceGUI would evaluate.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from nicegui.elements.mixins.text_element import TextElement

Handler = Callable[[], Awaitable[None] | None]


class Tag(TextElement):
    """An element of HTML."""

    def __init__(self, name: str, classes: str, text: str, attributes: dict[str, object]) -> None:
        super().__init__(tag=name, text=text)
        if classes:
            self.classes(classes)
        given = {name: value for name, value in attributes.items() if value is not None and value is not False}
        # All at once: NiceGUI tells its listeners of each change, and a page has hundreds of elements.
        self.props.update({name.rstrip("_").replace("_", "-"): value for name, value in given.items()})


def tag(name: str, /, classes: str = "", text: str = "", **attributes: object) -> Tag:
    """``aria_label="…"`` is ``aria-label``, ``for_="…"`` is ``for``; None and False leave an attribute out."""
    return Tag(name, classes, text, attributes)


def link(href: str, text: str = "", classes: str = "", **attributes: object) -> Tag:
    """Within the console: the page changes without a load, and a new tab works all the same."""
    return Tag("a", classes, text, {"href": href, "data-nav": "", **attributes})


def icon(name: str, classes: str = "") -> Tag:
    """Of Material's outlined set, which NiceGUI brings along. Never the only bearer of a meaning."""
    return Tag("span", f"material-icons-outlined {classes}".strip(), name, {"aria-hidden": "true"})


def button(
    text: str, on_click: Handler, *, classes: str = "", icon_name: str = "", label: str = "", **attributes: object
) -> Tag:
    """``label`` names a button that shows only an icon."""
    made = Tag("button", f"btn {classes}".strip(), "" if icon_name else text, {"type": "button", **attributes})
    if label:
        made.props["aria-label"] = label
        made.props["title"] = label
    if icon_name:
        with made:
            icon(icon_name)
            if text:
                tag("span", text=text)

    def clicked() -> Awaitable[None] | None:
        return on_click()

    made.on("click", clicked, [])
    return made


def badge(text: str, tone: str = "", title: str = "") -> Tag:
    """``tone``: good, warn, bad, info or none; the text says the same."""
    return tag("span", f"badge {tone}".strip(), text, title=title or None)


def moment(at: datetime | None, never: str, *, absolute: bool = False) -> Tag:
    """A time: relative, absolute on hover."""
    if at is None:
        return tag("span", "muted", never)
    return tag("rel-time", datetime=at.isoformat(), absolute="" if absolute else None)


def copyable(text: str, label: str) -> Tag:
    made = tag("button", "btn small quiet icon", type="button", data_copy=text, aria_label=label, title=label)
    with made:
        icon("content_copy")
    return made


def set_attribute(element: Any, name: str, value: object) -> None:
    """On an element that is shown already."""
    if value is None or value is False:
        element.props.pop(name, None)
    else:
        element.props[name] = value
    element.update()
