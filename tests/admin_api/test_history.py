"""``/dashboard/history``: figures by the hour and the day, and an honest word where they are not all that happened."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from proxy_core.histogram import BUCKETS, Histogram

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
FIGURES = ("requests", "allowed", "intercepted", "observed", "claims", "bytes_in", "bytes_out")


def durations(*ms: float) -> list[int]:
    histogram = Histogram()
    for each in ms:
        histogram.add(int(each * 1e6))
    return histogram.counts


async def rolled_up(
    admin_pg, at: datetime, part: str = "a", *, errors=None, added=None, partial=False, **figures
) -> None:
    values = [figures.get(name, 0) for name in FIGURES]
    await admin_pg.execute(
        f"INSERT INTO hourly_metric (at, part, errors, added_time, partial, {', '.join(FIGURES)}) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        at, part, msgspec.json.encode(errors or {}).decode(), added or [0] * BUCKETS, partial, *values,
    )  # fmt: skip


async def different(admin_pg, step: str, at: datetime, keys: int, addresses: int) -> None:
    await admin_pg.execute("INSERT INTO distinct_metric VALUES ($1, $2, $3, $4)", step, at, keys, addresses)


async def history(api, **asked) -> dict:
    asked = {name: each.isoformat() if isinstance(each, datetime) else each for name, each in asked.items()}
    answer = await api.get("/dashboard/history", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_hour_says_all_that_was_counted_in_it(api, admin_pg):
    await rolled_up(
        admin_pg, MIDNIGHT, requests=100, allowed=90, intercepted=4, observed=3, claims=2, bytes_in=7, bytes_out=2**40,
        errors={"invalid_api_key": 5, "upstream_unavailable": 1}, added=durations(*[1.0] * 98, *[80.0] * 2),
    )  # fmt: skip
    await different(admin_pg, "hour", MIDNIGHT, 12, 34)
    found = await history(api, **{"from": MIDNIGHT, "to": MIDNIGHT + HOUR})
    assert (found["step"], len(found["items"])) == ("hour", 1)
    point = found["items"][0]
    assert point.pop("added_p50_ms") == pytest.approx(1.0, rel=0.125)
    assert point.pop("added_p99_ms") == pytest.approx(80.0, rel=0.125)
    assert datetime.fromisoformat(point.pop("at")) == MIDNIGHT
    assert point == {
        "partial": False,
        "requests": 100,
        "allowed": 90,
        "intercepted": 4,
        "observed": 3,
        "claims": 2,
        "errors": {"invalid_api_key": 5, "upstream_unavailable": 1},
        "keys": 12,
        "addresses": 34,
        "bytes_in": 7,
        "bytes_out": 2**40,
    }


async def test_a_day_is_the_sum_of_its_hours_but_not_of_its_keys(api, admin_pg):
    for number in range(24):
        await rolled_up(
            admin_pg, MIDNIGHT + number * HOUR, requests=2, errors={"internal_error": 1}, added=durations(number + 1)
        )
        await different(admin_pg, "hour", MIDNIGHT + number * HOUR, 5, 5)
    await rolled_up(admin_pg, MIDNIGHT + 24 * HOUR, requests=1000)
    await different(admin_pg, "day", MIDNIGHT, 6, 7)
    [day] = (await history(api, step="day", **{"from": MIDNIGHT, "to": MIDNIGHT + 24 * HOUR}))["items"]
    assert (day["requests"], day["errors"], day["keys"], day["addresses"]) == (48, {"internal_error": 24}, 6, 7)
    assert day["added_p50_ms"] == pytest.approx(12, rel=0.125)
    assert day["partial"] is False


async def test_days_begin_at_midnight_utc_wherever_who_asks_is(api, admin_pg):
    await rolled_up(admin_pg, MIDNIGHT - HOUR, requests=1)
    await rolled_up(admin_pg, MIDNIGHT, requests=10)
    asked = {"from": "2026-03-01T07:30:00+08:00", "to": "2026-03-01T09:00:00+08:00"}
    days = (await history(api, step="day", **asked))["items"]
    assert [(day["at"], day["requests"]) for day in days] == [("2026-02-28T00:00:00Z", 1), ("2026-03-01T00:00:00Z", 10)]


async def test_an_hour_whose_counters_redis_lost_is_the_sum_of_its_parts_and_partial(api, admin_pg):
    await rolled_up(admin_pg, MIDNIGHT, "before", requests=10, errors={"internal_error": 1})
    await rolled_up(admin_pg, MIDNIGHT, "after", requests=7, errors={"internal_error": 2})
    [point] = (await history(api, **{"from": MIDNIGHT, "to": MIDNIGHT + HOUR}))["items"]
    assert (point["requests"], point["errors"], point["partial"]) == (17, {"internal_error": 3}, True)


async def test_hours_that_nobody_reported_and_those_that_were_not_delivered_are_partial(api, admin_pg):
    await rolled_up(admin_pg, MIDNIGHT, requests=1)
    await rolled_up(admin_pg, MIDNIGHT + HOUR, requests=2, partial=True)
    points = (await history(api, **{"from": MIDNIGHT, "to": MIDNIGHT + 3 * HOUR}))["items"]
    assert [(point["requests"], point["partial"]) for point in points] == [(1, False), (2, True), (0, True)]
    assert points[2]["added_p50_ms"] is None


async def test_a_day_with_an_hour_that_is_partial_missing_or_lost_is_partial(api, admin_pg):
    """A second part of one hour does not stand in for another hour."""
    for day, left_out in ((0, None), (1, 3), (2, 3)):
        for number in range(24):
            if number != left_out:
                await rolled_up(admin_pg, MIDNIGHT + timedelta(days=day, hours=number))
    await rolled_up(admin_pg, MIDNIGHT + timedelta(days=2), "b")
    await rolled_up(admin_pg, MIDNIGHT + timedelta(days=3), partial=True)
    asked = {"from": MIDNIGHT, "to": MIDNIGHT + timedelta(days=4)}
    days = (await history(api, step="day", **asked))["items"]
    assert [day["partial"] for day in days] == [False, True, True, True]


async def test_without_bounds_the_last_day_of_hours_and_thirty_days_end_with_the_current_one(api, admin_pg):
    now = datetime.now(UTC)
    current = now.replace(minute=0, second=0, microsecond=0)
    await rolled_up(admin_pg, current, requests=3)
    points = (await history(api))["items"]
    assert len(points) in (25, 26)
    assert 3 in [point["requests"] for point in points[-2:]]
    assert points[-1]["partial"] is True
    assert len((await history(api, step="day"))["items"]) in (31, 32)
    assert len((await history(api, to="9999-12-31T23:59:59Z"))["items"]) in (25, 26)


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "9999-12-31T23:59:59Z"},
        {"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"from": "2020-01-01T00:00:00Z", "step": "day"},
        {"from": "0001-01-01T00:00:00Z", "step": "day"},
        {"to": "0001-01-01T00:00:00Z"},
        {"from": "yesterday"},
        {"step": "week"},
    ],
)
async def test_what_cannot_be_drawn_is_refused(api, asked):
    answer = await api.get("/dashboard/history", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_who_may_read_metrics_may_read_history(anonymous, api, as_role):
    assert (await anonymous.get("/dashboard/history")).status_code == 401
    viewer = await as_role("viewer")
    assert (await viewer.get("/dashboard/history")).status_code == 200
