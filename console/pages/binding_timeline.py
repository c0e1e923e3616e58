"""What happened to a binding, latest first: networks it got, operators' edits, refused and observed requests.

Where it stands in the walk: on the page of a binding; ``GET bindings/{id}/timeline``.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from admin_api.schemas.bindings import Timeline, TimelineEntry, TimelineKind
from console.view import View
from console.widgets.basics import Tag, button, icon, moment, tag

ICONS = {TimelineKind.NETWORK: "lan", TimelineKind.AUDIT: "edit", TimelineKind.INTERCEPT: "block"}
PAGE_ENTRIES = 50
FIELDS = ("status", "ban_reason", "mode", "note", "networks")


class TimelineList:
    """Grows by a page each time."""

    def __init__(self, view: View, binding_id: int) -> None:
        self._view = view
        self._binding_id = binding_id
        with tag("section", "card flush"):
            with tag("div", "card-head"):
                tag("h2", text=view.t("timeline.title"))
            self._list = tag("ol", "timeline")
            self._foot = tag("div", "list-foot")

    def draw(self, timeline: Timeline) -> None:
        t = self._view.t
        with self._list:
            for entry in timeline.items:
                self._entry(entry)
        self._foot.clear()
        with self._foot:
            if timeline.next is not None:
                more = partial(self._view.start, partial(self._more, timeline.next))
                button(t("timeline.older"), more, classes="small")
            else:
                tag("span", text=t("timeline.end"))

    async def _more(self, cursor: str) -> None:
        path = f"/bindings/{self._binding_id}/timeline"
        self.draw(await self._view.api.get(path, Timeline, {"limit": PAGE_ENTRIES, "cursor": cursor}))

    def _entry(self, entry: TimelineEntry) -> Tag:
        with tag("li") as item:
            icon(ICONS[entry.kind])
            with tag("div", "what"):
                draw = {
                    TimelineKind.NETWORK: self._network,
                    TimelineKind.AUDIT: self._audit,
                    TimelineKind.INTERCEPT: self._intercept,
                }
                draw[entry.kind](entry.data)
            moment(entry.at, "")
        return item

    def _network(self, data: Mapping[str, Any]) -> None:
        t = self._view.t
        source = t.known(f"source.{data.get('source')}", str(data.get("source")))
        tag("div", text=t("timeline.network", network=data.get("network"), source=source))

    def _audit(self, data: Mapping[str, Any]) -> None:
        t = self._view.t
        action = str(data.get("action"))
        what = t.known(f"edit.{action.removeprefix('binding:')}", action)
        tag("div", text=t("timeline.audit", actor=data.get("actor"), what=what))
        for name, old, new in changes(data.get("before"), data.get("after")):
            tag("div", "muted mono", t.pair(t(f"bindings.{name}"), f"{old} \N{RIGHTWARDS ARROW} {new}"))
        if data.get("reason"):
            tag("div", "muted", t("timeline.reason", reason=data["reason"]))

    def _intercept(self, data: Mapping[str, Any]) -> None:
        t = self._view.t
        reason = str(data.get("reason"))
        verdict = t("verdict.refuse" if data.get("enforced") else "verdict.observe")
        count = int(data.get("repeat_count") or 1)
        times = f" \N{MULTIPLICATION SIGN}{count:,}" if count > 1 else ""
        why = t.known(f"reason.{reason}", reason)
        tag("div", text=t.pair(verdict, t.listed([f"{data.get('client')}{times}", why])))
        tag("div", "muted mono", f"{data.get('method')} {data.get('path')}")
        if data.get("user_agent"):
            tag("div", "muted", str(data["user_agent"])[:200])


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Field, old and new, of what an edit changed; nothing for a binding that came or went."""
    if before is None or after is None:
        return []
    return [
        (name, _shown(before.get(name)), _shown(after.get(name)))
        for name in FIELDS
        if before.get(name) != after.get(name)
    ]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "\N{EN DASH}" if value in (None, "") else str(value)
