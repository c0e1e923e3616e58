"""How far an action over all matching bindings is: counting, changing, and what came of it.

Where it stands in the walk: a card above the list of bindings; `console.bulk_run` does the work.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from nicegui import ui

from console.bulk_run import Matching, Run, collect
from console.client import SignedOut
from console.pages import binding_bulk
from console.pages.binding_bulk import Action, Done
from console.view import View
from console.widgets import states
from console.widgets.basics import Tag, button, set_attribute, tag

LOOK_EVERY_S = 0.5


class RunCard:
    """``done``: called when a run has ended while somebody looks."""

    def __init__(self, view: View, done: Done) -> None:
        self._view = view
        self._done = done
        self._counting = False
        self._place = tag("section", "card stack", role="status", aria_label=view.t("run.label"))
        self._place.set_visibility(False)
        self._told: Tag
        self._bar: Tag
        self._timer = ui.timer(LOOK_EVERY_S, self._look, active=False, immediate=False)
        self._show_or_hide()

    # --- counting ----------------------------------------------------------------------------------------------------

    async def collect(self, query: Mapping[str, str]) -> Matching | None:
        """All that match; None if it was stopped, or the page was closed. Raises Problem."""
        t = self._view.t
        self._counting = True
        self._draw(t.n("run.counting", 0), 0, self._stop_counting)
        try:
            return await collect(self._view.api, query, self._counted)
        finally:
            self._show_or_hide()

    def _counted(self, count: int) -> bool:
        if not self._place.is_deleted:
            self._told.text = self._view.t.n("run.counting", count)
        return self._counting and not self._place.is_deleted

    def _stop_counting(self) -> None:
        self._counting = False

    # --- changing ----------------------------------------------------------------------------------------------------

    async def apply(self, action: Action, ids: Sequence[int]) -> None:
        """Asks first. There is no undo for so many."""
        view = self._view
        under_way = view.runs.of(view.session)
        if under_way is not None and not under_way.finished:
            view.tell(view.t("run.one_at_a_time"), "bad")
            return
        answer = await binding_bulk.ask(view, action, len(ids), view.t("run.no_undo"))
        if answer is not None:
            run = Run(view.session, action.name, ids, partial(binding_bulk.change, view.api, action, answer))
            view.runs.start(run)
            self._show(run)

    def _show_or_hide(self) -> None:
        run = self._view.runs.of(self._view.session)
        if self._place.is_deleted:
            return
        if run is None:
            self._put_away()
        elif run.finished:
            self._report(run)
        else:
            self._show(run)

    def _show(self, run: Run) -> None:
        self._draw("", run.total, run.stop)
        with self._place:
            tag("p", "muted", self._view.t("run.goes_on"))
        self._timer.activate()
        self._tell(run)

    def _tell(self, run: Run) -> None:
        t = self._view.t
        far = t("run.far", tried=f"{run.tried:,}", total=f"{run.total:,}")
        self._told.text = t.pair(t(f"bulk.{run.name}"), far)
        set_attribute(self._bar, "value", run.tried)

    async def _look(self) -> None:
        run = self._view.runs.of(self._view.session)
        if run is None:
            self._put_away()
        elif run.finished:
            self._report(run)
            await self._done()
        else:
            self._tell(run)

    def _report(self, run: Run) -> None:
        view, t = self._view, self._view.t
        told = [binding_bulk.told(view, run.name, run.outcomes, published=run.published)]
        if run.tried < run.total:
            told.append(t.n("run.untried", run.total - run.tried))
        if isinstance(run.problem, SignedOut):
            told.append(t("run.signed_out"))
        elif run.problem is not None:
            told.append(states.explain(t, run.problem))
        self._timer.deactivate()
        self._place.clear()
        self._place.set_visibility(True)
        with self._place:
            states.notice(" ".join(told), "good" if run.is_whole else "bad", "task_alt" if run.is_whole else "error")
            with tag("div", "row-flex"):
                button(t("action.close"), partial(self._forget, run), classes="small")

    def _forget(self, run: Run) -> None:
        self._view.runs.forget(run)
        self._put_away()

    # --- drawing -----------------------------------------------------------------------------------------------------

    def _draw(self, told: str, total: int, stop: Callable[[], None]) -> None:
        """``total`` 0: nobody knows yet how far it is."""

        def stopped() -> None:
            stop()
            set_attribute(stopper, "disabled", value=True)

        self._timer.deactivate()
        self._place.clear()
        self._place.set_visibility(True)
        with self._place, tag("div", "row-flex"):
            self._told = tag("b", text=told)
            self._bar = tag("progress", max=total or None, aria_label=self._view.t("run.label"))
            stopper = button(self._view.t("run.stop"), stopped, classes="small")

    def _put_away(self) -> None:
        self._timer.deactivate()
        self._place.clear()
        self._place.set_visibility(False)
