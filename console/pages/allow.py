"""Letting one more address use a key, for a while or for good, and taking that back.

Where it stands in the walk: the list of intercepts and the page of a binding; ``PUT bindings/ip`` with the version that
was read a moment before.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from admin_api.schemas.bindings import BindingView, Edited, SetNetworks, TimedNetwork
from console import networks
from console.view import View
from console.widgets.basics import Handler


async def allow(view: View, binding_id: int, address: str, lasts: timedelta | None, reason: str, done: Handler) -> None:
    """``lasts`` None: for good. ``done`` draws again, also after it was taken back."""
    found = await view.api.get(f"/bindings/{binding_id}", BindingView)
    before = networks.standing(found.networks, datetime.now(UTC))
    end = None if lasts is None else datetime.now(UTC) + lasts
    wanted = [*before, address if end is None else TimedNetwork(address, end)]
    edited = await _put(view, SetNetworks(binding_id, wanted, None, reason, found.version))
    told = [view.t("allow.done", address=address) if lasts is None else view.t("allow.done_day", address=address)]
    if not edited.published:
        told.append(view.t("bulk.unpublished"))
    view.tell(" ".join(told), undo=partial(_take_back, view, edited.binding, before, done) if before else None)
    view.start(done)


async def _take_back(view: View, changed: BindingView, before: Sequence[str | TimedNetwork], done: Handler) -> None:
    await _put(view, SetNetworks(changed.id, list(before), None, "", changed.version))
    view.tell(view.t("action.undone"))
    view.start(done)


async def _put(view: View, wanted: SetNetworks) -> Edited:
    return await view.api.put("/bindings/ip", wanted, Edited)
