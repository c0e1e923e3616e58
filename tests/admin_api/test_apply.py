"""Batches become rows in one transaction, once, folded."""

import itertools
import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_api.jobs import apply, letters
from proxy_core.contracts import EventBatch, Reason
from tests.admin_api.batches import KEY, NOW, batch, intercept, new_binding, touch

pytestmark = pytest.mark.anyio

COUNTERS = "SELECT last_used_at, host(last_ip) AS last_ip, request_count, intercept_count FROM binding WHERE id = $1"


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


async def repeats(pg) -> list[int]:
    return [row[0] for row in await pg.fetch("SELECT repeat_count FROM intercept ORDER BY at, event_id")]


async def test_an_intercept_becomes_a_row_with_all_that_it_says(pg):
    event = intercept(client="2001:db8:1::5", enforced=False, repeat_count=3, peer="127.0.0.1")
    assert await apply.apply_batches(pg, [batch(event)]) == apply.Applied(batches=1, intercepts=3, touches=0)
    row = dict(
        await pg.fetchrow("SELECT *, host(client) AS address, bound_networks::text[] AS networks FROM intercept")
    )
    assert row["event_id"] == event.event_id
    assert row["at"] == moment(NOW)
    assert (row["key_hash"], row["key_hint"]) == (KEY, "abcd…wxyz")
    assert (row["address"], str(row["peer"])) == ("2001:db8:1::5", "127.0.0.1")
    assert row["networks"] == ["203.0.113.0/24", "2001:db8::/64"]
    assert (row["reason"], row["enforced"], row["repeat_count"]) == ("key_bound_to_other_address", False, 3)
    assert (row["method"], row["path"], row["user_agent"], row["gateway"]) == (
        "POST",
        "/v1/chat/completions",
        "tests",
        "gw",
    )


async def test_an_intercept_without_a_usable_peer_is_kept_all_the_same(pg):
    """Batches of a version that did not tell it, peers that are no addresses, and a link-local one with its zone."""
    for number, peer in enumerate(("", "unix", "fe80::1%eth0")):
        await apply.apply_batches(pg, [batch(intercept(client=f"198.51.100.{number}", peer=peer))])
    assert await pg.fetch("SELECT host(peer) FROM intercept ORDER BY client") == [(None,), (None,), ("fe80::1",)]


def test_a_batch_from_before_peers_were_told_can_be_read():
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(batch(intercept())))
    del old["intercepts"][0]["peer"]
    [event] = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=EventBatch).intercepts
    assert event.peer == ""


async def test_a_batch_that_comes_again_changes_nothing(pg):
    binding = await new_binding(pg)
    one = batch(intercept(), touch(binding, requests=7))
    await apply.apply_batches(pg, [one, one])
    before = await pg.fetchrow(COUNTERS, binding)
    assert await apply.apply_batches(pg, [one]) == apply.Applied(0, 0, 0)
    assert await pg.fetchrow(COUNTERS, binding) == before
    assert (before["request_count"], before["intercept_count"]) == (7, 1)
    assert await repeats(pg) == [1]


async def test_identical_intercepts_within_the_window_are_one_row_in_a_batch_and_across(pg):
    binding = await new_binding(pg)
    await apply.apply_batches(pg, [batch(intercept(at=NOW, repeat_count=2), intercept(at=NOW + 10))])
    await apply.apply_batches(pg, [batch(intercept(at=NOW + 20, repeat_count=4)), batch(intercept(at=NOW + 30))])
    assert await repeats(pg) == [8]
    assert await pg.fetchval("SELECT at FROM intercept") == moment(NOW)
    assert (await pg.fetchrow(COUNTERS, binding))["intercept_count"] == 8


async def test_intercepts_that_differ_or_lie_a_window_apart_are_rows_of_their_own(pg):
    events = [
        intercept(),
        intercept(fingerprint=b"o" * 32),
        intercept(client="198.51.100.8"),
        intercept(reason=Reason.KEY_BANNED),
        intercept(enforced=False),
        intercept(at=NOW + apply.FOLD_WINDOW_S),
    ]
    for event in events:
        await apply.apply_batches(pg, [batch(event)])
    assert await repeats(pg) == [1] * len(events)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=12))
def test_folding_keeps_the_sum_and_rows_a_window_apart(seconds):
    rows = apply.fold([intercept(at=NOW + second, repeat_count=2) for second in seconds])
    times = [row.at for row in rows]
    assert sum(row.repeat_count for row in rows) == 2 * len(seconds)
    assert times == sorted(times)
    assert times[0] == NOW + min(seconds)
    assert all(later - earlier >= apply.FOLD_WINDOW_S for earlier, later in itertools.pairwise(times))


async def test_intercepts_that_arrive_in_the_wrong_order_fold_too(pg):
    for second in (30, 20, 25, 0, 89):
        await apply.apply_batches(pg, [batch(intercept(at=NOW + second))])
    assert await repeats(pg) == [5]


