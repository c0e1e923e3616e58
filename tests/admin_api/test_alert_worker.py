"""Alerts through `sentinel worker` as production runs it: from the event stream to a receiver, whoever is killed."""

import contextlib
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from admin_api.alerts import signing
from tests.admin_api.batches import batch, confirmed, intercept, send
from tests.support.alert_parts import attempts, new_alert, new_target, time_passes
from tests.support.receivers import Receiver
from tests.support.waiting import eventually
from tests.support.workers import WorkerProcess, running_worker

pytestmark = pytest.mark.anyio


def worker(pg_dsn: str, redis_url: str, **settings: str) -> contextlib.AbstractContextManager[WorkerProcess]:
    return running_worker(pg_dsn, redis_url, SENTINEL_ALERT_PRIVATE_TARGETS="all", **settings)


DELIVERED = "SELECT count(*) FROM alert_delivery WHERE state = 'delivered'"


async def test_a_flood_becomes_one_alert_that_arrives_signed(ask, pg, pg_dsn, redis_url, stream, there: Receiver):
    secret = signing.new_secret(datetime.now(UTC))
    await new_target(pg, there.url, secret)
    flood = [batch(intercept(client=f"198.18.0.{number}", repeat_count=3)) for number in range(30)]
    with worker(pg_dsn, redis_url, SENTINEL_CONSOLE_URL="https://example.com/admin/ui") as running:
        send(stream, *flood)
        await eventually(lambda: confirmed(stream, *flood))
        await eventually(lambda: ask(DELIVERED) == "1")
        assert running.stop() == 0
        log = running.log_text()
    assert ask("SELECT count(*) || ' ' || sum(enforced_count) FROM alert") == "1 90"
    [got] = there.received
    assert Webhook(secret.secret).verify(got.body, got.headers)["data"]["hint"] == "abcd…wxyz"
    assert str(there.port) not in log


async def test_a_worker_killed_while_it_sends_is_replaced_and_the_alert_arrives(
    ask, pg, pg_dsn, redis_url, stream, there: Receiver
):
    """Twice, if the first had arrived already; then under the same id, by which the receiver knows."""
    there.answers = ["hang", 204]
    await new_target(pg, there.url)
    await new_alert(pg)
    with worker(pg_dsn, redis_url) as first:
        await eventually(lambda: len(there.received) == 1)
        first.kill()
    assert await attempts(pg) == [["interrupted"]]
    await time_passes(pg)
    with worker(pg_dsn, redis_url):
        await eventually(lambda: ask(DELIVERED) == "1")
    assert await attempts(pg) == [["interrupted", "delivered"]]
    assert len({got.headers["webhook-id"] for got in there.received}) == 1


async def test_losing_redis_on_the_way_loses_no_delivery(ask, pg, pg_dsn, redis_url, stream, there: Receiver):
    there.answers = [500, 204]
    await new_target(pg, there.url)
    await new_alert(pg)
    with worker(pg_dsn, redis_url):
        await eventually(lambda: ask("SELECT jsonb_path_exists(attempts, '$[*].status') FROM alert_delivery") == "t")
        stream.flushall()
        await time_passes(pg)
        await eventually(lambda: ask(DELIVERED) == "1")


async def test_alert_webhook_url_of_the_environment_gets_alerts(ask, pg_dsn, redis_url, stream, there: Receiver):
    one = batch(intercept(repeat_count=2))
    with worker(pg_dsn, redis_url, ALERT_WEBHOOK_URL=there.url, ALERT_THRESHOLD_COUNT="2"):
        await eventually(lambda: ask("SELECT count(*) FROM alert_target") == "1")
        send(stream, one)
        await eventually(lambda: len(there.received) == 1)
