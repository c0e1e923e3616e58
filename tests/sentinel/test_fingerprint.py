"""`sentinel fingerprint` prints what the records know a key by, and never the key."""

import hashlib
import hmac
from pathlib import Path

import pytest

from proxy_core.settings import SettingsError
from sentinel.errors import SentinelError
from sentinel.fingerprint import fingerprint
from sentinel.secrets_file import kept_secrets

SECRET = "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70"
EXPECTED = hmac.new(SECRET.encode(), b"abcdef0123456789", hashlib.sha256).hexdigest()


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENTINEL_HMAC_SECRET", raising=False)


@pytest.mark.parametrize("line", [b"sk-abcDEF0123456789\n", b"Bearer sk-abcDEF0123456789", b"abcDEF0123456789\r\n"])
def test_every_spelling_of_a_key_has_one_fingerprint(
    line: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENTINEL_HMAC_SECRET", SECRET)
    fingerprint(line)
    assert capsys.readouterr().out == f"{EXPECTED} abcD…6789\n"


def test_secret_is_found_in_the_data_directory_of_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = kept_secrets(tmp_path)["SENTINEL_HMAC_SECRET"]
    fingerprint(b"sk-abcdef0123456789\n", tmp_path)
    expected = hmac.new(secret.encode(), b"abcdef0123456789", hashlib.sha256).hexdigest()
    assert capsys.readouterr().out.split()[0] == expected


def test_grammar_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SENTINEL_HMAC_SECRET", SECRET)
    monkeypatch.setenv("SENTINEL_KEY_EXTRA_CHARACTERS", "_")
    fingerprint(b"sk-abc_def_0123456789\n")
    assert capsys.readouterr().out.endswith(" abc_…6789\n")


@pytest.mark.parametrize(
    "line", [b"sk-abc def0123456789\n", b"sk-abc_def0123456789\n", "\uff4b\uff45\uff590123456789".encode()]
)
def test_malformed_key_is_not_echoed(
    line: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENTINEL_HMAC_SECRET", SECRET)
    with pytest.raises(SentinelError, match="not a key") as refused:
        fingerprint(line)
    assert "0123" not in str(refused.value)
    assert capsys.readouterr().out == ""


def test_nothing_on_stdin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_HMAC_SECRET", SECRET)
    with pytest.raises(SentinelError, match="no key"):
        fingerprint(b"\n")


def test_missing_secret_is_said_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(SentinelError, match="SENTINEL_HMAC_SECRET is not set"):
        fingerprint(b"sk-abcdef0123456789\n", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weak_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_HMAC_SECRET", "short")
    with pytest.raises(SettingsError, match="SENTINEL_HMAC_SECRET"):
        fingerprint(b"sk-abcdef0123456789\n")
