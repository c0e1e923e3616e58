"""What a worker reads of the environment: how alerts are sent, and no secret of the admin API."""

import pytest

from admin_api.alerts.addresses import PrivateTargets
from admin_api.settings import WorkerSettings
from proxy_core.settings import SettingsError, load

GIVEN = {
    "downstream_url": "http://127.0.0.1:9",
    "pg_dsn": "postgresql://x/y",
    "redis_url": "redis://x",
    "hmac_secret": "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70",
}


def test_alerts_go_to_public_addresses_only_and_without_links_unless_told_otherwise():
    settings = load(WorkerSettings, **GIVEN)
    assert (settings.alert_private_targets, settings.console_url) == (PrivateTargets.REFUSE, "")


@pytest.mark.parametrize("url", ["example.com/admin/ui", "ftp://example.com", "https://", "https://example.com/?a=b"])
def test_a_console_that_cannot_be_linked_to_is_refused_at_the_start(url: str):
    with pytest.raises(SettingsError, match="SENTINEL_CONSOLE_URL must begin with https"):
        load(WorkerSettings, **GIVEN, console_url=url)


def test_a_policy_that_does_not_exist_is_refused_at_the_start():
    with pytest.raises(SettingsError, match="SENTINEL_ALERT_PRIVATE_TARGETS"):
        load(WorkerSettings, **GIVEN, alert_private_targets="some")
