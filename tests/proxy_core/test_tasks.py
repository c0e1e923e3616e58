"""Background tasks: heard when they fail, tried again, and none left behind at the end."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from proxy_core.tasks import LONGEST_PAUSE_S, Tasks
from tests.support.waiting import LIMIT_S, eventually

pytestmark = pytest.mark.anyio


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_nobody_awaits_does_not_fail_in_silence():
    async def fails() -> None:
        raise ValueError("broken")

    tasks = Tasks()
    with capture_logs() as logs:
        task = tasks.start(fails(), name="the task")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert [(line["task"], str(line["exc_info"])) for line in logs] == [("the task", "broken")]
    assert repr(tasks) == "Tasks(open, running=[])"


async def test_a_failing_step_is_repeated_after_growing_pauses_until_it_succeeds():
    pauses, outcomes = [], iter([True, *[False] * 9, True, False])

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def step() -> None:
        outcome = next(outcomes, None)
        if outcome is None:
            await forever()
        if not outcome:
            raise ValueError("broken")

    tasks = Tasks(sleep=sleep)
    with capture_logs() as logs:
        tasks.repeat(step, every_s=0.1, name="steps")
        await eventually(lambda: len(pauses) == 12)
    assert pauses == [0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, *[LONGEST_PAUSE_S] * 3, 0.1, 0.5]
    assert len(logs) == 10
    await tasks.aclose()


async def test_closing_ends_every_task_and_waits_for_its_clean_up():
    ended = []

    async def works() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    tasks = Tasks()
    for _ in range(3):
        tasks.start(works(), name="works")
    await asyncio.sleep(0)
    await tasks.aclose()
    await tasks.aclose()
    assert ended == [True] * 3
    with pytest.raises(RuntimeError, match="closed"):
        tasks.start(forever(), name="late")


async def test_closing_that_is_cut_short_leaves_no_task_uncancelled():
    stubborn_may_end = asyncio.Event()

    async def stubborn() -> None:
        try:
            await forever()
        finally:
            await stubborn_may_end.wait()

    tasks = Tasks()
    first, second = tasks.start(stubborn(), name="stubborn"), tasks.start(forever(), name="other")
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(tasks.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing, second])
    assert second.cancelled()
    stubborn_may_end.set()
    await tasks.aclose()
    assert first.cancelled()


async def test_a_swallowed_cancellation_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr("proxy_core.tasks.CANCEL_AGAIN_AFTER_S", 0.01)

    async def swallows_one() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        await forever()

    tasks = Tasks()
    task = tasks.start(swallows_one(), name="swallows one")
    await asyncio.sleep(0)
    done, _ = await asyncio.wait([asyncio.ensure_future(tasks.aclose())], timeout=LIMIT_S)
    assert done
    assert task.cancelled()


async def test_a_task_may_close_its_own_owner():
    tasks = Tasks()
    task = tasks.start(tasks.aclose(), name="closes")
    await asyncio.wait([task])
    assert task.exception() is None
