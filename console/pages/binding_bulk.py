"""What is done to many bindings at once: the question before, the call, what came of it for each, and the way back.

Where it stands in the walk: the list of bindings and the page of one call `apply`.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec

from admin_api.schemas.bindings import (
    ArchivePage,
    Ban,
    BindingMode,
    BindingStatus,
    BindingView,
    Restore,
    SetMode,
    Unban,
    Unbind,
)
from admin_api.schemas.common import Outcome, Results
from console.client import Api
from console.view import View
from console.widgets.dialogs import Answer, Call, Question

Done = Callable[[], Awaitable[None]]
PAGE_ROWS: Final = 200
UNDO_REASON: Final = "undone"


class Action(msgspec.Struct, frozen=True):
    """``name`` is also the end of its message keys."""

    name: str
    danger: bool = False
    asks_duration: bool = False
    asks_mode: bool = False


BAN: Final = Action("ban", danger=True, asks_duration=True)
UNBAN: Final = Action("unban")
UNBIND: Final = Action("unbind", danger=True)
MODE: Final = Action("mode", asks_mode=True)
ACTIONS: Final = (UNBIND, BAN, UNBAN, MODE)


async def ask(view: View, action: Action, count: int, more: str = "", ids: Sequence[int] = ()) -> Answer | None:
    """Names how many and what becomes of them, and ``more``. ``ids``: whose call can be shown."""
    t = view.t
    question = Question(
        title=t.n(f"bulk.{action.name}.title", count),
        consequence="\n".join(filter(None, [t(f"bulk.{action.name}.consequence"), more])),
        action=t.n(f"bulk.{action.name}.do", count),
        danger=action.danger,
        asks_duration=action.asks_duration,
        choices={each.value: t(f"mode.{each.value}.long") for each in BindingMode} if action.asks_mode else {},
        choices_label=t("bindings.mode"),
        call=partial(call, action, ids) if ids else None,
    )
    return await view.ask(question)


async def apply(view: View, action: Action, chosen: Sequence[BindingView], done: Done) -> None:
    """Asks, does, tells what came of it, and offers the way back. ``chosen``: as they were shown."""
    ids = [each.id for each in chosen]
    answer = await ask(view, action, len(ids), ids=ids)
    if answer is None:
        return
    results = await change(view.api, action, answer, ids)
    changed = {result.id for result in results.results if result.outcome is Outcome.DONE}
    undo = partial(_undo, view, action, [each for each in chosen if each.id in changed], done)
    view.tell(report(view, action, results), "good" if len(changed) == len(ids) else "bad", undo if changed else None)
    await done()


def report(view: View, action: Action, results: Results) -> str:
    counts = Counter(result.outcome for result in results.results)
    return told(view, action.name, counts, published=results.published)


def told(view: View, action: str, outcomes: Mapping[Outcome, int], *, published: bool) -> str:
    """How many were changed, and of the others why not."""
    t = view.t
    sentences = [t.n(f"bulk.{action}.done", outcomes.get(Outcome.DONE, 0))]
    sentences += [
        t.n(f"outcome.{outcome.value}", count) for outcome, count in outcomes.items() if outcome is not Outcome.DONE
    ]
    if not published:
        sentences.append(t("bulk.unpublished"))
    return " ".join(sentences)


def call(action: Action, ids: Sequence[int], answer: Answer) -> Call:
    """What is asked of the admin API."""
    chosen = list(ids)
    if action is BAN:
        return Call("POST", "/bindings/ban", body=Ban(chosen, answer.reason, answer.expires_at))
    if action is UNBAN:
        return Call("POST", "/bindings/unban", body=Unban(chosen, answer.reason))
    if action is UNBIND:
        return Call("POST", "/bindings/unbind", body=Unbind(chosen, answer.reason))
    return Call("PUT", "/bindings/mode", body=SetMode(chosen, BindingMode(answer.choice), answer.reason))


async def change(api: Api, action: Action, answer: Answer, ids: Sequence[int]) -> Results:
    """As many as one call may name. Raises Problem."""
    wanted = call(action, ids, answer)
    send = api.put if wanted.method == "PUT" else api.post
    return await send(wanted.path, wanted.body, Results)


async def _undo(view: View, action: Action, before: Sequence[BindingView], done: Done) -> None:
    api = view.api
    if action is BAN:
        await _unban(api, [each for each in before if each.status is BindingStatus.ACTIVE])
        await _ban_again(api, [each for each in before if each.status is BindingStatus.BANNED])
    elif action is UNBAN:
        await _ban_again(api, before)
    elif action is UNBIND:
        await _restore(api, {each.id for each in before})
    else:
        await _set_modes_again(api, before)
    view.tell(view.t("action.undone"))
    await done()


async def _unban(api: Api, bindings: Sequence[BindingView]) -> None:
    if bindings:
        await api.post("/bindings/unban", Unban([each.id for each in bindings], UNDO_REASON), Results)


async def _ban_again(api: Api, bindings: Sequence[BindingView]) -> None:
    alike: dict[tuple[str, datetime | None], list[int]] = defaultdict(list)
    for each in bindings:
        alike[each.ban_reason or "", each.ban_expires_at].append(each.id)
    for (reason, expires_at), ids in alike.items():
        if expires_at is None or expires_at > datetime.now(UTC):
            await api.post("/bindings/ban", Ban(ids, reason, expires_at), Results)


async def _restore(api: Api, binding_ids: set[int]) -> None:
    """What was unbound last lies on top of the archive."""
    found: dict[int, int] = {}
    cursor: str | None = ""
    while cursor is not None and len(found) < len(binding_ids):
        query = {"restored": False, "limit": PAGE_ROWS, "cursor": cursor}
        page = await api.get("/archive", ArchivePage, query)
        for item in page.items:
            if item.binding_id in binding_ids:
                found.setdefault(item.binding_id, item.id)
        cursor = page.next
    if found:
        await api.post("/archive/restore", Restore(list(found.values()), UNDO_REASON), Results)


async def _set_modes_again(api: Api, bindings: Sequence[BindingView]) -> None:
    alike: dict[BindingMode, list[int]] = defaultdict(list)
    for each in bindings:
        alike[each.mode].append(each.id)
    for mode, ids in alike.items():
        await api.put("/bindings/mode", SetMode(ids, mode, UNDO_REASON), Results)
