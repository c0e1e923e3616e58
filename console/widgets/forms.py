"""Fields: the browser's own inputs with label, hint and fault, and the value as the server knows it.

A field's first value is an attribute (``^value``), never Vue's property of that name: that one is put back on every
drawing, and takes from under the fingers what was typed since.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from nicegui.events import GenericEventArguments

from console.widgets.basics import Tag, set_attribute, tag

V = TypeVar("V", str, bool)
Changed = Callable[[], Awaitable[None] | None]


class Field(Generic[V]):
    """``value`` follows what is typed; ``fault`` shows why it will not do, None that it will."""

    def __init__(self, element: Tag, value: V, fault: Tag | None, changed: Changed | None) -> None:
        self.element = element
        self.value: V = value
        self._fault = fault
        self._changed = changed

    def heard(self, event: GenericEventArguments) -> Awaitable[None] | None:
        self.value = event.args
        return self._changed() if self._changed else None

    def put(self, value: str) -> None:
        """In place of what was typed."""
        code = f"(getHtmlElement({self.element.id}) ?? {{}}).value = {json.dumps(value)}"
        self.element.client.run_javascript(code)

    def refuse(self, fault: str | None) -> None:
        if self._fault is not None:
            self._fault.text = fault or ""
            self._fault.set_visibility(bool(fault))
        set_attribute(self.element, "aria-invalid", "true" if fault else None)

    def enable(self, *, enabled: bool) -> None:
        set_attribute(self.element, "disabled", not enabled)


def text_field(
    label: str,
    value: str = "",
    *,
    hint: str = "",
    changed: Changed | None = None,
    entered: Changed | None = None,
    lines: int = 1,
    bare: bool = False,
    **attributes: object,
) -> Field[str]:
    """``entered``: Enter was pressed. ``bare``: the label is for screen readers only. ``changed``: at each key."""
    kind = "textarea" if lines > 1 else "input"
    own: dict[str, object] = {"rows": lines} if lines > 1 else {"type": "text"}
    own |= {"autocomplete": "off", "spellcheck": "false"} | attributes
    element, fault = _labelled(kind, label, hint, own, bare=bare)
    if lines > 1:
        element.text = value
    else:
        element.props["^value"] = value
    field = Field(element, value, fault, changed)
    # Not throttled: a click that follows at once must find what was typed before it.
    element.on("input", field.heard, js_handler="(event) => emit(event.target.value)")
    if entered is not None:
        _on_enter(element, field, entered)
    return field


def choice(
    label: str,
    options: Mapping[str, str],
    value: str = "",
    *,
    hint: str = "",
    changed: Changed | None = None,
    bare: bool = False,
    **attributes: object,
) -> Field[str]:
    """One of ``options``: value to text."""
    element, fault = _labelled("select", label, hint, attributes, bare=bare)
    with element:
        for option, text in options.items():
            tag("option", text=text, value=option, selected=option == value)
    field = Field(element, value, fault, changed)
    element.on("change", field.heard, js_handler="(event) => emit(event.target.value)")
    return field


def check(label: str, *, value: bool = False, changed: Changed | None = None) -> Field[bool]:
    with tag("label", "row-flex"):
        element = tag("input", type="checkbox", checked=value)
        tag("span", text=label)
    field = Field(element, value, None, changed)
    element.on("change", field.heard, js_handler="(event) => emit(event.target.checked)")
    return field


def _labelled(kind: str, label: str, hint: str, own: dict[str, object], *, bare: bool) -> tuple[Tag, Tag | None]:
    if bare:
        return Tag(kind, "in", "", {"aria-label": label, **own}), None
    with tag("div", "field"):
        caption = tag("label", text=label)
        element = Tag(kind, "in", "", own)
        caption.props["for"] = element.html_id
        described = tag("span", "hint", hint)
        described.set_visibility(bool(hint))
        fault = tag("span", "fault", role="alert")
        fault.set_visibility(False)
        element.props["aria-describedby"] = f"{described.html_id} {fault.html_id}"
    return element, fault


def _on_enter(element: Tag, field: Field[str], entered: Changed) -> None:
    def pressed(event: GenericEventArguments) -> Any:
        field.value = event.args
        return entered()

    handler = "(event) => { if (event.key === 'Enter' && !event.isComposing) emit(event.target.value) }"
    element.on("keydown", pressed, js_handler=handler)
