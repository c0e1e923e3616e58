"""Actions over more bindings than one call may change, without a browser: batches, the end in between, the report."""

import asyncio
import uuid

import pytest

from admin_api.schemas.auth import Me, SignedIn
from admin_api.schemas.common import MAX_IDS, Outcome, Result, Results
from console.bulk_run import BATCH_IDS, Run, Runs
from console.client import Problem
from console.session import Session
from tests.support.clocks import FakeClock

pytestmark = pytest.mark.anyio

IDS = range(1, 2 * BATCH_IDS + 2)


@pytest.fixture
def session() -> Session:
    return session_of(1)


def session_of(operator: int) -> Session:
    me = Me("user", operator, "chen", "admin", ["bindings:write"])
    return Session(SignedIn("access", 900, "refresh", uuid.UUID(int=1), me), None, "", FakeClock())


class House:
    """Changes what it is told to, and remembers the batches. It waits before each while ``open`` is not set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails_at = 0
        self.outcome = Outcome.DONE

    async def change(self, ids) -> Results:
        self.batches.append(ids)
        await self.open.wait()
        if len(self.batches) == self.fails_at:
            raise Problem("store_unavailable", 503)
        return Results([Result(each, self.outcome) for each in ids], published=True)


async def test_each_binding_is_changed_once_in_batches_that_one_call_takes(session):
    house = House()
    run = Run(session, "ban", IDS, house.change)
    await run.work()
    assert [each for batch in house.batches for each in batch] == list(IDS)
    assert max(map(len, house.batches)) == BATCH_IDS <= MAX_IDS
    assert (run.finished, run.is_whole, run.tried) == (True, True, len(IDS))


async def test_a_stop_lets_the_batch_end_that_is_under_way_and_touches_no_other(session):
    house = House()
    house.open.clear()
    run = Run(session, "ban", IDS, house.change)
    working = asyncio.create_task(run.work())
    await asyncio.sleep(0)
    run.stop()
    house.open.set()
    await working
    assert house.batches == [list(IDS[:BATCH_IDS])]
    assert (run.finished, run.is_whole, run.tried) == (True, False, BATCH_IDS)


async def test_a_problem_ends_it_and_the_report_tells_how_far_it_came(session):
    house = House()
    house.fails_at = 2
    run = Run(session, "ban", IDS, house.change)
    await run.work()
    assert (run.finished, run.is_whole, run.tried, len(house.batches)) == (True, False, BATCH_IDS, 2)
    assert run.problem is not None
    assert run.problem.code == "store_unavailable"


async def test_what_came_to_nothing_is_no_success(session):
    house = House()
    house.outcome = Outcome.NOT_FOUND
    run = Run(session, "ban", IDS, house.change)
    await run.work()
    assert not run.is_whole
    assert run.outcomes == {Outcome.NOT_FOUND: len(IDS)}


async def test_a_session_is_needed_while_its_run_is_under_way_and_its_operator_finds_the_run_again(session):
    house, runs = House(), Runs()
    house.open.clear()
    run = Run(session, "ban", IDS, house.change)
    runs.start(run)
    assert runs.need(session)
    assert not runs.need(session_of(1))
    assert runs.of(session_of(1)) is run
    assert runs.of(session_of(2)) is None
    house.open.set()
    await runs.aclose()
    assert run.finished
    assert not runs.need(session)
    runs.forget(run)
    assert runs.of(session) is None
