"""What a place shows when it has nothing to show: empty, failed. And a problem in words."""

from console.client import Problem
from console.i18n import Texts
from console.widgets.basics import Handler, Tag, button, icon, tag


def explain(t: Texts, problem: Problem) -> str:
    """What the admin API refused, in the operator's language; its own text only where it names a field."""
    values = {"store": problem.extra.get("store", "?")} if problem.code == "store_unavailable" else {}
    told = t.known(f"problem.{problem.code}", problem.detail or problem.code, **values)
    faults = "; ".join(f"{fault.get('field', '')}: {fault.get('detail', '')}" for fault in problem.faults[:3])
    return f"{told} ({faults})" if faults else told


def empty(title: str, why: str, icon_name: str = "inbox") -> Tag:
    """Says what is missing and why. Actions may be put into it: ``with empty(…): button(…)``."""
    with tag("div", "empty") as area:
        icon(icon_name)
        tag("h2", text=title)
        tag("p", text=why)
    return area


def passes(problem: Problem) -> bool:
    """Whether it may be over in a while, so that it is worth looking again."""
    return problem.code in ("store_unavailable", "unreachable")


def failed(t: Texts, problem: Problem, retry: Handler) -> Tag:
    """When a store is away, also what is enforced without it."""
    store = problem.extra.get("store")
    with tag("div", "empty", role="alert") as area:
        icon("cloud_off")
        tag("h2", text=t("state.failed"))
        tag("p", text=explain(t, problem))
        if problem.code == "store_unavailable" and store in ("redis", "postgresql"):
            tag("p", text=t(f"degraded.{store}"))
        if passes(problem):
            tag("p", "muted", t("state.looks_again"))
        button(t("state.retry"), retry)
    return area


def notice(text: str, tone: str = "", icon_name: str = "info") -> Tag:
    """A sentence that stands out. ``tone``: good, warn, bad or none."""
    with tag("div", f"notice {tone}".strip(), role="status") as area:
        icon(icon_name)
        tag("div", text=text)
    return area
