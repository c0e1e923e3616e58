"""Deliveries go on until they arrive or are given up, whatever the receiver does and whoever dies."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from admin_api.alerts import signing
from admin_api.alerts.addresses import PrivateTargets
from admin_api.alerts.sending import Sender
from admin_api.jobs.deliveries import ATTEMPTS_KEPT, PAUSES_S, Deliveries
from admin_api.jobs.postgres import Postgres
from proxy_core.contracts import LiveSettings
from tests.support.alert_parts import attempts, new_alert, new_target, time_passes
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

CONSOLE = "https://example.com/admin/ui/"


@pytest.fixture
async def deliveries(pg_dsn) -> AsyncIterator[Deliveries]:
    postgres = await Postgres.connect(pg_dsn)
    yield Deliveries(postgres, Sender(PrivateTargets.ALL, CONSOLE), roll=lambda: 0.5)
    await postgres.aclose()


async def run(deliveries: Deliveries) -> int:
    """Sends what is due; how many that were."""
    due = await deliveries.due()
    await asyncio.gather(*(deliveries.deliver(each.id) for each in due))
    return len(due)


async def states(pg) -> list[str]:
    return [row["state"] for row in await pg.fetch("SELECT state FROM alert_delivery ORDER BY id")]


async def test_an_alert_arrives_signed_and_once(deliveries: Deliveries, pg, there: Receiver):
    secret = signing.new_secret(datetime.now(UTC))
    await new_target(pg, there.url, secret)
    await new_alert(pg)
    assert (await run(deliveries), await run(deliveries)) == (1, 0)
    [got] = there.received
    said = Webhook(secret.secret).verify(got.body, got.headers)
    assert (said["type"], said["data"]["hint"]) == ("key_intercepted", "abcd…wxyz")
    assert said["data"]["link"] == "https://example.com/admin/ui/bindings/7"
    assert (await states(pg), await attempts(pg)) == (["delivered"], [["delivered"]])


async def test_during_a_rotation_receivers_with_either_secret_accept_it(deliveries: Deliveries, pg, there: Receiver):
    now = datetime.now(UTC)
    both = signing.rotated([signing.new_secret(now)], now, timedelta(hours=1))
    await new_target(pg, there.url, *both)
    await new_alert(pg)
    await run(deliveries)
    for secret in both:
        Webhook(secret.secret).verify(there.received[0].body, there.received[0].headers)


async def test_a_failing_receiver_gets_it_again_the_same_under_the_same_id(deliveries: Deliveries, pg, there: Receiver):
    there.answers = [500, 503, 204]
    await new_target(pg, there.url, signing.new_secret(datetime.now(UTC)))
    await new_alert(pg)
    for _ in range(3):
        await run(deliveries)
        await time_passes(pg)
    assert await attempts(pg) == [["http_error", "http_error", "delivered"]]
    assert {got.body for got in there.received} == {there.received[0].body}
    assert len({got.headers["webhook-id"] for got in there.received}) == 1


async def test_pauses_grow_to_hours_and_then_it_is_given_up(deliveries: Deliveries, pg, there: Receiver):
    there.answers = [500]
    await new_target(pg, there.url)
    await new_alert(pg)
    waits = []
    while (await states(pg)) == ["pending"]:
        await run(deliveries)
        waits.append(await pg.fetchval("SELECT extract(epoch FROM next_at - now())::float FROM alert_delivery"))
        await time_passes(pg)
    assert waits.pop() is None
    assert waits == [pytest.approx(pause_s, abs=4) for pause_s in PAUSES_S]
    assert len(there.received) == len(PAUSES_S) + 1
    assert await states(pg) == ["dead"]


def test_pauses_are_jittered_and_last_for_hours():
    assert sum(PAUSES_S) > 12 * 3600
    assert [Deliveries(None, None, roll=roll)._next(1, "http_error")[1] for roll in (float, lambda: 1.0)] == [4.0, 6.0]


async def test_410_disables_the_target_in_the_audit_and_ends_what_waits_for_it(
    deliveries: Deliveries, pg, there: Receiver
):
    there.answers = [410]
    target = await new_target(pg, there.url + "?token=t0ken")
    for _ in range(2):
        await new_alert(pg)
    for due in await deliveries.due():
        await deliveries.deliver(due.id)
    row = await pg.fetchrow("SELECT enabled, disabled_because, version FROM alert_target WHERE id = $1", target)
    assert tuple(row) == (False, "gone", 2)
    audit = await pg.fetchrow("SELECT * FROM admin_audit")
    assert (audit["actor_kind"], audit["action"], audit["subject_id"]) == (
        "system",
        "alert_target:disable",
        str(target),
    )
    assert "t0ken" not in str(dict(audit))
    assert (await states(pg), await attempts(pg)) == (["dead", "dead"], [["gone"], ["target_disabled"]])
    await new_alert(pg)
    assert len(await states(pg)) == 2
    assert len(there.received) == 1


async def test_what_waits_for_a_disabled_target_is_given_up(deliveries: Deliveries, pg, there: Receiver):
    target = await new_target(pg, there.url)
    await new_alert(pg)
    await pg.execute("UPDATE alert_target SET enabled = false WHERE id = $1", target)
    await run(deliveries)
    assert (await states(pg), await attempts(pg), there.received) == (["dead"], [["target_disabled"]], [])


async def test_a_delivery_is_sent_by_one_worker_however_many_try(pg_dsn, pg, there: Receiver):
    postgres = await Postgres.connect(pg_dsn)
    workers = [Deliveries(postgres, Sender(PrivateTargets.ALL, "")) for _ in range(4)]
    await new_target(pg, there.url)
    await new_alert(pg)
    [due] = await workers[0].due()
    await asyncio.gather(*(worker.deliver(due.id) for worker in workers for _ in range(3)))
    await postgres.aclose()
    assert len(there.received) == 1


async def test_an_attempt_that_died_is_due_again_when_its_lease_is_over_and_cannot_write(pg_dsn, pg, there: Receiver):
    """The first worker hangs beyond its lease, as one that was frozen: it comes back when another has delivered."""
    postgres = await Postgres.connect(pg_dsn)
    frozen, other = (Deliveries(postgres, Sender(PrivateTargets.ALL, "")) for _ in range(2))
    await new_target(pg, there.url)
    await new_alert(pg)
    [due] = await frozen.due()
    there.answers = ["hang", 204]
    hanging = asyncio.create_task(frozen.deliver(due.id))
    await eventually(lambda: len(there.received) == 1)
    assert await other.due() == []
    assert await attempts(pg) == [["interrupted"]]
    await time_passes(pg)
    assert await run(other) == 1
    there.close()
    await hanging
    await postgres.aclose()
    assert (await states(pg), await attempts(pg)) == (["delivered"], [["interrupted", "delivered"]])
    assert there.received[0].headers["webhook-id"] == there.received[1].headers["webhook-id"]


async def test_receivers_that_hang_leave_hands_for_others(deliveries: Deliveries, pg, there: Receiver):
    there.answers = ["hang"]
    await new_target(pg, there.url)
    for _ in range(5):
        await new_alert(pg)
    due = await deliveries.due()
    tasks = [asyncio.create_task(deliveries.deliver(each.id)) for each in due]
    await eventually(lambda: len(there.received) == 3)
    await eventually(lambda: sum(task.done() for task in tasks) == 2)
    there.close()
    await asyncio.gather(*tasks)
    assert len(there.received) == 3


async def test_the_history_of_attempts_is_bounded(deliveries: Deliveries, pg, there: Receiver):
    await new_target(pg, there.url)
    await new_alert(pg)
    many = json.dumps([{"at": "2026-11-25T17:55:00Z", "took_ms": 1, "outcome": "timeout"}] * ATTEMPTS_KEPT)
    await pg.execute("UPDATE alert_delivery SET attempts = $1", many)
    await run(deliveries)
    [outcomes] = await attempts(pg)
    assert (len(outcomes), outcomes[-2:]) == (ATTEMPTS_KEPT, ["timeout", "delivered"])


async def test_the_live_settings_webhook_is_a_target_that_follows_it(deliveries: Deliveries, pg, there: Receiver):
    """First the environment's, then what is stored."""
    initial = LiveSettings(alert_webhook_url=there.url)

    async def target() -> tuple:
        return tuple(await pg.fetchrow("SELECT url, enabled, disabled_because, version FROM alert_target"))

    async def store(version: int, url: str) -> None:
        await pg.execute(
            "INSERT INTO runtime_setting VALUES ($1, $2, 'root')", version, json.dumps({"alert_webhook_url": url})
        )
        await deliveries.due(initial)

    for _ in range(2):
        await deliveries.due(initial)
    assert await target() == (there.url, True, None, 1)
    await new_alert(pg)
    await run(deliveries)
    assert len(there.received) == 1
    assert "webhook-signature" not in there.received[0].headers
    await store(1, "")
    assert await target() == ("", False, "setting", 2)
    await store(2, "https://other.test/")
    assert await target() == ("https://other.test/", True, None, 3)