async def test_touches_raise_counts_and_the_latest_one_says_when_and_from_where(pg):
    binding = await new_binding(pg)
    early, late = touch(binding, NOW - 20, "203.0.113.1", 2), touch(binding, NOW - 10, "203.0.113.2", 3)
    await apply.apply_batches(pg, [batch(late), batch(early)])
    row = await pg.fetchrow(COUNTERS, binding)
    assert tuple(row) == (moment(NOW - 10), "203.0.113.2", 5, 0)
    await apply.apply_batches(pg, [batch(touch(binding, NOW - 15, "203.0.113.3", 1))])
    assert tuple(await pg.fetchrow(COUNTERS, binding)) == (moment(NOW - 10), "203.0.113.2", 6, 0)
    await apply.apply_batches(pg, [batch(touch(binding, NOW, "2001:db8::1", 1))])
    assert tuple(await pg.fetchrow(COUNTERS, binding)) == (moment(NOW), "2001:db8::1", 7, 0)


async def test_a_touch_never_makes_a_binding_seem_older_but_fills_in_its_address(pg):
    binding = await new_binding(pg, last_used_at=NOW)
    await apply.apply_batches(pg, [batch(touch(binding, NOW - 50, "203.0.113.1"))])
    assert tuple(await pg.fetchrow(COUNTERS, binding)) == (moment(NOW), "203.0.113.1", 1, 0)


async def test_events_of_a_binding_that_is_gone_are_no_fault(pg):
    await apply.apply_batches(pg, [batch(touch(4711), intercept())])
    assert await repeats(pg) == [1]
    assert await pg.fetchval("SELECT count(*) FROM binding") == 0


async def test_touches_leave_the_version_that_gateways_compare_alone(pg):
    binding = await new_binding(pg)
    before = await pg.fetchval("SELECT version FROM binding")
    await apply.apply_batches(pg, [batch(touch(binding), intercept())])
    assert await pg.fetchval("SELECT version FROM binding") == before


async def test_a_batch_that_fails_half_way_leaves_nothing_behind(pg):
    good, bad = batch(intercept()), batch(intercept(client="198.51.100.9", path="nul \x00"))
    with pytest.raises(apply.CONTENT_FAULTS):
        await apply.apply_batches(pg, [good, bad])
    assert await repeats(pg) == []
    assert await pg.fetchval("SELECT count(*) FROM ingest_batch") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        batch(intercept(client="not an address")),
        batch(intercept(bound_networks=("10.0.0.1/8",))),
        batch(intercept(at=float("nan"))),
        batch(intercept(at=1e18)),
        batch(intercept(repeat_count=0)),
        batch(intercept(event_id=b"x" * 5000)),
        batch(touch(1, ip="")),
        batch(touch(1, requests=-1)),
        batch(intercept(), at=NOW - apply.LEDGER_KEEP_DAYS * 86_400),
    ],
)
def test_what_can_never_be_applied_is_refused_before_it_is_tried(wrong):
    with pytest.raises(letters.Poison):
        letters.check(wrong, NOW)


async def test_the_ledger_forgets_old_batches_and_only_those(pg):
    for age_days in (1, apply.LEDGER_KEEP_DAYS - 1, apply.LEDGER_KEEP_DAYS + 1, apply.LEDGER_KEEP_DAYS + 2):
        age = timedelta(days=age_days)
        await pg.execute("INSERT INTO ingest_batch VALUES ($1, now() - $2::interval)", os.urandom(16), age)
    assert [await apply.prune_ledger(pg, 1) for _ in range(3)] == [1, 1, 0]
    assert await pg.fetchval("SELECT count(*) FROM ingest_batch") == 2


ENTRIES_READ = """
SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes
WHERE relid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'intercept'::regclass)
"""


@pytest.mark.parametrize("counted", ["never", "while it was empty"])
async def test_in_a_month_that_has_just_begun_an_event_is_not_compared_with_all_of_its_minute(pg, counted):
    """PostgreSQL knows nothing yet of the partition: no guess of its may lead past every other row for each event."""

    async def flood(second_byte: int) -> None:
        events = [
            intercept(fingerprint=os.urandom(32), client=f"198.{second_byte}.{number // 250}.{number % 250}")
            for number in range(300)
        ]
        await apply.apply_batches(pg, [batch(*events)])

    async def read() -> int:
        await pg.execute("SELECT pg_stat_force_next_flush()")
        await pg.execute("SELECT 1")
        return await pg.fetchval(ENTRIES_READ)

    if counted == "while it was empty":
        await pg.execute("VACUUM ANALYZE intercept")
    await flood(18)
    before = await read()
    await flood(19)
    assert await read() - before < 10 * 300


async def test_a_month_that_has_just_begun_is_not_read_from_end_to_end_for_every_event(pg):
    """PostgreSQL takes its partition for empty as long as nothing was counted in it."""

    async def read_whole() -> int:
        await pg.execute("SELECT pg_stat_force_next_flush()")
        await pg.execute("SELECT 1")
        return await pg.fetchval("SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname ~ '^intercept_2'")

    await pg.execute("VACUUM ANALYZE intercept")
    before = await read_whole()
    for number in range(20):
        await apply.apply_batches(pg, [batch(intercept(client=f"198.18.1.{number}"))])
    assert await read_whole() == before
