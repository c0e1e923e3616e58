"""Actions over more bindings than one call may change, without a browser: batches, the end in between, the report."""

import asyncio
import uuid
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from admin_api.schemas.auth import Me, SignedIn
from admin_api.schemas.bindings import BindingMode, BindingPage, BindingStatus, BindingView
from admin_api.schemas.common import MAX_IDS, Outcome, Result, Results
from console.bulk_run import BATCH_IDS, Run, Runs, collect
from console.client import Api, Backend, Problem
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


def binding(number: int) -> BindingView:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    return BindingView(
        id=number, fingerprint="0" * 64, hint="abcd…wxyz", status=BindingStatus.ACTIVE, ban_reason=None,
        ban_expires_at=None, mode=BindingMode.INHERIT, note="", networks=[], network_count=0, first_used_at=now,
        last_used_at=now, last_ip=None, request_count=0, intercept_count=0, version=1,
    )  # fmt: skip


class AdminApi:
    """``GET /bindings`` of so many bindings, as the real one pages them; remembers what was asked for."""

    def __init__(self, count: int) -> None:
        self.asked: list[httpx.QueryParams] = []
        self._count = count

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.params)
        begin, limit = int(request.url.params.get("cursor", 1)), int(request.url.params["limit"])
        end = min(begin + limit, self._count + 1)
        page = BindingPage([binding(number) for number in range(begin, end)], str(end) if end <= self._count else None)
        return httpx.Response(200, content=msgspec.json.encode(page))

    def seen_by(self, session: Session) -> Api:
        return Api(Backend("http://admin.test", httpx.MockTransport(self)), session)


@pytest.mark.parametrize("count", [0, 1, MAX_IDS, MAX_IDS + 1])
async def test_all_that_match_are_found_with_what_undo_needs_if_one_call_can_change_them(session, count):
    admin, counts = AdminApi(count), []

    def go_on(found: int) -> bool:
        counts.append(found)
        return True

    matching = await collect(admin.seen_by(session), {"note": "x"}, go_on)
    assert matching is not None
    assert list(matching.ids) == list(range(1, count + 1))
    assert [each.id for each in matching.views] == (list(matching.ids) if count <= MAX_IDS else [])
    assert counts == sorted(counts)
    assert counts[-1] == count
    assert {(each["note"], each["sort"]) for each in admin.asked} == {("x", "id")}


async def test_who_stops_counting_asks_for_no_other_page(session):
    admin = AdminApi(MAX_IDS)
    assert await collect(admin.seen_by(session), {}, lambda _: False) is None
    assert len(admin.asked) == 1


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
