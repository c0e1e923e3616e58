"""The live settings in force: which state, from which store, and what a broken one changes."""

import asyncpg
import pytest
from structlog.testing import capture_logs

from proxy_core.contracts import BindOn, LiveSettings, Mode, StoredSettings
from proxy_core.live_settings import LiveSettingsFeed
from tests.support.binding_parts import opened
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

INITIAL = LiveSettings(archive_days=33, alert_threshold_count=2)


@pytest.fixture
async def parts(pg_dsn, redis_url):
    async with opened(pg_dsn, redis_url) as one:
        yield one


@pytest.fixture
async def save(pg_dsn, parts):
    """An operator's write as the control plane does it: commit, snapshot, message."""
    connection = await asyncpg.connect(pg_dsn)

    async def commit_and_publish(version: int, values: str, *, publish: bool = True) -> None:
        await connection.execute(
            'INSERT INTO runtime_setting (version, "values", changed_by) VALUES ($1, $2, $3)', version, values, "me"
        )
        if publish:
            await parts.cache.publish_settings(StoredSettings(version, values.encode()))

    yield commit_and_publish
    await connection.close()


@pytest.fixture
def feed(parts):
    return LiveSettingsFeed(parts.cache, parts.store, parts.tasks, INITIAL)


async def test_first_values_are_in_force_until_something_is_stored(feed, save):
    await feed.look()
    assert feed.current == INITIAL
    await save(1, '{"mode": "observe"}', publish=False)
    await feed.look()
    assert feed.current == LiveSettings(version=1, mode=Mode.OBSERVE, archive_days=33, alert_threshold_count=2)


async def test_starting_means_having_looked(feed, save):
    await save(1, '{"networks_per_key": 3}')
    await feed.start()
    assert feed.current.networks_per_key == 3


async def test_a_change_arrives_by_message(feed, save):
    await feed.start()
    await save(1, '{"bind_on": "first_use"}')
    await eventually(lambda: feed.current.bind_on is BindOn.FIRST_USE)
    await save(2, '{"bind_on": "accepted"}')
    await eventually(lambda: feed.current.bind_on is BindOn.ACCEPTED)
    assert feed.current.version == 2


async def test_a_change_arrives_without_redis_too(feed, save, parts, monkeypatch):
    monkeypatch.setattr("proxy_core.live_settings.LOOK_EVERY_S", 0.01)
    parts.cache.faults.refuse = 1.0
    await feed.start()
    await save(1, '{"ipv6_prefix": 56}', publish=False)
    await eventually(lambda: feed.current.ipv6_prefix == 56)


async def test_redis_answers_while_postgresql_does_not(feed, save, parts):
    await save(4, '{"mode": "observe"}')
    parts.store.faults.refuse = 1.0
    await feed.look()
    assert feed.current.version == 4
    parts.cache.faults.refuse = 1.0
    await feed.look()
    assert feed.current.version == 4


async def test_an_older_state_never_replaces_a_newer_one(feed, save, parts):
    await save(5, '{"mode": "observe"}', publish=False)
    await parts.cache.publish_settings(StoredSettings(4, b'{"mode": "enforce"}'))
    await feed.look()
    parts.store.faults.refuse = 1.0
    await feed.look()
    assert (feed.current.version, feed.current.mode) == (5, Mode.OBSERVE)


@pytest.mark.parametrize("values", ['{"mode": "sometimes"}', '{"networks_per_key": "many"}', '{"mode": null}'])
async def test_a_state_that_cannot_be_read_leaves_the_last_in_force_and_is_reported_once(feed, save, values):
    await save(1, '{"mode": "observe"}')
    await feed.look()
    await save(2, values)
    with capture_logs() as logs:
        await feed.look()
        await feed.look()
    assert (feed.current.version, feed.current.mode) == (1, Mode.OBSERVE)
    assert [line["log_level"] for line in logs] == ["critical"]
    await save(3, '{"mode": "enforce"}')
    await feed.look()
    assert (feed.current.version, feed.current.mode) == (3, Mode.ENFORCE)


async def test_settings_of_a_newer_version_of_sentinel_are_no_obstacle(feed, save):
    await save(1, '{"mode": "observe", "from_the_future": 1}')
    await feed.look()
    assert feed.current.mode is Mode.OBSERVE


async def test_a_request_keeps_the_snapshot_that_it_took(feed, save):
    taken = feed.current
    await save(1, '{"mode": "observe"}')
    await feed.look()
    assert taken == INITIAL
    assert feed.current is not taken
