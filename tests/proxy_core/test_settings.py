"""Static settings: every fault at once, weak secrets refused, and no secret in any message."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.contracts import Failsafe, LiveSettings, UpstreamProfile
from proxy_core.setting_values import parse_networks, parse_upstream_url, refuse_weak_secret
from proxy_core.settings import Settings, SettingsError, load_settings, variable_of
from tests.support.settings_docs import setting_rows

SECRET = "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70"
SOUND = {
    "DOWNSTREAM_URL": "http://new-api:3000",
    "PG_DSN": "postgresql://sentinel:hunter2@db/sentinel",
    "REDIS_URL": "redis://:hunter2@redis:6379/0",
    "SENTINEL_HMAC_SECRET": SECRET,
}


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """A sound one that a test spoils; no ``.env`` of the working folder gets in."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    for name, value in SOUND.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def faults_of(environment, **spoilt: str) -> list[str]:
    for name, value in spoilt.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value) == "\n".join(error.value.faults)
    return error.value.faults


def test_four_variables_are_enough(environment):
    settings = load_settings()
    assert (settings.port, settings.upstream_profile, settings.trusted_proxies) == (7000, UpstreamProfile.NEW_API, ())
    assert settings.initial_live_settings() == LiveSettings()
    assert settings.worker_count >= 1


def test_the_environment_gives_the_live_settings_first_values(environment):
    for name, value in {
        "ARCHIVE_DAYS": "7",
        "SENTINEL_FAILSAFE_MODE": "open",
        "ALERT_WEBHOOK_URL": "https://hooks.example.org/x",
        "ALERT_THRESHOLD_COUNT": "9",
        "ALERT_THRESHOLD_SECONDS": "60",
    }.items():
        environment.setenv(name, value)
    assert load_settings().initial_live_settings() == LiveSettings(
        failsafe=Failsafe.OPEN,
        archive_days=7,
        alert_webhook_url="https://hooks.example.org/x",
        alert_threshold_count=9,
        alert_threshold_s=60,
    )


def test_the_file_is_read_and_the_environment_wins_and_empty_means_unset(environment, tmp_path):
    (tmp_path / ".env").write_text("SENTINEL_PORT=7001\nSENTINEL_WORKERS=3\nSENTINEL_LOG_LEVEL=\nUNKNOWN=1\n")
    environment.setenv("SENTINEL_PORT", "7002")
    settings = load_settings()
    assert (settings.port, settings.workers, settings.log_level) == (7002, 3, "info")


def test_every_fault_is_reported_at_once_by_its_variable(environment):
    environment.delenv("PG_DSN")
    faults = faults_of(
        environment,
        DOWNSTREAM_URL="ftp://somewhere",
        REDIS_URL="http://redis",
        SENTINEL_HMAC_SECRET="short",
        SENTINEL_TRUSTED_PROXIES="10.0.0.0/8, 10.0.0.1/8, everyone, 0.0.0.0/0",
        SENTINEL_PORT="70000",
        SENTINEL_WORKERS="many",
        SENTINEL_PG_TIMEOUT_MS="60000",
        SENTINEL_KEY_EXTRA_CHARACTERS="_-;",
        SENTINEL_UPSTREAM_TLS_CA_FILE="/nowhere.pem",
        ALERT_WEBHOOK_URL="hooks.example.org",
        SENTINEL_LOG_LEVEL="loud",
    )
    named = {fault.split()[0].rstrip(":") for fault in faults}
    assert len(named) == len(faults) == 12
    proxies = next(fault for fault in faults if "TRUSTED_PROXIES" in fault)
    assert all(bad in proxies for bad in ("'10.0.0.1/8'", "'everyone'", "0.0.0.0/0"))
    assert "10.0.0.0/8, 10" not in proxies
    assert "PG_DSN is missing: PostgreSQL, which decides who owns a key" in "\n".join(faults)


def test_no_message_and_no_repr_holds_a_secret(environment):
    environment.setenv("ALERT_WEBHOOK_URL", "https://hooks.example.org/token-of-the-hook")
    shown = repr(load_settings()) + str(load_settings())
    for secret in (SECRET, "hunter2", "token-of-the-hook"):
        assert secret not in shown
    faults = "\n".join(
        faults_of(
            environment,
            SENTINEL_HMAC_SECRET="hunter3" * 3,
            PG_DSN="mysql://sentinel:hunter4@db/x",
            REDIS_URL="redi://:hunter5@x",
            DOWNSTREAM_URL="http://user:hunter6@new-api",
            ALERT_WEBHOOK_URL="token-of-the-hook",
        )
    )
    assert faults.count("\n") == 4
    assert "hunter" not in faults
    assert "token-of-the-hook" not in faults


@pytest.mark.parametrize(
    "weak",
    [
        "",
        "a" * 64,
        "ab" * 32,
        "0123456789abcdef0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "change-me-change-me-change-me-change-me",
        "please-REPLACE-this-9f8e7d6c5b4a39281706",
        "k3J9x2Lq",
    ],
)
def test_weak_secrets_are_refused_with_advice(weak):
    with pytest.raises(ValueError, match="openssl rand -hex 32"):
        refuse_weak_secret(weak)


@given(st.binary(min_size=32, max_size=32).filter(lambda raw: len(set(raw)) > 24))
def test_what_openssl_makes_is_accepted(raw):
    refuse_weak_secret(raw.hex()[::-1])


@pytest.mark.parametrize(
    ("text", "authority", "base_path"),
    [
        ("http://new-api:3000", "new-api:3000", ""),
        ("http://new-api/", "new-api", ""),
        ("https://host:443/base/path/", "host", "/base/path"),
        ("http://[::1]:3000", "[::1]:3000", ""),
    ],
)
def test_upstream_urls(text, authority, base_path):
    url = parse_upstream_url(text)
    assert (url.authority, url.base_path, url.tls) == (authority, base_path, text.startswith("https"))


@pytest.mark.parametrize(
    "text",
    [
        "new-api:3000",
        "http://",
        "http://a b",
        "http://u@h",
        "http://h?x",
        "http://h/#x",
        "http://h:0",
        "http://h:99999",
        "http://h/a/../b",
        "http://h//a",
        "http://h%41",
        "http://ü",
        "http://h\r\nX: y",
    ],
)
def test_what_is_no_upstream_url_is_refused(text):
    with pytest.raises(ValueError, match=r"^(must|is not|names|has|contains)"):
        parse_upstream_url(text)


def test_networks_are_separated_by_anything_and_host_bits_are_no_network():
    assert parse_networks("10.0.0.0/8,  ::1\n192.168.1.5") == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
        ipaddress.ip_network("192.168.1.5/32"),
    )
    for everybody in ("0.0.0.0/0", "::/0"):
        with pytest.raises(ValueError, match="every client on earth"):
            parse_networks(everybody)


def test_every_setting_is_documented_and_none_shows_a_secret():
    rows = setting_rows()
    assert len({row.variable for row in rows}) == len(rows) == len(Settings.model_fields)
    assert all(row.description for row in rows)
    assert {row.variable for row in rows if row.default == "required"} == set(SOUND)


def test_settings_are_frozen(environment):
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1
