"""Finding the binding of a key that was typed: it goes to the admin API in a body, and into no URL and no log."""

from admin_api.schemas.bindings import Lookup, LookupAnswer
from console.view import View


async def look_up(view: View, key: str) -> None:
    """Leads to the binding, or tells that there is none."""
    answer = await view.api.post("/bindings/lookup", Lookup(key), LookupAnswer)
    if answer.binding is not None:
        view.visit(view.href(f"/bindings/{answer.binding.id}"))
    elif answer.archived:
        view.tell(view.t.n("search.archived_key", answer.archived))
    else:
        view.tell(view.t("search.unknown_key"))
