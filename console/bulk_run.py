"""Changing more bindings than one call may: found page by page, changed batch by batch, with a word on how far it is.

Where it stands in the walk: the list of bindings finds and starts, `Runs` keeps what was started, and whoever opens the
list again sees how far it is.

Decisions:

- What is changed is what was counted and confirmed. A binding that matches only later is not touched.
- A run belongs to the operator who started it and goes on without a browser, as long as that session is signed in and
  this process runs. A run that ended in between has changed whole batches: the audit has each binding.
- One batch at a time, so that a million bindings are no load for anybody else.
"""

import asyncio
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog

from admin_api.schemas.bindings import BindingPage, BindingView
from admin_api.schemas.common import MAX_IDS, Outcome, Results
from console.client import Api, Problem
from console.session import Session

log = structlog.get_logger(__name__)

PAGE_ROWS = 200
BATCH_IDS = 200
STOP_S = 3.0

Change = Callable[[Sequence[int]], Awaitable[Results]]


class Matching(msgspec.Struct, frozen=True):
    """``views``: each of ``ids`` as it was found, if one call may change them all; else empty."""

    ids: Sequence[int]
    views: Sequence[BindingView]


async def collect(api: Api, query: Mapping[str, str], go_on: Callable[[int], bool]) -> Matching | None:
    """What a filter lets through. ``go_on`` hears the count so far; None: it said no. Raises Problem."""
    ids = array("q")
    views: list[BindingView] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await api.get("/bindings", BindingPage, {**query, "sort": "id", "limit": PAGE_ROWS, "cursor": cursor})
        ids.extend(each.id for each in page.items)
        views = [*views, *page.items] if len(ids) <= MAX_IDS else []
        cursor = page.next
        if not go_on(len(ids)):
            return None
    return Matching(ids, views)


class Run:
    """``name``: the action's. ``outcomes`` counts what came of those that were tried."""

    def __init__(self, session: Session, name: str, ids: Sequence[int], change: Change) -> None:
        self.session = session
        self.name = name
        self.total = len(ids)
        self.outcomes: Counter[Outcome] = Counter()
        self.published = True
        self.problem: Problem | None = None
        self.finished = False
        self._ids = ids
        self._change = change
        self._stopping = False

    @property
    def tried(self) -> int:
        return sum(self.outcomes.values())

    @property
    def is_whole(self) -> bool:
        return self.outcomes[Outcome.DONE] == self.total and self.published

    def stop(self) -> None:
        """After the batch that is under way."""
        self._stopping = True

    async def work(self) -> None:
        try:
            while self.tried < self.total and not self._stopping:
                batch = self._ids[self.tried : self.tried + BATCH_IDS]
                results = await self._change(list(batch))
                self.outcomes.update(result.outcome for result in results.results)
                self.published = self.published and results.published
        except Problem as problem:
            self.problem = problem
        except Exception:
            log.exception("a bulk action could not go on", action=self.name, tried=self.tried, total=self.total)
            self.problem = Problem("internal_error")
        finally:
            self.finished = True


class Runs:
    """Of each operator the newest."""

    def __init__(self) -> None:
        self._by_operator: dict[int, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, session: Session) -> Run | None:
        return self._by_operator.get(session.operator.id)

    def start(self, run: Run) -> None:
        self._by_operator[run.session.operator.id] = run
        task = asyncio.create_task(run.work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, run: Run) -> None:
        """Its report was read."""
        if self.of(run.session) is run:
            del self._by_operator[run.session.operator.id]

    def need(self, session: Session) -> bool:
        """Whether a run that is under way spends this session's tokens."""
        return any(run.session is session and not run.finished for run in self._by_operator.values())

    async def aclose(self) -> None:
        """Lets the batches end that are under way."""
        for run in self._by_operator.values():
            run.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
