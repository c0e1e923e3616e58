"""`sentinel check` names everything that is wrong in one run, and never a secret."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel import check
from tests.support import databases

SECRET = "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def nobody() -> int:
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: socket.socket) -> pytest.MonkeyPatch:
    """An environment in which only the stores are missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSTREAM_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("SENTINEL_HMAC_SECRET", SECRET)
    monkeypatch.setenv("SENTINEL_TRUSTED_PROXIES", "127.0.0.1")
    return monkeypatch


def report(capfd: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The lines on stderr by their level; stdout stays empty."""
    captured = capfd.readouterr()
    assert captured.out == ""
    found: dict[str, list[str]] = {"ok": [], "warning": [], "problem": []}
    for line in captured.err.splitlines():
        level, _, text = line.partition(" ")
        found[level].append(text.strip())
    return found


def test_everything_well_is_status_0(
    given: pytest.MonkeyPatch, pg_dsn: str, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given.setenv("PG_DSN", pg_dsn)
    given.setenv("REDIS_URL", redis_url)
    assert check.check() == 0
    found = report(capfd)
    assert len(found["ok"]) == 6
    assert found["warning"] == found["problem"] == []


def test_all_faults_are_named_at_once_without_passwords(
    given: pytest.MonkeyPatch, nobody: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Stores and upstream are tried although another setting is wrong."""
    given.setenv("SENTINEL_PORT", "99999")
    given.setenv("SENTINEL_HMAC_SECRET", "hunter1")
    given.setenv("DOWNSTREAM_URL", f"http://127.0.0.1:{nobody}")
    given.setenv("PG_DSN", f"postgresql://u:hunter2@127.0.0.1:{nobody}/db")
    given.setenv("REDIS_URL", f"redis://:hunter3@127.0.0.1:{nobody}/0")
    assert check.check() == 1
    problems = report(capfd)["problem"]
    assert [line.split()[0].rstrip(":") for line in problems] == [
        "SENTINEL_HMAC_SECRET",
        "SENTINEL_PORT",
        "PostgreSQL",
        "Redis",
        "upstream",
    ]
    assert all("connection refused" in line for line in problems[2:])
    assert "hunter" not in " ".join(problems)


@pytest.mark.parametrize("dsn", ["postgresql://u:hunter2/x@127.0.0.1/db", "postgresql://u:1?hunter2@127.0.0.1/db"])
def test_password_that_breaks_the_dsn_is_not_quoted(
    given: pytest.MonkeyPatch, dsn: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given.setenv("PG_DSN", dsn)
    given.setenv("REDIS_URL", dsn.replace("postgresql://u", "redis://"))
    assert check.check() == 1
    problems = report(capfd)["problem"]
    assert [line.partition(":")[0] for line in problems] == ["PostgreSQL", "Redis"]
    assert "hunter" not in " ".join(problems)


def test_unmigrated_database_is_a_problem(
    given: pytest.MonkeyPatch, stores: databases.Stores, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given.setenv("REDIS_URL", redis_url)
    with databases.fresh_database(stores.postgres, "template1") as dsn:
        given.setenv("PG_DSN", dsn)
        assert check.check() == 1
    assert report(capfd)["problem"] == ["PostgreSQL: reached, but the database is empty; run sentinel migrate"]


def test_store_that_never_answers_does_not_hold_up_the_rest(
    given: pytest.MonkeyPatch, server: socket.socket, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given.setattr(check, "PROBE_WITHIN_S", 0.5)
    given.setenv("PG_DSN", f"postgresql://u:hunter2@127.0.0.1:{server.getsockname()[1]}/db?sslmode=disable")
    given.setenv("REDIS_URL", redis_url)
    assert check.check() == 1
    assert report(capfd)["problem"] == ["PostgreSQL: no answer within 0.5 s"]


def test_upstream_that_is_sentinel_itself_is_a_problem(
    given: pytest.MonkeyPatch, server: socket.socket, pg_dsn: str, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given.setenv("PG_DSN", pg_dsn)
    given.setenv("REDIS_URL", redis_url)
    given.setenv("SENTINEL_PORT", str(server.getsockname()[1]))
    assert check.check() == 1
    assert "leads to Sentinel's own port" in report(capfd)["problem"][0]


@pytest.mark.parametrize(
    ("host", "warning"), [("0.0.0.0", "by their TCP address"), ("127.0.0.1", "all clients would count as one")]
)
def test_missing_trusted_proxies_are_a_warning(
    given: pytest.MonkeyPatch,
    host: str,
    warning: str,
    pg_dsn: str,
    redis_url: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    given.setenv("PG_DSN", pg_dsn)
    given.setenv("REDIS_URL", redis_url)
    given.setenv("SENTINEL_HOST", host)
    given.delenv("SENTINEL_TRUSTED_PROXIES")
    assert check.check() == 0
    found = report(capfd)
    assert len(found["warning"]) == 1
    assert "SENTINEL_TRUSTED_PROXIES is empty" in found["warning"][0]
    assert warning in found["warning"][0]


def test_spool_that_cannot_be_made_is_a_problem(
    given: pytest.MonkeyPatch, tmp_path: Path, pg_dsn: str, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch(mode=0o755)
    given.setenv("PG_DSN", pg_dsn)
    given.setenv("REDIS_URL", redis_url)
    given.setenv("SENTINEL_EVENT_SPOOL_DIR", str(tmp_path / "file" / "spool"))
    assert check.check() == 1
    assert "SENTINEL_EVENT_SPOOL_DIR" in report(capfd)["problem"][0]
